//! Drives node lifecycle: follows leases and reports, taints silent nodes, and moves their pods away.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use client::{EventType, Key, Recorder, kube};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use parking_lot::Mutex;
use reconcile::{
    meta,
    node::{self, Action, Eviction, Grace, Heartbeat},
};
use serde_json::json;

use crate::{
    cache::on_node,
    context::{Context, LEASES},
    queue::Queue,
    worker::{Controller, Error},
};

pub struct Nodes {
    context: Context,
    recorder: Recorder,
    grace: Grace,
    heartbeats: Mutex<HashMap<Key, Heartbeat>>,
    /// Nodes whose pods were marked. A node agent that says "not ready" itself goes on reporting its pods: they are
    /// marked once, and not against its word again and again.
    marked: Mutex<HashSet<Key>>,
}

impl Nodes {
    pub fn new(context: &Context, queue: &Queue<Key>, grace: Grace) -> Arc<Self> {
        let recorder = context.recorder("node-controller");
        let (own, events) = (queue.clone(), recorder.clone());
        context.caches.nodes.listen(move |change| {
            own.add(change.key.clone());
            let name = &change.key.name;
            match (&change.old, &change.new) {
                (None, Some(node)) => {
                    let message = format!("Node {name} event: Registered Node {name} in Controller");
                    events.about(&**node, EventType::Normal, "RegisteredNode", message);
                }
                (Some(node), None) => {
                    let message = format!("Node {name} event: Removing Node {name} from Controller");
                    events.about(&**node, EventType::Normal, "RemovingNode", message);
                }
                _ => {}
            }
        });
        let own = queue.clone();
        context.caches.leases.listen(move |change| {
            if change.key.namespace == LEASES {
                own.add(Key::new("", &change.key.name));
            }
        });
        let own = queue.clone();
        context.caches.pods.listen(move |change| {
            let place = |pod: &Option<Arc<Pod>>| pod.as_ref().and_then(|pod| pod.spec.as_ref()?.node_name.clone());
            let node = place(&change.new);
            // A pod that has just come to a node may have to leave it at once.
            if node != place(&change.old)
                && let Some(node) = node
            {
                own.add(Key::new("", node));
            }
        });
        Arc::new(Nodes {
            context: context.clone(),
            recorder,
            grace,
            heartbeats: Mutex::default(),
            marked: Mutex::default(),
        })
    }

    fn heartbeat(&self, key: &Key, node: &Node) -> Heartbeat {
        let lease = self.context.caches.leases.get(&Key::new(LEASES, &key.name));
        let mut heartbeats = self.heartbeats.lock();
        let beat = Heartbeat::observe(heartbeats.get(key), node, lease.as_deref(), self.context.clock.now());
        heartbeats.insert(key.clone(), beat.clone());
        beat
    }

    async fn execute(&self, node: &mut Node, action: Action) -> Result<Option<Duration>, Error> {
        let api = Api::<Node>::all(self.context.client.clone());
        let name = meta::name(&node.metadata).to_owned();
        match action {
            Action::Status(status) => {
                node.status = Some(*status);
                *node = api.replace_status(&name, &PostParams::default(), node).await?;
            }
            Action::Taints(taints) => {
                let patch = json!({
                    "metadata": { "resourceVersion": node.metadata.resource_version },
                    "spec": { "taints": if taints.is_empty() { None } else { Some(taints) } },
                });
                *node = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
            Action::MarkPodsNotReady => {
                let first = self.marked.lock().insert(Key::new("", &name));
                if !first && !is_unknown(node) {
                    return Ok(None);
                }
                for pod in self.context.caches.pods.group(&on_node(&name)) {
                    self.mark_not_ready(&pod).await?;
                }
            }
            Action::Notice(notice) => self.context.notice(&self.recorder, node, notice),
            Action::Again(after) => return Ok(Some(after)),
        }
        Ok(None)
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        let Some(conditions) = node::not_ready_status(pod, self.context.clock.now()) else { return Ok(()) };
        let mut shown = pod.clone();
        shown.status.get_or_insert_default().conditions = Some(conditions);
        let api = Api::<Pod>::namespaced(self.context.client.clone(), meta::namespace(&pod.metadata));
        match api.replace_status(meta::name(&pod.metadata), &PostParams::default(), &shown).await {
            Err(error) if client::is_not_found(&error) => return Ok(()),
            result => drop(result?),
        }
        self.recorder.about(pod, EventType::Warning, "NodeNotReady", "Node is not ready");
        Ok(())
    }

    /// Sends away the pods that do not tolerate the node's taints (any longer).
    async fn evict(&self, node: &Node) -> Result<Option<Duration>, Error> {
        let mut again = None;
        for pod in self.context.caches.pods.group(&on_node(meta::name(&node.metadata))) {
            match node::eviction(node, &pod, self.context.clock.now()) {
                Eviction::Never => {}
                Eviction::After(left) => again = reconcile::sooner(again, Some(left)),
                Eviction::Now => {
                    let (namespace, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
                    let message = format!("Marking for deletion Pod {namespace}/{name}");
                    self.recorder.about(&*pod, EventType::Normal, "TaintManagerEviction", message);
                    let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
                    let how = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
                    let api = Api::<Pod>::namespaced(self.context.client.clone(), namespace);
                    match api.delete(name, &how).await {
                        Err(error) if client::is_not_found(&error) || client::is_conflict(&error) => {}
                        result => drop(result?),
                    }
                }
            }
        }
        Ok(again)
    }
}

impl Controller for Nodes {
    type Key = Key;
    const NAME: &'static str = "node-lifecycle";
    const QUEUE: &'static str = "node_lifecycle_controller";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(node) = self.context.caches.nodes.get(key) else {
            self.heartbeats.lock().remove(key);
            self.marked.lock().remove(key);
            return Ok(None);
        };
        let beat = self.heartbeat(key, &node);
        let mut again = None;
        let mut current = (*node).clone();
        let actions = node::reconcile(&node, &beat, self.grace, self.context.clock.now());
        if !actions.contains(&Action::MarkPodsNotReady) {
            self.marked.lock().remove(key);
        }
        for action in actions {
            again = reconcile::sooner(again, self.execute(&mut current, action).await?);
        }
        Ok(reconcile::sooner(again, self.evict(&current).await?))
    }
}

fn is_unknown(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
}
