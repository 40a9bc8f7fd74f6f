//! What runs on this node now, for those who only ask: the HTTP server, streaming, metrics. Pod workers write their own
//! entry; everyone else reads.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use containers::{ContainerId, SandboxId};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use tokio::sync::watch;

/// One container of a pod as an asker sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerEntry {
    /// The latest container of that name, running or ended.
    pub current: Option<ContainerId>,
    /// The one before it, for `--previous`.
    pub previous: Option<ContainerId>,
    pub running: bool,
    /// Why it has not started, in kubelet's words (`ContainerCreating`, `ErrImagePull`, …).
    pub waiting: String,
    pub log_path: Option<PathBuf>,
    pub previous_log_path: Option<PathBuf>,
}

/// One pod.
#[derive(Clone, Debug)]
pub struct PodEntry {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// The object with the status that this node derived last.
    pub pod: Arc<Pod>,
    pub sandbox: Option<SandboxId>,
    /// `None` on the host's network.
    pub netns: Option<PathBuf>,
    pub containers: HashMap<String, ContainerEntry>,
}

/// Why a pod or container cannot be used; the texts are kubelet's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("pod {0:?} not found")]
    PodNotFound(String),
    #[error("container {container} is not valid for pod {pod}")]
    ContainerNotFound { container: String, pod: String },
    #[error("container not found ({0:?})")]
    NotRunning(String),
}

/// Where an exec or attach goes.
#[derive(Clone, Debug)]
pub struct ContainerTarget {
    pub sandbox: SandboxId,
    pub container: ContainerId,
    /// From the pod's spec: the main process has a terminal (attach must then treat output as one stream).
    pub tty: bool,
    pub stdin: bool,
}

/// Where a port-forward goes.
#[derive(Clone, Debug)]
pub struct PodTarget {
    pub uid: String,
    pub sandbox: Option<SandboxId>,
    /// The namespace to dial in; `None` is the host's.
    pub netns: Option<PathBuf>,
}

/// The index of pods. A clone is a handle on the same index.
#[derive(Clone, Default)]
pub struct Directory {
    pods: Arc<RwLock<HashMap<String, watch::Sender<Arc<PodEntry>>>>>,
}

impl Directory {
    /// Writes a pod's entry.
    pub(crate) fn set(&self, entry: PodEntry) {
        let mut pods = self.pods.write();
        match pods.get(&entry.uid) {
            Some(sender) => {
                sender.send_replace(Arc::new(entry));
            }
            None => {
                pods.insert(entry.uid.clone(), watch::channel(Arc::new(entry)).0);
            }
        }
    }

    /// Forgets a pod; whoever follows it sees its channel close.
    pub(crate) fn remove(&self, uid: &str) {
        self.pods.write().remove(uid);
    }

    /// Every pod, in no order.
    pub fn list(&self) -> Vec<Arc<PodEntry>> {
        self.pods.read().values().map(|sender| sender.borrow().clone()).collect()
    }

    /// The pod by name; with `uid` only that very pod. Of two with one name (the old one still ends) the one that is
    /// not being deleted wins.
    pub fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<PodEntry>> {
        self.follow(namespace, name, uid).map(|receiver| receiver.borrow().clone())
    }

    /// As [`Directory::find`], with every later change.
    pub fn follow(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<watch::Receiver<Arc<PodEntry>>> {
        let pods = self.pods.read();
        pods.values()
            .filter(|sender| {
                let entry = sender.borrow();
                entry.namespace == namespace && entry.name == name && uid.is_none_or(|uid| uid == entry.uid)
            })
            .min_by_key(|sender| sender.borrow().pod.metadata.deletion_timestamp.is_some())
            .map(watch::Sender::subscribe)
    }

    /// A running container for exec and attach. An empty container name is the pod's first container.
    pub fn container(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        container: &str,
    ) -> Result<ContainerTarget, LookupError> {
        let entry = self.find(namespace, name, uid).ok_or_else(|| LookupError::PodNotFound(name.to_owned()))?;
        let spec = entry.pod.spec.as_ref();
        let inits = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let mut specs = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default().iter().chain(inits);
        let found = specs
            .find(|c| container.is_empty() || c.name == container)
            .ok_or_else(|| LookupError::ContainerNotFound { container: container.to_owned(), pod: name.to_owned() })?;
        let not_running = || LookupError::NotRunning(found.name.clone());
        let state = entry.containers.get(&found.name).filter(|state| state.running).ok_or_else(not_running)?;
        Ok(ContainerTarget {
            sandbox: entry.sandbox.clone().ok_or_else(not_running)?,
            container: state.current.clone().ok_or_else(not_running)?,
            tty: found.tty.unwrap_or(false),
            stdin: found.stdin.unwrap_or(false),
        })
    }

    /// A pod for port-forward.
    pub fn pod(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<PodTarget, LookupError> {
        let entry = self.find(namespace, name, uid).ok_or_else(|| LookupError::PodNotFound(name.to_owned()))?;
        Ok(PodTarget { uid: entry.uid.clone(), sandbox: entry.sandbox.clone(), netns: entry.netns.clone() })
    }
}
