//! The plugin that the engine has: hands its questions to the guest.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sched::{
    NodeInfo, Pod, World,
    diagnosis::Rejection,
    framework::{Bind, Event, Filter, Plugin, Point, PostFilter, PreFilter, PreScore, Score, Unplaced},
    pre_bind::Progress,
    world::NodeId,
};

use crate::{
    guest::{Cycle, Guest, On, Status, Verdict},
    host::Statuses,
    module::Export,
    normalizing::Normalizing,
    waiting::Next,
};

/// What a node says to a pod that could have it if others were taken off, and to any other.
const UNSCHEDULABLE: i32 = 2;
const UNRESOLVABLE: i32 = 3;

pub(crate) struct WasmPlugin {
    guest: Arc<Guest>,
    /// The cycle that has been filtered and not yet scored.
    begun: Mutex<Option<Arc<Cycle>>>,
}

impl WasmPlugin {
    pub fn new(guest: Arc<Guest>) -> Self {
        WasmPlugin { guest, begun: Mutex::default() }
    }

    fn identity(&self) -> bool {
        self.guest.about.arguments.pod_identity
    }

    /// Whether the guest's answers are about one pod each.
    fn own(&self) -> bool {
        self.identity() && self.guest.module().is_some()
    }

    /// Asks about this very pod and a node. Nothing: the guest has nothing to say.
    fn ask_of(&self, pod: &Pod, node: &str, world: &World, export: Export) -> Result<Option<Status>, Rejection> {
        // A pod that has a node is counted there, so that the node is known as long as anybody asks.
        let Some(node) = world.find(node) else { return Ok(None) };
        if !self.guest.module().is_some_and(|module| module.has(export)) {
            return Ok(None);
        }
        let cycle = self.guest.cycle_of(pod);
        let verdict = self.guest.ask(&cycle, world, export, On::Node(world.info(node)))?;
        Ok(verdict.map(|verdict| verdict.status))
    }

    /// Likewise, and whether it lets the pod pass.
    fn passes(&self, pod: &Pod, node: &str, world: &World, export: Export) -> Result<(), Rejection> {
        self.ask_of(pod, node, world, export)?.map_or(Ok(()), passes)
    }

    /// Asks whether the pod may be bound, or how long it waits at most.
    fn ask_permit(&self, pod: &Pod, node: &str, world: &World) -> Result<Option<Duration>, Rejection> {
        match self.ask_of(pod, node, world, Export::Permit)? {
            Some(Status::Rejected(rejection)) => Err(rejection),
            Some(Status::Wait(limit)) => Ok(Some(limit)),
            Some(Status::Success | Status::Skip) | None => Ok(None),
        }
    }
}

/// Whether the guest lets the pod pass.
fn judge(verdict: Result<Option<Verdict>, Rejection>) -> Result<(), Rejection> {
    verdict?.map_or(Ok(()), |verdict| passes(verdict.status))
}

fn passes(status: Status) -> Result<(), Rejection> {
    match status {
        Status::Rejected(rejection) => Err(rejection),
        Status::Success | Status::Skip | Status::Wait(_) => Ok(()),
    }
}

impl Plugin for WasmPlugin {
    fn name(&self) -> &str {
        &self.guest.about.name
    }

    fn points(&self) -> &'static [Point] {
        use Point::{Bind, Filter, Permit, PostBind, PostFilter, PreBind, PreFilter, PreScore, Reserve, Score};
        &[PreFilter, Filter, PostFilter, PreScore, Score, Reserve, Permit, PreBind, Bind, PostBind]
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let cycle = self.guest.cycle(pod, self.identity());
        *self.begun.lock() = Some(cycle.clone());
        let verdict = self.guest.ask(&cycle, world, Export::PreFilter, On::Nothing)?;
        let mut found = PreFilter { own: self.own(), ..Default::default() };
        if let Some(verdict) = verdict {
            match verdict.status {
                Status::Rejected(rejection) => return Err(rejection),
                Status::Skip => return Ok(found),
                Status::Success | Status::Wait(_) => found.only = verdict.only,
            }
        }
        if self.guest.module().is_none_or(|module| module.has(Export::Filter)) {
            found.filter = Some(Box::new(Asking { guest: self.guest.clone(), cycle }));
        }
        Ok(found)
    }

    fn post_filter(&self, pod: &Pod, found: &Unplaced<'_>, world: &World) -> PostFilter {
        let Some(module) = self.guest.module().filter(|module| module.has(Export::PostFilter)) else {
            return PostFilter::Nothing;
        };
        let code = |info: &NodeInfo| {
            let resolvable = world.find(&info.node.name).is_some_and(|node| found.is_resolvable(node, world));
            (info.node.name.clone(), if resolvable { UNSCHEDULABLE } else { UNRESOLVABLE })
        };
        let statuses = if module.wants_statuses { world.nodes().map(code).collect() } else { Statuses::default() };
        let cycle = self.guest.cycle_of(pod);
        match self.guest.ask(&cycle, world, Export::PostFilter, On::Statuses(statuses)) {
            Ok(None) => PostFilter::Nothing,
            Ok(Some(Verdict { status: Status::Rejected(rejection), .. })) | Err(rejection) => {
                PostFilter::Says(rejection.text().into())
            }
            Ok(Some(Verdict { nominated: Some((node, reason)), .. })) => PostFilter::Nominates(node, reason.into()),
            Ok(Some(_)) => PostFilter::Nothing,
        }
    }

    fn pre_score(&self, pod: &Pod, world: &mut World) -> PreScore {
        let begun = self.begun.lock().take().filter(|cycle| cycle.is_of(pod));
        let cycle = begun.unwrap_or_else(|| self.guest.cycle(pod, self.identity()));
        let verdict = self.guest.ask(&cycle, world, Export::PreScore, On::Nothing);
        cycle.score();
        let prepared = match verdict {
            Err(rejection) => PreScore::by_node(Failed(rejection)),
            Ok(Some(Verdict { status: Status::Skip, .. })) => PreScore::default(),
            Ok(_) if self.guest.module().is_some_and(|module| module.normalizes) => {
                PreScore::by_group(Normalizing::new(self.guest.clone(), cycle))
            }
            Ok(_) => PreScore::by_node(Asking { guest: self.guest.clone(), cycle }),
        };
        PreScore { own: self.own(), ..prepared }
    }

    fn reserve(&mut self, pod: &Pod, node: NodeId, world: &mut World) -> Result<(), Rejection> {
        let node = world.info(node).node.name.clone();
        self.passes(pod, &node, world, Export::Reserve)
    }

    fn unreserve(&mut self, pod: &Pod, node: &str, world: &mut World) {
        self.guest.about.waiting.forget(&pod.uid);
        // There is nothing to be done about a guest that does not give back what it holds; the event says so.
        let _ = self.ask_of(pod, node, world, Export::Unreserve);
    }

    fn permit(&self, pod: &Pod, node: &str, world: &World) -> Result<Option<Duration>, Rejection> {
        let Some(limit) = self.ask_permit(pod, node, world)? else { return Ok(None) };
        let about = &self.guest.about;
        let (encoded, now) = (self.guest.cycle_of(pod).pod().to_vec(), about.clock.monotonic());
        if !about.waiting.add(pod.uid.clone(), encoded, now.saturating_add(limit), world.position(), now) {
            return Err(Rejection::unresolvable(format!("plugin {:?} has too many pods waiting", about.name)));
        }
        Ok(Some(limit))
    }

    fn permitted(&self, pod: &Pod, node: &str, world: &World) -> Progress {
        let about = &self.guest.about;
        let progress = match about.waiting.next(&pod.uid, world.position()) {
            Next::Go => return Progress::Done,
            Next::Wait => return Progress::Waiting,
            Next::Reject => Progress::Failed(format!("rejected by plugin {:?} while it waited", about.name)),
            Next::Ask => match self.ask_permit(pod, node, world) {
                Ok(None) => Progress::Done,
                // How long it waits was said at first.
                Ok(Some(_)) => return Progress::Waiting,
                Err(rejection) => Progress::Failed(format!("rejected while it waited: {}", rejection.text())),
            },
        };
        about.waiting.forget(&pod.uid);
        progress
    }

    fn may_bind(&self, pod: &Pod, node: &str, world: &World) -> Result<(), Rejection> {
        self.passes(pod, node, world, Export::PreBind)
    }

    fn bind(&self, pod: &Pod, node: &str, world: &World) -> Result<Bind, Rejection> {
        match self.ask_of(pod, node, world, Export::Bind)? {
            None | Some(Status::Skip) => Ok(Bind::Skip),
            Some(status) => passes(status).map(|()| Bind::Binding),
        }
    }

    fn post_bind(&mut self, pod: &Pod, node: &str, world: &mut World) {
        // The pod is bound, whatever the guest makes of it; the event says what went wrong.
        let _ = self.ask_of(pod, node, world, Export::PostBind);
    }

    fn renew(&mut self) {
        self.guest.renew();
    }

    fn helps(&self, _pod: &Pod, event: &Event, _world: &World) -> bool {
        self.guest.module().is_some_and(|module| module.helps(event))
    }
}

/// One cycle's questions about nodes.
struct Asking {
    guest: Arc<Guest>,
    cycle: Arc<Cycle>,
}

impl Filter for Asking {
    fn filter(&self, node: &NodeInfo, world: &World) -> Result<(), Rejection> {
        judge(self.guest.ask(&self.cycle, world, Export::Filter, On::Node(node)))
    }
}

impl Score for Asking {
    fn score(&self, node: &NodeInfo, world: &World) -> Result<i64, Rejection> {
        let verdict = self.guest.ask(&self.cycle, world, Export::Score, On::Node(node))?;
        Ok(verdict.map_or(0, |verdict| verdict.score))
    }
}

/// Preparing to score has failed, and so does each score.
struct Failed(Rejection);

impl Score for Failed {
    fn score(&self, _node: &NodeInfo, _world: &World) -> Result<i64, Rejection> {
        Err(self.0.clone())
    }
}
