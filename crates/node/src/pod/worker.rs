//! Drives one pod: feeds the machine, executes its actions, runs its probes and writes its status. Never waits for
//! anything but its inbox, its own operations and the next moment of interest.

mod execute;
mod publish;

use std::{collections::HashMap, sync::Arc, time::Duration};

use containers::{ContainerId, ContainerState, Event, SandboxId};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use runtime::CancellationToken;
use tokio::sync::{mpsc, watch};

use super::{
    actions::Action,
    machine::{Machine, StartOutcome},
    model::{Kind, Model, SandboxInfo, spec_at},
    probe::{ProbeKind, Verdict},
    prober::Prober,
    start,
    status::conditions::overwritten,
};
use crate::{
    context::Context,
    volumes::{Mounted, Tokens},
};

/// Inputs that wait for a worker; it takes them at once.
pub const INBOX: usize = 64;

/// What a worker is told.
pub enum Input {
    /// A newer version of the object.
    Pod(Arc<Pod>),
    /// The object is gone from the API.
    Removed,
    /// The runtime's word about this pod's sandbox or containers.
    Runtime(Event),
    Probe {
        id: ContainerId,
        kind: ProbeKind,
        verdict: Verdict,
    },
}

/// What an operation of the worker's own came to.
enum Done {
    SetUp(Option<(SandboxInfo, Mounted)>),
    Start { index: usize, outcome: StartOutcome },
    Kill { index: usize, stopped: bool },
    TearDown(bool),
    Finalize(bool),
    Status { sent: Box<PodStatus>, written: bool },
}

pub struct Worker {
    context: Arc<Context>,
    machine: Machine,
    inbox: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
    operations: FuturesUnordered<BoxFuture<'static, Done>>,
    /// The newest object, for the task that keeps volumes current.
    pods: watch::Sender<Arc<Pod>>,
    tokens: Tokens,
    mounted: Mounted,
    sandbox: Option<SandboxId>,
    /// Cancelled when the pod begins to end.
    ending: CancellationToken,
    /// Cancelled when the worker ends: probes and refresh stop.
    over: CancellationToken,
    probers: HashMap<(ContainerId, ProbeKind), CancellationToken>,
    refreshing: bool,
    seen_at: Duration,
    status: Published,
}

/// What was written of the status.
#[derive(Default)]
struct Published {
    /// Accepted by the API.
    accepted: Option<PodStatus>,
    writing: bool,
    retry_at: Option<Timestamp>,
    failures: u32,
    /// The last one derived: the source of transition times.
    derived: Option<PodStatus>,
    counted_start: bool,
}

impl Worker {
    /// A worker for a pod whose model is known, and the inbox it is fed by.
    pub fn new(
        context: Arc<Context>,
        pod: Arc<Pod>,
        model: Model,
        sandbox: Option<SandboxId>,
    ) -> (Self, mpsc::Sender<Input>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let seen_at = context.clock.monotonic();
        let worker = Worker {
            pods: watch::channel(pod.clone()).0,
            machine: Machine::new(pod, model),
            inbox,
            sender: sender.clone(),
            operations: FuturesUnordered::new(),
            tokens: Tokens::default(),
            mounted: Mounted::new(),
            sandbox,
            ending: CancellationToken::new(),
            over: CancellationToken::new(),
            probers: HashMap::new(),
            refreshing: false,
            seen_at,
            status: Published::default(),
            context,
        };
        (worker, sender)
    }

    /// Runs until nothing is left of the pod.
    pub async fn run(mut self) {
        self.adopt();
        loop {
            let now = self.context.clock.now();
            self.note_reported(now);
            let step = self.machine.step(now);
            for action in step.actions {
                if action == Action::Forget {
                    self.forget().await;
                    return;
                }
                self.execute(action);
            }
            if self.machine.ending() {
                self.ending.cancel();
            }
            self.sync_probers();
            self.publish(now);
            let wake = [step.wake, self.status.retry_at].into_iter().flatten().min();
            let wait = wake.map(|at| at.duration_since(self.context.clock.now()));
            let sleep = async {
                match wait {
                    Some(wait) => tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(input) = self.inbox.recv() => {
                    self.take(input);
                    // What came together is decided on together.
                    while let Ok(input) = self.inbox.try_recv() {
                        self.take(input);
                    }
                }
                Some(done) = self.operations.next(), if !self.operations.is_empty() => self.finish(done),
                () = sleep => {}
            }
        }
    }

    /// What a pod that runs already needs of a new process: its volumes' places and their refresh.
    fn adopt(&mut self) {
        if self.machine.model.info().is_none() || self.machine.ending() {
            return;
        }
        self.remove_unstarted();
        // A set-up of volumes that exist only finds them; the sandbox is not touched.
        self.operations.push(self.set_up_volumes_again().boxed());
    }

    /// Containers that an earlier process made and did not live to start.
    fn remove_unstarted(&self) {
        let sandbox = self.sandbox.as_ref().and_then(|id| self.context.runtime.sandbox_status(id));
        let unstarted: Vec<ContainerId> = sandbox
            .iter()
            .flat_map(|sandbox| &sandbox.containers)
            .filter(|status| status.state == ContainerState::Created)
            .map(|status| status.id.clone())
            .collect();
        if unstarted.is_empty() {
            return;
        }
        let runtime = self.context.runtime.clone();
        self.context.tasks.spawn("remove-unstarted", async move {
            for id in unstarted {
                if let Err(error) = runtime.remove_container(&id).await {
                    tracing::warn!(container = %id, %error, "unstarted container could not be removed");
                }
            }
        });
    }

    fn take(&mut self, input: Input) {
        let now = self.context.clock.now();
        match input {
            Input::Pod(pod) => {
                // Of a controller that took the node for lost, for example. It is written again, also if that was long ago.
                let shown = pod.status.as_ref();
                self.status.accepted.take_if(|written| shown.is_some_and(|shown| overwritten(written, shown)));
                self.pods.send_replace(pod.clone());
                self.machine.set_pod(pod);
            }
            Input::Removed => self.machine.removed(),
            Input::Runtime(Event::SandboxLost { sandbox }) => self.lose(&sandbox, now),
            Input::Runtime(_) => self.look(now),
            Input::Probe { id, kind, verdict } => {
                if let Some(action) = self.machine.probed(&id, kind, verdict, now) {
                    self.execute(action);
                }
            }
        }
    }

    fn lose(&mut self, sandbox: &SandboxId, now: Timestamp) {
        self.look(now);
        if self.machine.sandbox_lost(sandbox, now) && !self.machine.ending() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            let pod = self.machine.pod.clone();
            self.context.recorder.about(pod.as_ref(), client::EventType::Normal, "SandboxChanged", message);
        }
    }

    /// Takes over from the runtime how containers have ended.
    fn look(&mut self, _now: Timestamp) {
        let running: Vec<(usize, ContainerId)> = self
            .machine
            .model
            .records
            .iter()
            .enumerate()
            .filter(|(_, record)| record.running())
            .filter_map(|(index, record)| Some((index, record.current.as_ref()?.id.clone()?)))
            .collect();
        for (index, id) in running {
            let Some(status) = self.context.runtime.container_status(&id) else { continue };
            if status.state != ContainerState::Exited {
                continue;
            }
            let Some(container) = spec_at(&self.machine.pod, index) else { continue };
            let ended = start::ended(&self.context, &self.machine.pod, container, &status);
            self.machine.ended(&id, ended);
        }
    }

    fn finish(&mut self, done: Done) {
        let now = self.context.clock.now();
        match done {
            Done::SetUp(Some((info, mounted))) => {
                self.mounted = mounted;
                if self.machine.model.info() != Some(&info) {
                    self.sandbox = Some(info.id.clone());
                    self.machine.set_up_done(Some(info), now);
                }
                self.start_refresh();
            }
            Done::SetUp(None) if self.machine.model.info().is_some() => {}
            Done::SetUp(None) => self.machine.set_up_done(None, now),
            Done::Start { index, outcome } => {
                self.machine.start_done(index, outcome, now);
                // It may have ended before its id was known here.
                self.look(now);
            }
            Done::Kill { index, stopped } => {
                self.look(now);
                if !stopped {
                    self.machine.kill_failed(index);
                }
            }
            Done::TearDown(done) => self.machine.torn_down(done, now),
            Done::Finalize(true) => {}
            Done::Finalize(false) => self.machine.finalize_failed(now),
            Done::Status { sent, written } => self.status_written(*sent, written, now),
        }
    }

    /// Starts the probes that containers need now, and stops those of containers that are gone.
    fn sync_probers(&mut self) {
        let mut wanted = HashMap::new();
        let ending = self.machine.ending();
        let pod = self.machine.pod.clone();
        for (index, record) in self.machine.model.records.iter().enumerate() {
            let Some(instance) = record.current.as_ref().filter(|instance| instance.running()) else { continue };
            let (Some(id), Some(container)) = (instance.id.clone(), spec_at(&pod, index)) else { continue };
            if record.kind == Kind::Init || instance.stop_by.is_some() && !ending {
                continue;
            }
            let mut want = |kind: ProbeKind, probe: &Option<_>| {
                if let Some(probe) = probe {
                    wanted.insert((id.clone(), kind), (index, Clone::clone(probe)));
                }
            };
            if !record.started {
                if !ending {
                    want(ProbeKind::Startup, &container.startup_probe);
                }
                continue;
            }
            want(ProbeKind::Readiness, &container.readiness_probe);
            if !ending {
                want(ProbeKind::Liveness, &container.liveness_probe);
            }
        }
        self.probers.retain(|key, stop| {
            let keep = wanted.contains_key(key);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for ((id, kind), (index, probe)) in wanted {
            if self.probers.contains_key(&(id.clone(), kind)) {
                continue;
            }
            let Some(container) = spec_at(&pod, index).cloned() else { continue };
            let stop = self.over.child_token();
            self.probers.insert((id.clone(), kind), stop.clone());
            let ip = self.machine.model.info().and_then(|info| info.ips.first().copied());
            let prober = Prober {
                context: self.context.clone(),
                pod: pod.clone(),
                container,
                id,
                kind,
                probe,
                ip,
                inbox: self.sender.clone(),
                stop,
            };
            self.context.tasks.spawn("probe", prober.run());
        }
    }
}
