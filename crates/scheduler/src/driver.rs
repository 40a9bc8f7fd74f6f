//! The one task that owns the engine: changes in, decisions out, results back in.

mod awaited;
mod ended;
mod prepared;
mod telling;

use std::{collections::HashMap, sync::Arc, time::Duration};

use runtime::{Clock, Tasks};
use sched::{Decision, Engine, History, Pending, Reservation, diagnosis::Preemption};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    State,
    api::{Api, Nomination, Report, Unbound, Why},
    feeds::{Input, KINDS},
    measured::Sampler,
    metrics::{self, Metrics, Outcome},
    plugins::Notice,
    why::{self, Times},
};
use awaited::{Awaited, For};
use ended::Ended;
use telling::wait;

/// Writes to the API at one time. Past it, no more is decided until one has ended.
const MAX_IN_FLIGHT: usize = 128;
/// Changes that are taken in before a decision has its turn again.
const CHANGES_PER_TURN: usize = 1024;
/// Decisions before changes have their turn again: each is made on what was known at its turn's start.
const DECISIONS_PER_TURN: usize = 64;
/// How long one write may take. Past it, it may or may not have happened; the watch will tell.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How long to sleep when nothing is due; any change ends it.
const IDLE: Duration = Duration::from_secs(3600);

/// What the driver hears.
pub(crate) struct Inputs {
    /// Of the cluster.
    pub changes: mpsc::Receiver<Input>,
    /// Of plugins.
    pub notices: mpsc::Receiver<Notice>,
}

/// Where it is told what is done, and how long it takes.
pub(crate) struct Measures {
    pub metrics: Metrics,
    pub sampler: Sampler,
}

pub(crate) struct Driver {
    api: Arc<Api>,
    engine: Engine,
    inputs: Inputs,
    state: watch::Sender<State>,
    clock: Clock,
    tasks: Tasks,
    metrics: Metrics,
    sampler: Sampler,
    ended: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
    in_flight: usize,
    /// What of it is for bindings, and what are questions to extenders.
    under_way: metrics::Tasks,
    told: Pending,
    /// Nodes, pods and what is under way, as the metrics were told last.
    told_size: (usize, usize, metrics::Tasks),
    /// Kinds whose objects have not all been told yet.
    unsynced: usize,
    /// Pods that are being told why they wait, each until that is written.
    telling: HashMap<Arc<str>, oneshot::Receiver<()>>,
    /// Pods that are bound when something has come true.
    awaited: Vec<Awaited>,
}

/// When an attempt began, and when it was decided.
#[derive(Clone, Copy)]
struct Moments {
    began: Duration,
    decided: Duration,
}

impl Moments {
    fn times(self, history: History) -> Times {
        Times {
            attempt: history.attempts,
            waited: self.began.saturating_sub(history.first_seen),
            decided: self.decided.saturating_sub(self.began),
        }
    }
}

impl Driver {
    pub fn new(
        api: Api,
        engine: Engine,
        inputs: Inputs,
        state: watch::Sender<State>,
        clock: Clock,
        tasks: Tasks,
        Measures { metrics, sampler }: Measures,
    ) -> Self {
        Driver {
            api: Arc::new(api),
            engine,
            inputs,
            state,
            clock,
            tasks,
            metrics,
            sampler,
            ended: mpsc::channel(MAX_IN_FLIGHT),
            in_flight: 0,
            under_way: metrics::Tasks::default(),
            told: Pending::default(),
            told_size: Default::default(),
            unsynced: KINDS,
            telling: HashMap::new(),
            awaited: Vec::new(),
        }
    }

    /// Runs until the watches end, which they do with the group of tasks.
    pub async fn run(mut self) {
        let mut inputs = Vec::with_capacity(CHANGES_PER_TURN);
        let mut state = self.state.subscribe();
        loop {
            let more = self.take_in(&mut inputs) | self.decide();
            self.look_at_awaited();
            self.tell_pending();
            if more {
                // Another turn is due at once; the writes that this one began get a chance first.
                tokio::task::yield_now().await;
                continue;
            }
            let pause = self.pause();
            tokio::select! {
                // Each turn takes in all that is there, so that none of these keeps the others waiting.
                biased;
                received = self.inputs.changes.recv_many(&mut inputs, CHANGES_PER_TURN) => {
                    if received == 0 {
                        return;
                    }
                    inputs.drain(..).for_each(|input| self.input(input));
                }
                Some(ended) = self.ended.1.recv() => self.ended(ended),
                // Without plugins from outside there is nobody to say anything.
                Some(notice) = self.inputs.notices.recv() => self.notice(notice),
                // The sender is the driver's, too, so that this cannot fail.
                _ = state.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn pause(&self) -> Duration {
        self.patience().min(self.pause_of_engine())
    }

    fn pause_of_engine(&self) -> Duration {
        match self.engine.wake_at() {
            Some(at) if self.in_flight < MAX_IN_FLIGHT && self.may_decide() => {
                at.saturating_sub(self.clock.monotonic())
            }
            _ => IDLE,
        }
    }

    /// Takes in what has changed. Returns whether there may be more.
    fn take_in(&mut self, inputs: &mut Vec<Input>) -> bool {
        while let Ok(ended) = self.ended.1.try_recv() {
            self.ended(ended);
        }
        while let Ok(notice) = self.inputs.notices.try_recv() {
            self.notice(notice);
        }
        while inputs.len() < CHANGES_PER_TURN
            && let Ok(input) = self.inputs.changes.try_recv()
        {
            inputs.push(input);
        }
        let more = inputs.len() == CHANGES_PER_TURN;
        inputs.drain(..).for_each(|input| self.input(input));
        more
    }

    fn input(&mut self, input: Input) {
        let (now, label) = (self.clock.monotonic(), input.label());
        self.sampler.takes_in();
        self.take(input, now);
        self.sampler.taken_in();
        self.metrics.event(label, self.clock.monotonic().saturating_sub(now));
    }

    fn take(&mut self, input: Input, now: Duration) {
        match input {
            // Every pod on a node counts; of those that wait, only our own do.
            Input::Pod(pod) if pod.node_name.is_none() && !self.engine.serves(&pod.spec.scheduler_name) => {}
            Input::Pod(pod) => self.engine.upsert_pod(*pod, now),
            Input::PodGone(uid) => self.engine.remove_pod(&uid, now),
            Input::Node(node) => self.engine.upsert_node(*node, now),
            Input::NodeGone(name) => self.engine.remove_node(&name, now),
            Input::Namespace(name, labels) => self.engine.set_namespace(&name, labels, now),
            Input::Service(name, selector) => self.engine.set_service(&name.0, &name.1, selector, now),
            Input::Owner(kind, name, selector) => self.engine.set_owner(kind, &name.0, &name.1, selector, now),
            Input::Budget(name, budget) => self.engine.set_budget(&name.0, &name.1, budget),
            Input::Group(name, group) => self.engine.set_group(&name.0, &name.1, group, now),
            Input::Storage(change) | Input::Devices(change) => change(&mut self.engine, now),
            Input::Synced => {
                self.unsynced = self.unsynced.saturating_sub(1);
                if self.unsynced == 0 {
                    self.state.send_modify(|state| state.synced = true);
                }
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Event(event) => self.api.told(&event),
            Notice::Renewed(plugin) => self.engine.renew(&plugin, self.clock.monotonic()),
        }
    }

    fn may_decide(&self) -> bool {
        self.unsynced == 0 && self.state.borrow().leads
    }

    /// Makes the decisions that are due, within the bounds. Returns whether more may be due at once.
    fn decide(&mut self) -> bool {
        if !self.may_decide() {
            return false;
        }
        for _ in 0..DECISIONS_PER_TURN {
            if self.in_flight >= MAX_IN_FLIGHT {
                return false;
            }
            let started = self.clock.monotonic();
            let Some(decision) = self.sampler.decision(|| self.engine.next(started)) else { return false };
            self.metrics.algorithm(self.clock.monotonic().saturating_sub(started));
            self.carry_out(decision, started);
        }
        true
    }

    fn carry_out(&mut self, decision: Decision, started: Duration) {
        let moments = Moments { began: started, decided: self.clock.monotonic() };
        let took = moments.decided.saturating_sub(started);
        match decision {
            Decision::Bind(reservation) => {
                if reservation.permit.is_some() || !reservation.pre_bind.is_empty() {
                    self.announce(&reservation);
                }
                match reservation.permit {
                    Some(limit) => self.wait_for(For::Permit, limit, reservation, moments),
                    None => self.permitted(reservation, moments),
                }
            }
            Decision::Unschedulable { pod, diagnosis, history, mut victims, nominated, writes } => {
                self.metrics.attempt(Outcome::Unschedulable, &pod, took);
                if diagnosis.preemption != Preemption::NotTried {
                    self.metrics.preempted(victims.as_ref());
                }
                let message = diagnosis.message();
                let attempts = history.attempts;
                tracing::debug!(pod = %pod.name, namespace = %pod.namespace, attempts, message, "pod waits");
                let kept = victims.as_ref().map(|victims| victims.node.clone()).or(nominated);
                let nomination = match (&diagnosis.preemption, kept) {
                    (_, Some(node)) => Nomination::Set(node),
                    (Preemption::NotEligible(_), None) => Nomination::Keep,
                    _ => Nomination::cleared(&pod),
                };
                if let Some(victims) = &mut victims {
                    self.recall(&pod, victims);
                }
                let attempt = Some(why::Attempt::unfit(&diagnosis, moments.times(history)));
                self.report(pod, Report { why: Why::Unschedulable, message, attempt, nomination }, victims, writes);
            }
            Decision::KeptOut { pod, plugin, reason } => {
                let message = format!("plugin {plugin:?} keeps the pod out of the queue: {reason}");
                if pod.told.as_deref() == Some(&*message) {
                    return;
                }
                tracing::debug!(pod = %pod.name, namespace = %pod.namespace, message, "pod waits");
                let report = Report { why: Why::KeptOut, message, attempt: None, nomination: Nomination::Keep };
                self.report(pod, report, None, Vec::new());
            }
            Decision::Failed { pod, error, history } => {
                self.metrics.attempt(Outcome::Error, &pod, took);
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, error, "attempt failed");
                let attempt = Some(why::Attempt::of(moments.times(history)));
                let nomination = Nomination::cleared(&pod);
                let report = Report { why: Why::Error, message: error, attempt, nomination };
                self.report(pod, report, None, Vec::new());
            }
            Decision::Consult { pod, nodes } => {
                let (api, uid) = (self.api.clone(), pod.uid.clone());
                self.ask(async move { api.extenders.advise(&pod, nodes).await }, move |answer| Ended::Advised {
                    pod: uid,
                    moments,
                    answer,
                });
            }
            Decision::ConsultVictims { pod, candidates } => {
                let (api, uid) = (self.api.clone(), pod.uid.clone());
                let asked = async move { api.extenders.advise_victims(&pod, candidates).await };
                self.ask(asked, move |answer| Ended::AdvisedVictims { pod: uid, moments, answer });
            }
        }
    }

    /// Asks extenders. Each call has its own limit of time, and there are as many as are configured.
    fn ask<T: Send + 'static>(
        &mut self,
        asked: impl Future<Output = Result<T, String>> + Send + 'static,
        end: impl FnOnce(Result<T, String>) -> Ended + Send + 'static,
    ) {
        let ended = self.ended.0.clone();
        self.in_flight += 1;
        self.under_way.extenders += 1;
        self.tasks.spawn("extenders", async move {
            let _ = ended.send(end(asked.await)).await;
        });
    }

    /// Nobody objects any more to where the pod goes.
    fn permitted(&mut self, reservation: Reservation, moments: Moments) {
        if reservation.pre_bind.is_empty() {
            self.bind(reservation, moments);
        } else {
            self.prepare(reservation, moments);
        }
    }

    fn bind(&mut self, reservation: Reservation, moments: Moments) {
        let (pod, asked) = (&reservation.pod, self.clock.monotonic());
        let binder = match self.engine.bind(&pod.uid, asked) {
            // The pod is gone, and its reservation with it.
            None => return,
            Some(Err(decision)) => {
                self.metrics.point("PreBind", false, pod, self.clock.monotonic().saturating_sub(asked));
                return self.carry_out(*decision, moments.began);
            }
            Some(Ok(binder)) => binder,
        };
        let (api, ended) = (self.api.clone(), self.ended.0.clone());
        let (began, told) = (self.clock.monotonic(), self.telling.remove(&reservation.pod.uid));
        self.in_flight += 1;
        self.under_way.binding += 1;
        self.tasks.spawn("bind", async move {
            // What an earlier attempt has to tell is written before, or a pod on a node would be said to wait.
            wait(told).await;
            // This has no limit: whoever gave up before it is known whether the pod is on the node would give away its room.
            let times = moments.times(reservation.history);
            let bound = api.bind(&reservation, binder.as_ref(), times, moments.decided).await;
            if let Err(Unbound::Refused(error) | Unbound::Lost(error) | Unbound::Elsewhere(error)) = &bound {
                let (pod, node) = (&reservation.pod, &reservation.node);
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, %node, error, "binding failed");
            }
            // The channel has room for all that are in flight; it closes only with the driver.
            let _ = ended.send(Ended::Bound { reservation, moments, began, bound }).await;
        });
    }

    fn tell_pending(&mut self) {
        let pending = self.engine.pending();
        if pending != self.told {
            self.metrics.pending(pending);
        }
        // Those that wait for something are on their way, too.
        let binding = self.under_way.binding + self.awaited.len();
        let tasks = metrics::Tasks { binding, ..self.under_way };
        let size = (self.engine.world().known_nodes(), self.engine.world().placed_pods(), tasks);
        if size != self.told_size || pending != self.told {
            self.metrics.state(&self.engine, tasks);
            self.told_size = size;
        }
        self.told = pending;
    }
}
