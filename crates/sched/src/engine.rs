//! The engine: changes and ticks go in, decisions come out. The driver carries them out and tells how it went.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    Diagnosis, Node, Pending, Pod, Snapshot,
    cache::Cache,
    decide::{Outcome, Rotation, decide},
    plugins::{Event, Plugins},
    queue::{History, Queue},
};

/// How to build an engine.
pub struct Options {
    pub plugins: Plugins,
    /// Breaks ties between equal nodes; the same seed and inputs give the same decisions.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { plugins: Plugins::default(), seed: 1 }
    }
}

/// A node held for a pod. It ends in exactly one way: the API shows the pod on the node ([`Engine::upsert_pod`]), the
/// pod is gone ([`Engine::remove_pod`]), or the binding failed ([`Engine::undo`]).
#[derive(Clone, Debug)]
pub struct Reservation {
    pub pod: Arc<Pod>,
    pub node: Arc<str>,
    /// The attempts that it took, this one included.
    pub attempts: u32,
    /// When the pod was first seen waiting.
    pub first_seen: Duration,
}

/// What the driver does next.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Bind the pod to the node; on failure, [`Engine::undo`].
    Bind(Reservation),
    /// Tell why the pod waits. It is tried again by itself when something changes that can help.
    Unschedulable { pod: Arc<Pod>, diagnosis: Diagnosis, attempts: u32 },
}

struct Reserved {
    /// The pod as the API shows it now, which may be newer than what was decided on.
    latest: Arc<Pod>,
    node: Arc<str>,
    history: History,
}

pub struct Engine {
    plugins: Plugins,
    queue: Queue,
    cache: Cache,
    snapshot: Snapshot,
    rotation: Rotation,
    reserved: HashMap<Arc<str>, Reserved>,
}

impl Engine {
    pub fn new(options: Options) -> Self {
        Engine {
            plugins: options.plugins,
            queue: Queue::default(),
            cache: Cache::default(),
            snapshot: Snapshot::default(),
            rotation: Rotation::new(options.seed),
            reserved: HashMap::new(),
        }
    }

    /// A node appeared or changed.
    pub fn upsert_node(&mut self, node: Node, now: Duration) {
        if self.cache.node(&node.name).is_some_and(|known| **known == node) {
            return;
        }
        let node = Arc::new(node);
        let event = match self.cache.upsert_node(node.clone()) {
            None => Event::NodeAdded(node),
            Some(old) => Event::NodeUpdated { old, new: node },
        };
        self.wake(&event, now);
    }

    pub fn remove_node(&mut self, name: &str) {
        self.cache.remove_node(name);
    }

    /// A pod appeared or changed: one that waits is queued, one on a node is counted there.
    pub fn upsert_pod(&mut self, pod: Pod, now: Duration) {
        if pod.terminal {
            return self.remove_pod(&pod.uid, now);
        }
        let pod = Arc::new(pod);
        match pod.node_name.clone() {
            Some(node) => self.assigned(pod, &node, now),
            None => self.waiting(pod, now),
        }
    }

    fn assigned(&mut self, pod: Arc<Pod>, node: &Arc<str>, now: Duration) {
        self.queue.remove(&pod.uid);
        if let Some(reserved) = self.reserved.remove(&pod.uid) {
            // Somebody else has bound it elsewhere: what was reserved here is free again.
            if reserved.node != *node {
                self.plugins.unreserve(&pod, &reserved.node);
            }
        }
        if self.cache.placed(&pod.uid) == Some(&pod) && !self.cache.is_assumed(&pod.uid) {
            return;
        }
        let before = self.cache.placed(&pod.uid).cloned();
        self.cache.place(pod.clone(), node, false);
        // A pod that now asks for less, or has moved, leaves room behind.
        if let Some(before) = before.filter(|before| before.requests != pod.requests) {
            self.wake(&Event::PodRemoved(before), now);
        }
    }

    fn waiting(&mut self, pod: Arc<Pod>, now: Duration) {
        if pod.deleting {
            self.queue.remove(&pod.uid);
            return;
        }
        if let Some(reserved) = self.reserved.get_mut(&pod.uid) {
            reserved.latest = pod;
            return;
        }
        let gated = !self.plugins.may_enqueue(&pod);
        match self.queue.pod(&pod.uid) {
            Some(known) if **known == *pod => {}
            Some(known) if known.scheduling_gates == pod.scheduling_gates => self.queue.update(pod, now),
            _ => self.queue.add(pod, gated, now),
        }
    }

    /// A pod is gone, or has ended.
    pub fn remove_pod(&mut self, uid: &str, now: Duration) {
        self.queue.remove(uid);
        if let Some(reserved) = self.reserved.remove(uid) {
            self.plugins.unreserve(&reserved.latest, &reserved.node);
        }
        if let Some(pod) = self.cache.remove(uid) {
            self.wake(&Event::PodRemoved(pod), now);
        }
    }

    /// The next decision, if a pod is due. A placement is counted at once.
    pub fn next(&mut self, now: Duration) -> Option<Decision> {
        let (pod, history) = self.queue.pop(now)?;
        self.cache.update(&mut self.snapshot);
        let (diagnosis, rejected_by) = match decide(&self.plugins, &self.snapshot, &pod, &mut self.rotation) {
            Outcome::Placed(info) => match self.plugins.reserve(&pod, &info) {
                Ok(()) => return Some(Decision::Bind(self.reserve(pod, info.node.name.clone(), history))),
                Err((index, rejection)) => {
                    let plugin = self.plugins.name(index);
                    (self.plugins.refused(self.snapshot.nodes.len(), &info, plugin, rejection), 1 << index)
                }
            },
            Outcome::Unfit(diagnosis, rejected_by) => (diagnosis, rejected_by),
        };
        self.queue.add_unschedulable(pod.clone(), history, rejected_by, now);
        Some(Decision::Unschedulable { pod, diagnosis, attempts: history.attempts })
    }

    fn reserve(&mut self, pod: Arc<Pod>, node: Arc<str>, history: History) -> Reservation {
        self.cache.place(pod.clone(), &node, true);
        let reserved = Reserved { latest: pod.clone(), node: node.clone(), history };
        self.reserved.insert(pod.uid.clone(), reserved);
        Reservation { pod, node, attempts: history.attempts, first_seen: history.first_seen }
    }

    /// The binding failed: the node is free again, and the pod is tried again after its pause.
    pub fn undo(&mut self, uid: &str, now: Duration) {
        // It has been confirmed or removed in the meantime: then there is nothing to undo.
        let Some(reserved) = self.reserved.remove(uid) else { return };
        self.plugins.unreserve(&reserved.latest, &reserved.node);
        if let Some(pod) = self.cache.remove(uid) {
            self.wake(&Event::PodRemoved(pod), now);
        }
        if !reserved.latest.deleting {
            self.queue.add_failed(reserved.latest, reserved.history, now);
        }
    }

    /// When [`Engine::next`] has something again without any change; zero: now; `None`: never.
    pub fn wake_at(&self) -> Option<Duration> {
        self.queue.wake_at()
    }

    /// How many pods wait, and where.
    pub fn pending(&self) -> Pending {
        self.queue.pending()
    }

    /// Whether the pod waits for a node.
    pub fn is_waiting(&self, uid: &str) -> bool {
        self.queue.contains(uid)
    }

    fn wake(&mut self, event: &Event, now: Duration) {
        let plugins = &self.plugins;
        self.queue.wake(now, |pod, rejected_by| plugins.wakes(pod, rejected_by, event));
    }
}
