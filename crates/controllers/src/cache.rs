//! A view of one kind with indexes, in step with what the controllers were told.
//!
//! An informer is ahead of its subscribers. A controller that reads the informer and counts the changes that it was
//! told of would mix two times; so the view is changed by the subscription, first the indexes, then the listeners.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use client::{Change, Informer, Key, kube::Resource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::{Mutex, RwLock};
use reconcile::meta;
use runtime::Tasks;
use tokio::sync::watch;

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// Names the groups in which an object is found.
pub type IndexBy<K> = fn(&K) -> Vec<String>;

/// The objects of one kind, by key and by group.
pub struct Cache<K> {
    informer: Informer<K>,
    index_by: IndexBy<K>,
    state: RwLock<State<K>>,
    listeners: Mutex<Vec<Listener<K>>>,
    primed: watch::Sender<bool>,
}

struct State<K> {
    objects: HashMap<Key, Arc<K>>,
    groups: HashMap<String, HashSet<Key>>,
}

impl<K: Resource<DynamicType = ()> + Send + Sync + 'static> Cache<K> {
    pub fn new(informer: Informer<K>, index_by: IndexBy<K>) -> Arc<Self> {
        Arc::new(Cache {
            informer,
            index_by,
            state: RwLock::new(State { objects: HashMap::new(), groups: HashMap::new() }),
            listeners: Mutex::default(),
            primed: watch::channel(false).0,
        })
    }

    /// Tells `listener` of every change from the start on. Before [`Cache::start`] only.
    pub fn listen(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.listeners.lock().push(Box::new(listener));
    }

    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let this = self.clone();
        tasks.spawn("cache", async move {
            let listeners = std::mem::take(&mut *this.listeners.lock());
            this.informer.synced().await;
            let mut subscription = this.informer.subscribe();
            loop {
                while let Some(change) = subscription.try_next() {
                    this.apply(&change, &listeners);
                }
                this.primed.send_replace(true);
                let change = subscription.next().await;
                this.apply(&change, &listeners);
            }
        });
    }

    /// Waits until the first full list is in the view.
    pub async fn primed(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.primed.subscribe().wait_for(|primed| *primed).await;
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.state.read().objects.get(key).cloned()
    }

    /// The objects of a group, in order of their keys.
    pub fn group(&self, name: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        let mut keys: Vec<&Key> = state.groups.get(name).into_iter().flatten().collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// How many objects a group has.
    pub fn group_len(&self, name: &str) -> usize {
        self.state.read().groups.get(name).map_or(0, HashSet::len)
    }

    fn apply(&self, change: &Change<K>, listeners: &[Listener<K>]) {
        let mut state = self.state.write();
        if let Some(old) = state.objects.remove(&change.key) {
            for name in (self.index_by)(&old) {
                if let Some(keys) = state.groups.get_mut(&name) {
                    keys.remove(&change.key);
                    if keys.is_empty() {
                        state.groups.remove(&name);
                    }
                }
            }
        }
        if let Some(new) = &change.new {
            for name in (self.index_by)(new) {
                state.groups.entry(name).or_default().insert(change.key.clone());
            }
            state.objects.insert(change.key.clone(), new.clone());
        }
        drop(state);
        for listener in listeners {
            listener(change);
        }
    }
}

/// The group of a namespace.
pub fn in_namespace(namespace: &str) -> String {
    format!("namespace/{namespace}")
}

/// The group of what is managed by the owner with this UID.
pub fn owned_by(uid: &str) -> String {
    format!("owner/{uid}")
}

/// The group of what nobody manages in a namespace.
pub fn orphans_in(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

/// The group of pods on a node.
pub fn on_node(node: &str) -> String {
    format!("node/{node}")
}

/// The groups that metadata alone gives.
pub fn by_owner(metadata: &ObjectMeta) -> Vec<String> {
    let namespace = meta::namespace(metadata);
    let owner = match meta::controller_of(metadata) {
        Some(owner) => owned_by(&owner.uid),
        None => orphans_in(namespace),
    };
    vec![in_namespace(namespace), owner]
}

/// The keys of the managing owners of this kind, before and after a change: both have to know of it.
pub fn owners<K: Resource<DynamicType = ()>>(change: &Change<K>, kind: &str) -> Vec<Key> {
    let sides = [&change.old, &change.new].into_iter().flatten();
    let mut keys: Vec<Key> = sides
        .filter_map(|object| meta::controller_of(object.meta()))
        .filter(|owner| owner.kind == kind)
        .map(|owner| Key::new(&change.key.namespace, &owner.name))
        .collect();
    keys.dedup();
    keys
}
