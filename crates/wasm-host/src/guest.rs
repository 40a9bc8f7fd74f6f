//! A guest as the scheduler knows it: a module that may be replaced, an instance that may be thrown away, how much it is trusted,
//! and what becomes of a pod when it fails.
//!
//! One instance answers about all pods, in cycles: a cycle begins with `prefilter`, from which a guest knows that it is another
//! pod's turn. Plans are kept and asked in turns ([`sched::framework`]), so that a cycle may have to be entered again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sched::{NodeInfo, Pod, World, diagnosis::Rejection, framework::MAX_SCORE};
use scheduler::PodEvent;
use tokio::sync::watch;

use crate::{
    arguments::FailurePolicy,
    fault::Fault,
    host::{About, Call, Statuses, Subject},
    instance::{Answer, Instance},
    metrics::OfPlugin,
    module::{Export, Module},
    objects,
    scores::Scores,
    standing::Standing,
    ticker::Ticker,
};

/// `postfilter`'s mode in which the node that it names is kept for the pod (ModeOverride).
const OVERRIDE: i32 = 1;
/// The reason of events about faults.
const EVENT: &str = "PluginFailed";
/// A cycle's time goes on growing with the time that has passed since its begin, by one part in so many: a plan that is kept is
/// asked for as long as pods of its kind come.
const SHARE: u32 = 2;
/// No guest has a pod wait longer; kube-scheduler's limit.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);

/// One pod's turn, or that of all pods like it.
pub(crate) struct Cycle {
    subject: Arc<Subject>,
    /// The guest sees who the pod is.
    identity: bool,
    began: Duration,
    spent_nanos: AtomicU64,
    /// It is to be scored, too.
    scored: AtomicBool,
}

/// A status that is no fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    Rejected(Rejection),
    Skip,
    /// The pod is not bound before it is let go; it waits so long at most.
    Wait(Duration),
}

/// What the guest has to say.
pub(crate) struct Verdict {
    pub status: Status,
    pub score: i64,
    pub only: Option<Vec<Arc<str>>>,
    /// In the order of those that were to be normalized.
    pub scores: Vec<i64>,
    /// The node that is to be kept for the pod, and the words for it.
    pub nominated: Option<(Arc<str>, String)>,
}

/// What a question is about besides the pod.
pub(crate) enum On<'a> {
    Nothing,
    Node(&'a NodeInfo),
    Scores(Scores),
    /// All nodes have rejected the pod, so.
    Statuses(Statuses),
}

pub(crate) struct Guest {
    pub about: Arc<About>,
    pub ticker: Arc<Ticker>,
    pub metrics: OfPlugin,
    /// What replaces the module when the plugin is renewed.
    pub next: Mutex<Option<Arc<Module>>>,
    /// When it is worth asking again, after a fault.
    pub retry: watch::Sender<Option<Duration>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    module: Option<Arc<Module>>,
    instance: Option<Instance>,
    /// The cycle that the instance is in.
    entered: Option<Arc<Cycle>>,
    standing: Standing,
}

impl Guest {
    pub fn new(about: Arc<About>, ticker: Arc<Ticker>, metrics: OfPlugin) -> Self {
        let (retry, next, state) = (watch::channel(None).0, Mutex::default(), Mutex::default());
        Guest { about, ticker, metrics, next, retry, state }
    }

    pub fn module(&self) -> Option<Arc<Module>> {
        self.state.lock().module.clone()
    }

    /// Takes up the module that waits, if one does.
    pub fn renew(&self) {
        if let Some(module) = self.next.lock().take() {
            *self.state.lock() = State { module: Some(module), ..State::default() };
        }
    }

    pub fn cycle(&self, pod: &Pod, identity: bool) -> Arc<Cycle> {
        let subject = Subject { encoded: objects::pod(pod, identity), pod: pod.clone() };
        Arc::new(Cycle {
            subject: Arc::new(subject),
            identity,
            began: self.about.clock.monotonic(),
            spent_nanos: AtomicU64::new(0),
            scored: AtomicBool::new(false),
        })
    }

    /// The cycle for holding something for this very pod: the one that is under way, if it is the pod's.
    pub fn cycle_of(&self, pod: &Pod) -> Arc<Cycle> {
        let entered = self.state.lock().entered.clone();
        let own = entered.filter(|cycle| cycle.identity && cycle.subject.pod.uid == pod.uid);
        own.unwrap_or_else(|| self.cycle(pod, true))
    }

    /// Asks the guest. Nothing: it has nothing to say, or what went wrong is to be ignored. A rejection: it failed, and is not to
    /// be passed over.
    pub fn ask(
        &self,
        cycle: &Arc<Cycle>,
        world: &World,
        export: Export,
        on: On<'_>,
    ) -> Result<Option<Verdict>, Rejection> {
        let mut state = self.state.lock();
        let Some(module) = state.module.clone() else { return self.policy("is not loaded yet") };
        if !module.has(export) {
            return Ok(None);
        }
        let now = self.about.clock.monotonic();
        if state.standing.is_suspended(now) {
            return self.policy("is suspended, because it failed too often");
        }
        if module.wants_nodes {
            self.about.nodes.lock().sync(world);
        }
        let mut call = Call { subject: Some(cycle.subject.clone()), ..Call::default() };
        match &on {
            On::Nothing => {}
            On::Node(info) => {
                call.node = Some(info.node.clone());
                if module.wants_images {
                    call.image_nodes = info.node.images.iter().map(|(name, _)| world.nodes_with_image(name)).collect();
                }
            }
            On::Scores(scores) => call.scores = scores.clone(),
            On::Statuses(statuses) => call.statuses = statuses.clone(),
        }
        match self.call(&mut state, &module, cycle, export, call) {
            Ok(verdict) => {
                state.standing.answered();
                Ok(Some(verdict))
            }
            Err(fault) => {
                state.instance = None;
                state.entered = None;
                let again = state.standing.failed(now);
                drop(state);
                self.failed(cycle, export, &on, &fault, again);
                self.policy(&format!("failed: it {fault}"))
            }
        }
    }

    fn policy(&self, what: &str) -> Result<Option<Verdict>, Rejection> {
        match self.about.arguments.failure_policy {
            FailurePolicy::Fail => Err(Rejection::unresolvable(format!("plugin {:?} {what}", self.about.name))),
            FailurePolicy::Ignore => Ok(None),
        }
    }

    fn failed(&self, cycle: &Cycle, export: Export, on: &On<'_>, fault: &Fault, again: Duration) {
        let About { name, arguments, notices, .. } = &*self.about;
        let policy = arguments.failure_policy;
        let at = if let On::Node(info) = on { format!(" of node {}", info.node.name) } else { String::new() };
        let export = export.name();
        let note = format!("plugin {name:?} failed in {export}{at}: it {fault} (failurePolicy {policy:?})");
        tracing::debug!(plugin = name, export, %fault, "guest was cut off");
        self.metrics.fault(fault);
        notices.event(PodEvent::warning(&cycle.subject.pod, EVENT, note));
        self.retry.send_replace(Some(again));
    }

    fn call(
        &self,
        state: &mut State,
        module: &Module,
        cycle: &Arc<Cycle>,
        export: Export,
        mut call: Call,
    ) -> Result<Verdict, Fault> {
        let clock = &self.about.clock;
        let began = clock.monotonic();
        cycle.afford(began, self.about.arguments.limits.pod_timeout)?;
        let instance = match &mut state.instance {
            Some(instance) => instance,
            none => none.insert(Instance::start(module, &self.about, &self.ticker)?),
        };
        if !state.entered.as_ref().is_some_and(|entered| Arc::ptr_eq(entered, cycle)) {
            state.entered = Some(cycle.clone());
            if export != Export::PreFilter {
                self.enter(instance, module, cycle, export)?;
            }
        }
        let started = clock.monotonic();
        let answer = instance.call(export, &mut call, &self.ticker);
        let ended = clock.monotonic();
        self.metrics.call(export, ended.saturating_sub(started).as_secs_f64());
        cycle.spend(ended.saturating_sub(began));
        let answer = answer?;
        let overrides = export == Export::PostFilter && answer.number == OVERRIDE;
        let nominated = call.nominated.filter(|_| overrides).map(|node| (node, call.reason.clone()));
        let status = status(export, answer, call.reason, &self.about.name)?;
        let score = answer.number.into();
        if export == Export::Score && !module.normalizes {
            within_range(&[score])?;
        }
        // A guest that gives none back leaves them as they are.
        let scores = call.normalized.unwrap_or_else(|| call.scores.iter().map(|(_, score)| *score).collect());
        within_range(&scores)?;
        Ok(Verdict { status, score, only: call.only, scores, nominated })
    }

    /// Takes the guest back to a cycle that it has left, or to one that begins without having been filtered.
    fn enter(&self, instance: &mut Instance, module: &Module, cycle: &Cycle, export: Export) -> Result<(), Fault> {
        let scored = cycle.scored.load(Relaxed) && export != Export::PreScore;
        for before in [(Export::PreFilter, true), (Export::PreScore, scored)] {
            if before.1 && module.has(before.0) {
                let mut call = Call { subject: Some(cycle.subject.clone()), ..Call::default() };
                instance.call(before.0, &mut call, &self.ticker)?;
            }
        }
        Ok(())
    }
}

impl Cycle {
    pub fn score(&self) {
        self.scored.store(true, Relaxed);
    }

    /// The pod as the guest sees it.
    pub fn pod(&self) -> &[u8] {
        &self.subject.encoded
    }

    pub fn is_of(&self, pod: &Pod) -> bool {
        self.subject.pod.uid == pod.uid
    }

    fn spend(&self, time: Duration) {
        self.spent_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Whether there is time left.
    fn afford(&self, now: Duration, limit: Duration) -> Result<(), Fault> {
        let spent = Duration::from_nanos(self.spent_nanos.load(Relaxed));
        if spent > limit + now.saturating_sub(self.began) / SHARE {
            return Err(Fault::TimeOfPod(limit));
        }
        Ok(())
    }
}

/// Whether these are scores that nodes may have.
fn within_range(scores: &[i64]) -> Result<(), Fault> {
    let odd = scores.iter().find(|score| !(0..=MAX_SCORE).contains(*score));
    odd.map_or(Ok(()), |score| Err(Fault::Score(*score)))
}

/// What an answer means there.
fn status(export: Export, answer: Answer, reason: String, plugin: &str) -> Result<Status, Fault> {
    use Export::{Bind, Filter, Permit, PostFilter, PreBind, PreFilter, PreScore, Reserve};
    let reason = if reason.is_empty() { format!("node(s) rejected by plugin {plugin:?}") } else { reason };
    match (answer.code, export) {
        (0, _) => Ok(Status::Success),
        (1, _) => Err(Fault::Reported(reason)),
        (2, PreFilter | Filter | PostFilter | Reserve | Permit | PreBind | Bind) => {
            Ok(Status::Rejected(Rejection::resolvable(reason)))
        }
        (3, PreFilter | Filter | PostFilter | Reserve | Permit | PreBind | Bind) => {
            Ok(Status::Rejected(Rejection::unresolvable(reason)))
        }
        (4, Permit) => Ok(Status::Wait(Duration::from_millis(answer.number.cast_unsigned().into()).min(MAX_WAIT))),
        (5, PreFilter | PreScore | Bind) => Ok(Status::Skip),
        (code, _) => Err(Fault::Status(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_they_mean_at_their_extension_point() {
        let check = |export: Export, code: i32, expected: &str| {
            let found = match status(export, Answer { code, number: 1500 }, "why".into(), "p") {
                Ok(Status::Success) => "success".to_owned(),
                Ok(Status::Wait(limit)) => format!("wait {limit:?}"),
                Ok(Status::Skip) => "skip".to_owned(),
                Ok(Status::Rejected(rejection)) => format!("{} {}", rejection.text(), rejection.unresolvable),
                Err(fault) => fault.kind().to_owned(),
            };
            assert_eq!(found, expected, "{export:?} {code}");
        };
        for export in Export::ALL {
            check(export, 0, "success");
            check(export, 1, "error");
            check(export, 4, if export == Export::Permit { "wait 1.5s" } else { "status" });
            check(export, 6, "status");
            check(export, -1, "status");
            check(export, i32::MIN, "status");
        }
        check(Export::Filter, 2, "why false");
        check(Export::Filter, 3, "why true");
        check(Export::Filter, 5, "status");
        check(Export::PreFilter, 5, "skip");
        check(Export::PreScore, 5, "skip");
        check(Export::PreScore, 2, "status");
        check(Export::Score, 2, "status");
        check(Export::NormalizeScore, 2, "status");
        check(Export::Reserve, 2, "why false");
        check(Export::Permit, 2, "why false");
        check(Export::Permit, 5, "status");
        check(Export::PreBind, 3, "why true");
        check(Export::Bind, 2, "why false");
        check(Export::Bind, 5, "skip");
        check(Export::PostFilter, 2, "why false");
        check(Export::PostFilter, 5, "status");
        let silent = status(Export::Filter, Answer { code: 2, number: 0 }, String::new(), "p");
        assert_eq!(silent, Ok(Status::Rejected(Rejection::resolvable("node(s) rejected by plugin \"p\""))));
        // As many milliseconds as there can be are more than anybody waits.
        let wait = status(Export::Permit, Answer { code: 4, number: -1 }, String::new(), "p");
        assert_eq!(wait, Ok(Status::Wait(MAX_WAIT)));
    }

    #[test]
    fn scores_are_within_their_range() {
        assert_eq!(within_range(&[0, 50, 100]), Ok(()));
        assert_eq!(within_range(&[0, 101]), Err(Fault::Score(101)));
        assert_eq!(within_range(&[-1]), Err(Fault::Score(-1)));
    }
}
