//! All pods of this node: one worker per pod, fed from one watch; adoption of what runs already; the end of what
//! nobody wants any more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use client::{Change, EventType, Informer};
use containers::{ContainerState, Event, PodSandboxStatus, SandboxId};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use crate::{
    admission,
    context::Context,
    network::PodAddress,
    pod::{
        restore,
        worker::{Input, Worker},
    },
    pull::error_chain,
    volumes::local,
};

/// Workers that have ended and wait to be forgotten; a worker waits when it is full.
const ENDED: usize = 256;
/// What the containers of an orphaned pod get to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);
/// Pauses between attempts to learn what the network has.
const NETWORK_RETRY: Duration = Duration::from_millis(200);

pub(crate) struct Pods {
    context: Arc<Context>,
    informer: Informer<Pod>,
    workers: HashMap<String, mpsc::Sender<Input>>,
    /// What the runtime had at the start and no worker has taken yet.
    sandboxes: HashMap<String, Vec<PodSandboxStatus>>,
    addresses: HashMap<String, PodAddress>,
    ended: (mpsc::Sender<String>, mpsc::Receiver<String>),
}

impl Pods {
    pub fn new(context: Arc<Context>, informer: Informer<Pod>) -> Self {
        Pods {
            context,
            informer,
            workers: HashMap::new(),
            sandboxes: HashMap::new(),
            addresses: HashMap::new(),
            ended: mpsc::channel(ENDED),
        }
    }

    pub async fn run(mut self) {
        // Listening begins before looking, so that nothing falls between.
        let mut events = self.context.runtime.events();
        self.find_what_runs().await;
        self.informer.synced().await;
        let mut changes = self.informer.subscribe();
        while let Some(change) = changes.try_next() {
            self.changed(change).await;
        }
        self.end_orphans().await;
        loop {
            tokio::select! {
                change = changes.next() => self.changed(change).await,
                event = events.next() => match event {
                    Some(event) => self.happened(event).await,
                    None => return,
                },
                Some(uid) = self.ended.1.recv() => {
                    self.workers.remove(&uid);
                    self.count();
                }
            }
        }
    }

    async fn find_what_runs(&mut self) {
        for sandbox in self.context.runtime.list() {
            self.sandboxes.entry(sandbox.config.uid.clone()).or_default().push(sandbox);
        }
        loop {
            match self.context.network.list().await {
                Ok(addresses) => {
                    self.addresses = addresses.into_iter().collect();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the pod network does not answer yet");
                    tokio::time::sleep(NETWORK_RETRY).await;
                }
            }
        }
    }

    fn count(&self) {
        self.context.metrics.running_pods.set(i64::try_from(self.workers.len()).unwrap_or(i64::MAX));
    }

    async fn changed(&mut self, change: Change<Pod>) {
        let uid = |pod: &Option<Arc<Pod>>| pod.as_ref().and_then(|pod| pod.metadata.uid.clone());
        let (old, new) = (uid(&change.old), uid(&change.new));
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref())
            && let Some(worker) = self.workers.get(&old)
        {
            // A worker that has ended already has nothing left to remove.
            let _ = worker.send(Input::Removed).await;
        }
        let (Some(pod), Some(uid)) = (change.new, new) else { return };
        match self.workers.get(&uid) {
            Some(worker) => {
                let _ = worker.send(Input::Pod(pod)).await;
            }
            None => self.begin(uid, pod),
        }
    }

    fn begin(&mut self, uid: String, pod: Arc<Pod>) {
        let context = self.context.clone();
        let mut found = self.sandboxes.remove(&uid).unwrap_or_default();
        found.sort_by_key(|sandbox| sandbox.config.attempt);
        let newest = found.pop();
        let address = self.addresses.remove(&uid);
        let mut model = restore::model(&context, &pod, newest.as_ref(), address.as_ref());
        if newest.is_none()
            && model.failed.is_none()
            && let Some((reason, message)) = admission::refuse(&pod)
        {
            context.recorder.about(pod.as_ref(), EventType::Warning, &reason, message.clone());
            model.failed = Some((reason, message));
        }
        self.warn_of_host_ports(&pod);
        let sandbox: Option<SandboxId> = newest.map(|sandbox| sandbox.id);
        let (worker, sender) = Worker::new(context.clone(), pod, model, sandbox);
        self.workers.insert(uid.clone(), sender);
        self.count();
        let ended = self.ended.0.clone();
        context.tasks.spawn("pod", async move {
            worker.run().await;
            // The receiver lives as long as the node.
            let _ = ended.send(uid).await;
        });
    }

    fn warn_of_host_ports(&self, pod: &Pod) {
        let Some(spec) = pod.spec.as_ref().filter(|spec| spec.host_network != Some(true)) else { return };
        let mut ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
        if ports.any(|port| port.host_port.is_some_and(|port| port > 0)) {
            let message = "hostPort is not served by this node; use a NodePort service";
            self.context.recorder.about(pod, EventType::Warning, "HostPortNotSupported", message);
        }
    }

    async fn happened(&mut self, event: Event) {
        let sandbox = match &event {
            Event::ContainerExited { sandbox, .. }
            | Event::ContainerOom { sandbox, .. }
            | Event::SandboxLost { sandbox } => sandbox,
            Event::Resync => {
                for worker in self.workers.values() {
                    let _ = worker.send(Input::Runtime(Event::Resync)).await;
                }
                return;
            }
        };
        let Some(status) = self.context.runtime.sandbox_status(sandbox) else { return };
        if let Some(worker) = self.workers.get(&status.config.uid) {
            let _ = worker.send(Input::Runtime(event)).await;
        }
    }

    /// Ends what the API does not know any more: sandboxes, addresses, folders.
    async fn end_orphans(&mut self) {
        for (uid, sandboxes) in std::mem::take(&mut self.sandboxes) {
            self.addresses.remove(&uid);
            let context = self.context.clone();
            context.clone().tasks.spawn("orphan", async move {
                for sandbox in sandboxes {
                    end_orphan(&context, &sandbox).await;
                }
                if let Err(error) = context.network.detach(&uid).await {
                    tracing::warn!(uid, %error, "the network of an orphaned pod could not be given back");
                }
            });
        }
        for (uid, _) in std::mem::take(&mut self.addresses) {
            if let Err(error) = self.context.network.detach(&uid).await {
                tracing::warn!(uid, %error, "the network of an orphaned pod could not be given back");
            }
        }
        let known: HashSet<String> = self.workers.keys().cloned().collect();
        let (pods, logs) = (self.context.data_dir.join("pods"), self.context.data_dir.join("logs"));
        runtime::blocking(move || {
            let names = |dir: &std::path::Path| -> Vec<std::path::PathBuf> {
                std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
            };
            for folder in names(&pods).into_iter().chain(names(&logs)) {
                let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let uid = name.rsplit('_').next().unwrap_or_default();
                if !known.contains(uid)
                    && let Err(error) = local::remove_tree(&folder)
                {
                    tracing::warn!(folder = %folder.display(), %error, "folder of an orphaned pod could not be removed");
                }
            }
        })
        .await;
    }
}

async fn end_orphan(context: &Context, sandbox: &PodSandboxStatus) {
    tracing::info!(pod = sandbox.config.name, namespace = sandbox.config.namespace, "ending an orphaned pod");
    let running = sandbox.containers.iter().filter(|container| container.state == ContainerState::Running);
    let stops = running.map(|container| &container.id).map(|id| async move {
        if let Err(error) = context.runtime.stop_container(id, ORPHAN_GRACE).await {
            tracing::warn!(container = %id, error = error_chain(&error), "orphaned container could not be stopped");
        }
    });
    futures::future::join_all(stops).await;
    if let Err(error) = context.runtime.remove_sandbox(&sandbox.id).await {
        tracing::warn!(sandbox = %sandbox.id, error = error_chain(&error), "orphaned sandbox could not be removed");
    }
}
