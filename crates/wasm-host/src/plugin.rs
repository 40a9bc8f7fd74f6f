//! The plugin that the engine has: hands its questions to the guest.

use std::sync::Arc;

use parking_lot::Mutex;
use sched::{
    NodeInfo, Pod, World,
    diagnosis::Rejection,
    framework::{Event, Filter, Plugin, Point, PreFilter, PreScore, Score},
    world::NodeId,
};

use crate::{
    guest::{Cycle, Guest, Status, Verdict},
    module::Export,
};

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

    fn hold(&self, pod: &Pod, info: &NodeInfo, world: &World, export: Export) -> Result<(), Rejection> {
        if !self.guest.module().is_some_and(|module| module.has(export)) {
            return Ok(());
        }
        let cycle = self.guest.cycle_of(pod);
        judge(self.guest.ask(&cycle, world, export, Some(info)))
    }
}

/// Whether the guest lets the pod pass.
fn judge(verdict: Result<Option<Verdict>, Rejection>) -> Result<(), Rejection> {
    match verdict?.map(|verdict| verdict.status) {
        Some(Status::Rejected(rejection)) => Err(rejection),
        Some(Status::Success | Status::Skip) | None => Ok(()),
    }
}

impl Plugin for WasmPlugin {
    fn name(&self) -> &str {
        &self.guest.about.name
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score, Point::Reserve]
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let cycle = self.guest.cycle(pod, self.identity());
        *self.begun.lock() = Some(cycle.clone());
        let verdict = self.guest.ask(&cycle, world, Export::PreFilter, None)?;
        let mut found = PreFilter { own: self.own(), ..Default::default() };
        if let Some(verdict) = verdict {
            match verdict.status {
                Status::Rejected(rejection) => return Err(rejection),
                Status::Skip => return Ok(found),
                Status::Success => found.only = verdict.only,
            }
        }
        if self.guest.module().is_none_or(|module| module.has(Export::Filter)) {
            found.filter = Some(Box::new(Asking { guest: self.guest.clone(), cycle }));
        }
        Ok(found)
    }

    fn pre_score(&self, pod: &Pod, world: &mut World) -> PreScore {
        let begun = self.begun.lock().take().filter(|cycle| cycle.is_of(pod));
        let cycle = begun.unwrap_or_else(|| self.guest.cycle(pod, self.identity()));
        let verdict = self.guest.ask(&cycle, world, Export::PreScore, None);
        cycle.score();
        let score: Box<dyn Score> = match verdict {
            Err(rejection) => Box::new(Failed(rejection)),
            Ok(Some(Verdict { status: Status::Skip, .. })) => {
                return PreScore { own: self.own(), ..Default::default() };
            }
            Ok(_) => Box::new(Asking { guest: self.guest.clone(), cycle }),
        };
        PreScore { score: Some(score), own: self.own(), ..Default::default() }
    }

    fn reserve(&mut self, pod: &Pod, node: NodeId, world: &mut World) -> Result<(), Rejection> {
        self.hold(pod, world.info(node), world, Export::Reserve)
    }

    fn unreserve(&mut self, pod: &Pod, node: &str, world: &mut World) {
        let Some(node) = world.find(node) else { return };
        // There is nothing to be done about a guest that does not give back what it holds; the event says so.
        let _ = self.hold(pod, world.info(node), world, Export::Unreserve);
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
        judge(self.guest.ask(&self.cycle, world, Export::Filter, Some(node)))
    }
}

impl Score for Asking {
    fn score(&self, node: &NodeInfo, world: &World) -> Result<i64, Rejection> {
        let verdict = self.guest.ask(&self.cycle, world, Export::Score, Some(node))?;
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
