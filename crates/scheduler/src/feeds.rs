//! What the scheduler watches. Each kind has a task that decodes its objects into what the engine takes; all of them end in one
//! queue, which the driver empties.

mod devices;
mod storage;
mod whole_nodes;

use std::{fmt::Display, sync::Arc, time::Duration};

use client::{
    Client,
    feed::{Closed, Event, Fed, Sink, feed},
};
use runtime::Tasks;
use sched::{Engine, convert, framework::Gang, labels::Selector, object, pod::OwnerKind, preempt::Budget};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::extenders::Nodes;

/// Changes that wait for the driver; past it, the watches wait.
pub(crate) const MAX_INPUTS: usize = 4096;
/// How many kinds are watched.
pub(crate) const KINDS: usize = 19;

/// A name within a namespace.
pub(crate) type Name = (Arc<str>, Arc<str>);

/// A change of the cluster, as the engine takes it.
pub(crate) enum Input {
    Pod(Box<sched::Pod>),
    PodGone(Arc<str>),
    Node(Box<sched::Node>),
    NodeGone(Arc<str>),
    Namespace(Arc<str>, Option<sched::labels::Labels>),
    Service(Name, Option<Selector>),
    Owner(OwnerKind, Name, Option<Selector>),
    Budget(Name, Option<Budget>),
    Group(Name, Option<Option<Gang>>),
    /// Of one of the kinds that volumes are made of.
    Storage(Change),
    /// Of claims to devices, or of the devices that there are.
    Devices(Change),
    /// All objects of one more kind have been told.
    Synced,
}

impl Input {
    /// What it is about, as metrics have it.
    pub fn label(&self) -> &'static str {
        match self {
            Input::Pod(_) => "PodUpdate",
            Input::PodGone(_) => "PodDelete",
            Input::Node(_) => "NodeUpdate",
            Input::NodeGone(_) => "NodeDelete",
            Input::Namespace(..) => "NamespaceUpdate",
            Input::Service(..) => "ServiceUpdate",
            Input::Owner(..) => "WorkloadUpdate",
            Input::Budget(..) => "PodDisruptionBudgetUpdate",
            Input::Group(..) => "PodGroupUpdate",
            Input::Storage(_) => "StorageUpdate",
            Input::Devices(_) => "DeviceUpdate",
            Input::Synced => "Synced",
        }
    }
}

/// A change that is made to the engine as it stands.
pub(crate) type Change = Box<dyn FnOnce(&mut Engine, Duration) + Send>;

/// Starts to watch everything. `nodes`: where nodes are kept in full, too.
pub(crate) fn start(client: &Client, tasks: &Tasks, nodes: Option<Nodes>) -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(MAX_INPUTS);
    follow::<Pod>(client, tasks, &sender);
    match nodes {
        Some(nodes) => whole_nodes::follow(client, tasks, nodes, &sender),
        None => follow::<Node>(client, tasks, &sender),
    }
    follow::<Namespace>(client, tasks, &sender);
    follow::<Service>(client, tasks, &sender);
    follow::<ReplicationController>(client, tasks, &sender);
    follow::<ReplicaSet>(client, tasks, &sender);
    follow::<StatefulSet>(client, tasks, &sender);
    follow::<PodDisruptionBudget>(client, tasks, &sender);
    follow::<PodGroup>(client, tasks, &sender);
    storage::follow_all(client, tasks, &sender);
    devices::follow_all(client, tasks, &sender);
    receiver
}

fn follow<K: Watched>(client: &Client, tasks: &Tasks, sender: &mpsc::Sender<Input>) {
    tasks.spawn("feed", feed::<K>(client.clone(), Inputs(sender.clone())));
}

/// A kind that is watched, and what becomes of its objects.
trait Watched: Fed {
    fn input(self) -> Option<Input>;

    fn gone(name: Name, uid: Arc<str>) -> Input;
}

struct Inputs(mpsc::Sender<Input>);

impl<K: Watched> Sink<K> for Inputs {
    async fn take(&mut self, event: Event<K>) -> Result<(), Closed> {
        let input = match event {
            Event::Is(object) => object.input(),
            Event::Gone { namespace, name, uid } => Some(K::gone((namespace, name), uid)),
            Event::Synced => Some(Input::Synced),
        };
        match input {
            Some(input) => self.0.send(input).await.map_err(|_| Closed),
            None => Ok(()),
        }
    }
}

macro_rules! watched {
    ($name:ident, $object:ty, $path:literal, $input:expr, $gone:expr $(, optional: $optional:literal)?) => {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct $name($object);

        impl Fed for $name {
            const PATH: &'static str = $path;
            $(const OPTIONAL: bool = $optional;)?

            fn namespace(&self) -> &str {
                self.0.metadata.namespace.as_deref().unwrap_or_default()
            }

            fn name(&self) -> &str {
                self.0.metadata.name.as_deref().unwrap_or_default()
            }

            fn uid(&self) -> &str {
                self.0.metadata.uid.as_deref().unwrap_or_default()
            }

            fn version(&self) -> &str {
                self.0.metadata.resource_version.as_deref().unwrap_or_default()
            }
        }

        impl Watched for $name {
            fn input(self) -> Option<Input> {
                let name: Name = (self.namespace().into(), Fed::name(&self).into());
                let input: fn($object, Name) -> Option<Input> = $input;
                input(self.0, name)
            }

            fn gone(name: Name, uid: Arc<str>) -> Input {
                let gone: fn(Name, Arc<str>) -> Input = $gone;
                gone(name, uid)
            }
        }
    };
}

use watched;

watched!(Pod, object::Pod, "/api/v1/pods", pod, |_, uid| Input::PodGone(uid));
watched!(Node, object::Node, "/api/v1/nodes", node, |name, _| Input::NodeGone(name.1));
watched!(
    Namespace,
    object::Namespace,
    "/api/v1/namespaces",
    |object, name| Some(Input::Namespace(name.1, Some(convert::labels(object.metadata.labels.as_ref())))),
    |name, _| Input::Namespace(name.1, None)
);
watched!(
    Service,
    object::ByMap,
    "/api/v1/services",
    |object, name| Some(Input::Service(name, by_map(object))),
    |name, _| Input::Service(name, None)
);
watched!(
    ReplicationController,
    object::ByMap,
    "/api/v1/replicationcontrollers",
    |object, name| Some(Input::Owner(OwnerKind::ReplicationController, name, by_map(object))),
    |name, _| Input::Owner(OwnerKind::ReplicationController, name, None)
);
watched!(
    ReplicaSet,
    object::BySelector,
    "/apis/apps/v1/replicasets",
    |object, name| Some(Input::Owner(OwnerKind::ReplicaSet, name, by_selector(object))),
    |name, _| Input::Owner(OwnerKind::ReplicaSet, name, None)
);
watched!(
    StatefulSet,
    object::BySelector,
    "/apis/apps/v1/statefulsets",
    |object, name| Some(Input::Owner(OwnerKind::StatefulSet, name, by_selector(object))),
    |name, _| Input::Owner(OwnerKind::StatefulSet, name, None)
);
watched!(
    PodDisruptionBudget,
    object::PodDisruptionBudget,
    "/apis/policy/v1/poddisruptionbudgets",
    budget,
    |name, _| Input::Budget(name, None)
);
watched!(
    PodGroup,
    object::PodGroup,
    "/apis/scheduling.k8s.io/v1alpha2/podgroups",
    |object, name| Some(Input::Group(name, Some(convert::gang(&object)))),
    |name, _| Input::Group(name, None),
    // kube-scheduler's role (system:kube-scheduler) has it only where the feature gate GenericWorkload is on.
    optional: true
);

/// An object that cannot be read is as good as gone.
fn readable<T>(name: &Name, result: Result<T, impl Display>) -> Option<T> {
    result
        .inspect_err(|error| tracing::warn!(namespace = %name.0, name = %name.1, %error, "object cannot be read"))
        .ok()
}

fn pod(object: object::Pod, name: Name) -> Option<Input> {
    match convert::pod(&object) {
        Ok(pod) => Some(Input::Pod(Box::new(pod))),
        Err(error) => {
            tracing::warn!(namespace = %name.0, pod = %name.1, %error, "pod cannot be read; it is not placed");
            Some(Input::PodGone(object.metadata.uid?.into()))
        }
    }
}

fn node(object: object::Node, name: Name) -> Option<Input> {
    match convert::node(&object) {
        Ok(node) => Some(Input::Node(Box::new(node))),
        Err(error) => {
            tracing::warn!(node = %name.1, %error, "node cannot be read; nothing is placed there");
            Some(Input::NodeGone(name.1))
        }
    }
}

fn budget(object: object::PodDisruptionBudget, name: Name) -> Option<Input> {
    match convert::budget(&object) {
        Ok(budget) => Some(Input::Budget(name, Some(budget))),
        Err(error) => {
            tracing::warn!(namespace = %name.0, budget = %name.1, %error, "disruption budget cannot be read");
            Some(Input::Budget(name, None))
        }
    }
}

fn by_map(object: object::ByMap) -> Option<Selector> {
    let labels = convert::labels(Some(&object.spec?.selector?));
    (!labels.is_empty()).then(|| Selector::of(labels))
}

fn by_selector(object: object::BySelector) -> Option<Selector> {
    // One that cannot be read selects nothing; the pods' own controller says so.
    convert::selector(object.spec?.selector.as_ref()).ok().flatten()
}
