//! A local, current copy of one kind, fed by one watch and shared by everyone in the process who asks for it.
//!
//! A subscriber that falls behind does not grow a queue: changes of one object merge into one, so what waits is
//! bounded by the number of objects.

use std::{
    any::{Any, TypeId},
    collections::{HashMap, VecDeque},
    fmt::{self, Debug},
    sync::{Arc, Weak},
};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::{Mutex, RwLock};
use runtime::Tasks;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use crate::backoff::Backoff;

/// The namespace (empty for cluster-scoped kinds) and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key { namespace: namespace.into(), name: name.into() }
    }

    /// The key of `object`.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Key { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// What happened to an object since the subscriber last heard of it. `old` without `new`: deleted; `new` without
/// `old`: appeared. Deleted and created again in between: both, with different UIDs.
#[derive(Clone, Debug)]
pub struct Change<K> {
    pub key: Key,
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

/// A kind's type and the selector.
type Watched = (TypeId, String);
/// The kind's `Informer`, whose type `Watched` names.
type Held = Box<dyn Any + Send + Sync>;

/// One informer per kind (and selector) for the whole process.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    tasks: Tasks,
    running: Arc<Mutex<HashMap<Watched, Held>>>,
}

impl Informers {
    /// `tasks` stops the watches.
    pub fn new(client: Client, tasks: Tasks) -> Self {
        Informers { client, tasks, running: Arc::default() }
    }

    /// The same watches for another part of the process, which speaks to the API as itself.
    pub fn speaking_as(&self, client: Client) -> Self {
        Informers { client, ..self.clone() }
    }

    /// The client that belongs to these informers' user.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// All objects of kind `K`, in all namespaces. The first call starts the watch.
    pub fn all<K>(&self) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.selected("")
    }

    /// The objects of kind `K` whose fields match, for example `spec.nodeName=a`.
    pub fn selected<K>(&self, field_selector: &str) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let mut running = self.running.lock();
        let id = (TypeId::of::<K>(), field_selector.to_owned());
        if let Some(informer) = running.get(&id).and_then(|any| any.downcast_ref::<Informer<K>>()) {
            return informer.clone();
        }
        let informer = Informer { shared: Arc::new(Shared::default()) };
        running.insert(id, Box::new(informer.clone()));
        self.tasks.spawn("informer", follow(self.client.clone(), field_selector.to_owned(), informer.shared.clone()));
        informer
    }
}

/// A handle on the local copy of one kind.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Informer { shared: self.shared.clone() }
    }
}

struct Shared<K> {
    state: RwLock<State<K>>,
    synced: watch::Sender<bool>,
}

struct State<K> {
    objects: HashMap<Key, Arc<K>>,
    subscribers: Vec<Weak<Queue<K>>>,
}

struct Queue<K> {
    pending: Mutex<Pending<K>>,
    wake: Notify,
}

struct Pending<K> {
    order: VecDeque<Key>,
    /// The state that the subscriber knew when the key began to wait.
    before: HashMap<Key, Option<Arc<K>>>,
}

impl<K> Default for Shared<K> {
    fn default() -> Self {
        Shared {
            state: RwLock::new(State { objects: HashMap::new(), subscribers: Vec::new() }),
            synced: watch::channel(false).0,
        }
    }
}

impl<K> Informer<K> {
    /// Waits until the first full list has arrived.
    pub async fn synced(&self) {
        let mut receiver = self.shared.synced.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = receiver.wait_for(|synced| *synced).await;
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.shared.state.read().objects.get(key).cloned()
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.state.read().objects.values().cloned().collect()
    }

    /// The objects for which `keep` holds, in no order.
    pub fn filtered(&self, keep: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.shared.state.read().objects.values().filter(|object| keep(object)).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.shared.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes from now on, beginning with every object that is there already.
    pub fn subscribe(&self) -> Subscription<K> {
        let queue = Arc::new(Queue {
            pending: Mutex::new(Pending { order: VecDeque::new(), before: HashMap::new() }),
            wake: Notify::new(),
        });
        let mut state = self.shared.state.write();
        for key in state.objects.keys() {
            queue.push(key, None);
        }
        state.subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        state.subscribers.push(Arc::downgrade(&queue));
        Subscription { shared: self.shared.clone(), queue }
    }
}

/// A subscriber's own view of the changes.
pub struct Subscription<K> {
    shared: Arc<Shared<K>>,
    queue: Arc<Queue<K>>,
}

impl<K> Subscription<K> {
    /// Waits for the next change. Cancel safe: a change is taken only when it is returned.
    pub async fn next(&mut self) -> Change<K> {
        loop {
            if let Some(change) = self.try_next() {
                return change;
            }
            // A push after the look above leaves a permit, so it is not missed.
            self.queue.wake.notified().await;
        }
    }

    /// The next change, if one waits.
    pub fn try_next(&mut self) -> Option<Change<K>> {
        // The state's lock is held while the key is taken, so that no update slips between key and object.
        let state = self.shared.state.read();
        let mut pending = self.queue.pending.lock();
        while let Some(key) = pending.order.pop_front() {
            let old = pending.before.remove(&key).flatten();
            let new = state.objects.get(&key).cloned();
            if old.is_some() || new.is_some() {
                return Some(Change { key, old, new });
            }
        }
        None
    }
}

impl<K> Queue<K> {
    fn push(&self, key: &Key, before: Option<Arc<K>>) {
        let mut pending = self.pending.lock();
        if !pending.before.contains_key(key) {
            pending.before.insert(key.clone(), before);
            pending.order.push_back(key.clone());
        }
        drop(pending);
        self.wake.notify_one();
    }
}

impl<K> State<K> {
    fn set(&mut self, key: Key, new: Option<Arc<K>>) {
        let old = match &new {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        for queue in self.subscribers.iter().filter_map(Weak::upgrade) {
            queue.push(&key, old.clone());
        }
    }
}

async fn follow<K>(client: Client, field_selector: String, shared: Arc<Shared<K>>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut config = watcher::Config::default().timeout(290);
    if !field_selector.is_empty() {
        config = config.fields(&field_selector);
    }
    let stream = watcher(Api::<K>::all(client), config).backoff(Backoff::default());
    pin_mut!(stream);
    let mut listed: HashMap<Key, Arc<K>> = HashMap::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(Key::of(&object), Arc::new(object));
            }
            Ok(watcher::Event::InitDone) => {
                replace(&shared, std::mem::take(&mut listed));
                shared.synced.send_replace(true);
            }
            Ok(watcher::Event::Apply(object)) => {
                shared.state.write().set(Key::of(&object), Some(Arc::new(object)));
            }
            Ok(watcher::Event::Delete(object)) => shared.state.write().set(Key::of(&object), None),
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch was interrupted and will be resumed"),
        }
    }
}

/// Makes `listed` the state; only what differs is told to subscribers.
fn replace<K: Resource>(shared: &Shared<K>, listed: HashMap<Key, Arc<K>>) {
    let mut state = shared.state.write();
    let gone: Vec<Key> = state.objects.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
    for key in gone {
        state.set(key, None);
    }
    for (key, object) in listed {
        let version = |o: &Arc<K>| o.meta().resource_version.clone();
        if state.objects.get(&key).is_none_or(|old| version(old) != version(&object)) {
            state.set(key, Some(object));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, version: &str) -> Arc<ConfigMap> {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        Arc::new(object)
    }

    fn seen(subscription: &mut Subscription<ConfigMap>) -> Vec<String> {
        let version = |o: &Option<Arc<ConfigMap>>| {
            o.as_ref().and_then(|o| o.metadata.resource_version.clone()).unwrap_or_else(|| "-".into())
        };
        std::iter::from_fn(|| subscription.try_next())
            .map(|c| format!("{}:{}>{}", c.key, version(&c.old), version(&c.new)))
            .collect()
    }

    #[test]
    fn changes_of_one_object_merge() {
        let informer = Informer::<ConfigMap> { shared: Arc::default() };
        let set = |name: &str, version: Option<&str>| {
            informer.shared.state.write().set(Key::new("", name), version.map(|v| object(name, v)));
        };
        set("a", Some("1"));
        let mut subscription = informer.subscribe();
        assert_eq!(seen(&mut subscription), ["a:->1"]);
        set("a", Some("2"));
        set("b", Some("3"));
        set("a", Some("4"));
        set("c", Some("5"));
        set("c", None);
        assert_eq!(seen(&mut subscription), ["a:1>4", "b:->3"]);
        set("a", None);
        assert_eq!(seen(&mut subscription), ["a:4>-"]);
    }

    #[test]
    fn a_relist_tells_only_what_differs() {
        let informer = Informer::<ConfigMap> { shared: Arc::default() };
        let list = |items: &[(&str, &str)]| {
            let listed = items.iter().map(|(n, v)| (Key::new("", *n), object(n, v))).collect();
            replace(&informer.shared, listed);
        };
        list(&[("a", "1"), ("b", "1")]);
        let mut subscription = informer.subscribe();
        assert_eq!(seen(&mut subscription).len(), 2);
        list(&[("a", "1"), ("b", "2")]);
        assert_eq!(seen(&mut subscription), ["b:1>2"]);
        list(&[("b", "2")]);
        assert_eq!(seen(&mut subscription), ["a:1>-"]);
    }
}
