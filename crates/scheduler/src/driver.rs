//! The one task that owns the engine: changes in, decisions out, results back in.

use std::{sync::Arc, time::Duration};

use client::{Change, Informer, Subscription};
use k8s_openapi::api::core::v1::{Node, Pod};
use runtime::{Clock, Tasks};
use sched::{Decision, Engine, Pending, Reservation, convert};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    api::Api,
    metrics::{Attempt, Metrics},
};

/// Writes to the API at one time. Past it, no more is decided until one has ended.
const MAX_IN_FLIGHT: usize = 128;
/// Changes that are taken in before a decision has its turn again.
const CHANGES_PER_TURN: usize = 1024;
/// Decisions before changes have their turn again: each is made on what was known at its turn's start.
const DECISIONS_PER_TURN: usize = 64;
/// How long one write may take. Past it, it may or may not have happened; the informer will tell.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How long to sleep when nothing is due; any change ends it.
const IDLE: Duration = Duration::from_secs(3600);

pub(crate) struct Driver {
    api: Arc<Api>,
    engine: Engine,
    pod_informer: Informer<Pod>,
    node_informer: Informer<Node>,
    clock: Clock,
    tasks: Tasks,
    metrics: Metrics,
    /// The profiles' names.
    names: Vec<String>,
    ended: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
    in_flight: usize,
    told: Pending,
}

/// A write has ended.
enum Ended {
    Bound { reservation: Reservation, decided_at: Duration, ok: bool },
    Reported,
}

impl Driver {
    #[allow(clippy::too_many_arguments, reason = "it is called once, by the options' names")]
    pub fn new(
        api: Api,
        engine: Engine,
        pod_informer: Informer<Pod>,
        node_informer: Informer<Node>,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        names: Vec<String>,
    ) -> Self {
        Driver {
            api: Arc::new(api),
            engine,
            pod_informer,
            node_informer,
            clock,
            tasks,
            metrics,
            names,
            ended: mpsc::channel(MAX_IN_FLIGHT),
            in_flight: 0,
            told: Pending::default(),
        }
    }

    pub async fn run(mut self) {
        self.node_informer.synced().await;
        self.pod_informer.synced().await;
        let (mut nodes, mut pods) = (self.node_informer.subscribe(), self.pod_informer.subscribe());
        loop {
            let more = self.take_in(&mut nodes, &mut pods) | self.decide();
            self.tell_pending();
            if more {
                // Another turn is due at once; the writes that this one began get a chance first.
                tokio::task::yield_now().await;
                continue;
            }
            let pause = self.pause();
            tokio::select! {
                change = nodes.next() => self.node_changed(change),
                change = pods.next() => self.pod_changed(change),
                Some(ended) = self.ended.1.recv() => self.ended(ended),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn pause(&self) -> Duration {
        match self.engine.wake_at() {
            Some(at) if self.in_flight < MAX_IN_FLIGHT => at.saturating_sub(self.clock.monotonic()),
            _ => IDLE,
        }
    }

    /// Takes in what has changed: nodes before pods, so that a pod finds the node it came for. Returns whether there
    /// is more.
    fn take_in(&mut self, nodes: &mut Subscription<Node>, pods: &mut Subscription<Pod>) -> bool {
        while let Ok(ended) = self.ended.1.try_recv() {
            self.ended(ended);
        }
        for _ in 0..CHANGES_PER_TURN {
            if let Some(change) = nodes.try_next() {
                self.node_changed(change);
            } else if let Some(change) = pods.try_next() {
                self.pod_changed(change);
            } else {
                return false;
            }
        }
        true
    }

    fn node_changed(&mut self, change: Change<Node>) {
        let Some(node) = change.new else { return self.engine.remove_node(&change.key.name) };
        match convert::node(&node) {
            Ok(node) => self.engine.upsert_node(node, self.clock.monotonic()),
            Err(error) => {
                tracing::warn!(node = change.key.name, %error, "node cannot be read; nothing is placed there");
                self.engine.remove_node(&change.key.name);
            }
        }
    }

    fn pod_changed(&mut self, change: Change<Pod>) {
        let now = self.clock.monotonic();
        let uid = |pod: &Option<Arc<Pod>>| pod.as_ref().and_then(|pod| pod.metadata.uid.clone());
        let (old, new) = (uid(&change.old), uid(&change.new));
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
            self.engine.remove_pod(&old, now);
        }
        let Some(object) = change.new else { return };
        if !self.concerns(&object) {
            return;
        }
        match convert::pod(&object) {
            Ok(pod) => self.engine.upsert_pod(pod, now),
            Err(error) => {
                tracing::warn!(pod = %change.key, %error, "pod cannot be read; it is not placed");
                self.engine.remove_pod(&new.unwrap_or_default(), now);
            }
        }
    }

    /// Every pod on a node counts; of those that wait, only our own do.
    fn concerns(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let assigned = spec.node_name.as_ref().is_some_and(|name| !name.is_empty());
        let name = spec.scheduler_name.as_deref().unwrap_or(crate::DEFAULT_NAME);
        assigned || self.names.iter().any(|own| own == name)
    }

    /// Makes the decisions that are due, within the bounds. Returns whether more may be due at once.
    fn decide(&mut self) -> bool {
        for _ in 0..DECISIONS_PER_TURN {
            if self.in_flight >= MAX_IN_FLIGHT {
                return false;
            }
            let started = self.clock.monotonic();
            let Some(decision) = self.engine.next(started) else { return false };
            let now = self.clock.monotonic();
            self.metrics.algorithm(now.saturating_sub(started));
            match decision {
                Decision::Bind(reservation) => self.bind(reservation, started),
                Decision::Unschedulable { pod, diagnosis, attempts } => {
                    self.metrics.attempt(Attempt::Unschedulable, now.saturating_sub(started));
                    let message = diagnosis.message();
                    tracing::debug!(pod = %pod.name, namespace = %pod.namespace, attempts, message, "pod waits");
                    self.report(pod, message);
                }
            }
        }
        true
    }

    fn bind(&mut self, reservation: Reservation, decided_at: Duration) {
        let (api, ended) = (self.api.clone(), self.ended.0.clone());
        self.in_flight += 1;
        self.tasks.spawn("bind", async move {
            let failure = match timeout(WRITE_LIMIT, api.bind(&reservation)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {WRITE_LIMIT:?}")),
            };
            if let Some(error) = &failure {
                let (pod, node) = (&reservation.pod, &reservation.node);
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, %node, error, "binding failed");
            }
            // The channel has room for all that are in flight; it closes only with the driver.
            let _ = ended.send(Ended::Bound { reservation, decided_at, ok: failure.is_none() }).await;
        });
    }

    fn report(&mut self, pod: Arc<sched::Pod>, message: String) {
        let (api, ended) = (self.api.clone(), self.ended.0.clone());
        self.in_flight += 1;
        self.tasks.spawn("report", async move {
            // What was not written is written by the next attempt.
            if let Ok(Err(error)) = timeout(WRITE_LIMIT, api.report(&pod, &message)).await {
                tracing::debug!(pod = %pod.name, namespace = %pod.namespace, %error, "condition was not written");
            }
            let _ = ended.send(Ended::Reported).await;
        });
    }

    fn ended(&mut self, ended: Ended) {
        self.in_flight -= 1;
        let Ended::Bound { reservation, decided_at, ok } = ended else { return };
        let now = self.clock.monotonic();
        let took = now.saturating_sub(decided_at);
        if ok {
            self.metrics.attempt(Attempt::Scheduled, took);
            self.metrics.bound(&reservation, now);
        } else {
            self.metrics.attempt(Attempt::Error, took);
            self.engine.undo(&reservation.pod.uid, now);
        }
    }

    fn tell_pending(&mut self) {
        let pending = self.engine.pending();
        if pending != self.told {
            self.metrics.pending(pending);
            self.told = pending;
        }
    }
}
