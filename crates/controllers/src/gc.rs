//! Drives garbage collection: one metadata watch per served kind feeds the graph, and verdicts are carried out on live
//! objects.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use client::{Client, kube};
use futures::{StreamExt, pin_mut};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::{DynamicObject, PartialObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::{Mutex, RwLock};
use reconcile::{
    gc::{self, Graph, Identity, Owner, Propagation, Verdict, Work},
    meta,
};
use runtime::CancellationToken;
use serde_json::json;
use tokio::sync::watch;

use crate::{
    context::Context,
    discovery::{self, Served},
    queue::Queue,
    worker::{Controller, Error},
};

/// How often the served kinds are looked up, for those that came or went.
const REDISCOVER: Duration = Duration::from_secs(30);
/// Soon again while the API does not answer.
const REDISCOVER_FAILED: Duration = Duration::from_secs(1);
/// Verdicts wait this long for the first lists of all kinds, and then do with those that came.
const SYNC_LIMIT: Duration = Duration::from_secs(30);
/// Kinds whose objects nobody owns and that change all the time.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

type Key = (Kind, String);

/// What is to be done with a UID; ordered, as a queue's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Examine,
    Orphan,
}

fn key(work: Work) -> Key {
    match work {
        Work::Examine(uid) => (Kind::Examine, uid),
        Work::Orphan(uid) => (Kind::Orphan, uid),
    }
}

/// Told of each object that is gone, by its namespace.
pub type OnDeleted = Arc<dyn Fn(&str) + Send + Sync>;

/// The graph and what is known of the API, shared by the watches and the workers.
pub struct Collector {
    context: Context,
    queue: Queue<Key>,
    graph: Mutex<Graph>,
    served: RwLock<Arc<Vec<Served>>>,
    unsynced: watch::Sender<usize>,
    on_deleted: OnDeleted,
}

impl Collector {
    pub fn new(context: &Context, queue: &Queue<Key>, on_deleted: OnDeleted) -> Arc<Self> {
        Arc::new(Collector {
            context: context.clone(),
            queue: queue.clone(),
            graph: Mutex::default(),
            served: RwLock::default(),
            // One for the discovery itself.
            unsynced: watch::channel(1).0,
            on_deleted,
        })
    }

    /// Starts the watches, now and for kinds that come later.
    pub fn start(self: &Arc<Self>) {
        let this = self.clone();
        self.context.tasks.spawn("gc-discovery", async move {
            let mut watched: HashMap<String, CancellationToken> = HashMap::new();
            let mut first = true;
            loop {
                let pause = match discovery::discover(&this.context.client).await {
                    Ok(served) => {
                        this.follow_kinds(&mut watched, &served);
                        *this.served.write() = served;
                        if std::mem::take(&mut first) {
                            this.unsynced.send_modify(|left| *left -= 1);
                        }
                        REDISCOVER
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the served kinds cannot be discovered");
                        REDISCOVER_FAILED
                    }
                };
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Waits until the graph has seen every kind once.
    pub async fn synced(&self) {
        let mut receiver = self.unsynced.subscribe();
        let all = receiver.wait_for(|left| *left == 0);
        if tokio::time::timeout(SYNC_LIMIT, all).await.is_err() {
            tracing::warn!("some kinds could not be listed; garbage collection starts without them");
        }
    }

    fn follow_kinds(self: &Arc<Self>, watched: &mut HashMap<String, CancellationToken>, served: &[Served]) {
        let collected = |kind: &&Served| {
            let ignored = IGNORED.contains(&(kind.resource.group.as_str(), kind.resource.plural.as_str()));
            !ignored && ["list", "watch", "delete"].iter().all(|verb| kind.can(verb))
        };
        let kinds: HashMap<String, &Served> = served.iter().filter(collected).map(|kind| (kind.name(), kind)).collect();
        watched.retain(|name, stop| {
            let stays = kinds.contains_key(name);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for (name, kind) in kinds {
            if watched.contains_key(&name) {
                continue;
            }
            let stop = self.context.tasks.stopping().child_token();
            watched.insert(name, stop.clone());
            self.unsynced.send_modify(|left| *left += 1);
            let (this, kind) = (self.clone(), kind.clone());
            self.context.tasks.spawn("gc-watch", async move {
                tokio::select! {
                    () = stop.cancelled() => this.forget_kind(&kind),
                    () = this.follow(&kind) => {}
                }
            });
        }
    }

    async fn follow(&self, kind: &Served) {
        let config = watcher::Config::default().timeout(290);
        // Asked for as partial objects, the server sends metadata only.
        let objects = Api::<PartialObjectMeta<DynamicObject>>::all_with(self.context.client.clone(), &kind.resource);
        let stream = watcher(objects, config).default_backoff();
        pin_mut!(stream);
        let mut listed: HashSet<String> = HashSet::new();
        let mut synced = false;
        while let Some(event) = stream.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.extend(object.metadata.uid.clone());
                    self.upsert(kind, &object);
                }
                Ok(watcher::Event::InitDone) => {
                    self.replace(kind, &std::mem::take(&mut listed), synced);
                    if !std::mem::replace(&mut synced, true) {
                        self.unsynced.send_modify(|left| *left -= 1);
                    }
                }
                Ok(watcher::Event::Apply(object)) => self.upsert(kind, &object),
                Ok(watcher::Event::Delete(object)) => {
                    self.remove(meta::uid(&object.metadata), meta::namespace(&object.metadata));
                }
                Err(error) => {
                    tracing::debug!(kind = kind.name(), %error, "watch was interrupted and will be resumed");
                }
            }
        }
    }

    fn upsert(&self, kind: &Served, object: &PartialObjectMeta<DynamicObject>) {
        let identity = Identity {
            api_version: kind.resource.api_version.clone(),
            kind: kind.resource.kind.clone(),
            namespace: meta::namespace(&object.metadata).to_owned(),
            name: meta::name(&object.metadata).to_owned(),
            uid: meta::uid(&object.metadata).to_owned(),
        };
        let work = self.graph.lock().upsert(identity, &object.metadata);
        self.enqueue(work);
    }

    fn remove(&self, uid: &str, namespace: &str) {
        let work = self.graph.lock().remove(uid);
        self.enqueue(work);
        if !namespace.is_empty() {
            (self.on_deleted)(namespace);
        }
    }

    /// What a full list no longer has is gone; and an owner may have come and gone unseen.
    fn replace(&self, kind: &Served, listed: &HashSet<String>, again: bool) {
        let gone: Vec<Identity> = {
            let graph = self.graph.lock();
            let known = graph.of_kind(&kind.resource.api_version, &kind.resource.kind);
            known.filter(|identity| !listed.contains(&identity.uid)).cloned().collect()
        };
        for identity in gone {
            self.remove(&identity.uid, &identity.namespace);
        }
        if again {
            let work = self.graph.lock().dangling();
            self.enqueue(work);
        }
    }

    fn forget_kind(&self, kind: &Served) {
        self.replace(kind, &HashSet::new(), false);
    }

    fn enqueue(&self, work: Vec<Work>) {
        for one in work {
            self.queue.add(key(one));
        }
    }

    /// How to reach a kind; one that is not served (any longer) is an error, because it may only be unknown yet.
    fn kind(&self, api_version: &str, kind: &str) -> Result<Served, Error> {
        let group = |version: &str| version.split_once('/').map_or("", |(group, _)| group).to_owned();
        let served = self.served.read().clone();
        let found = served.iter().find(|one| one.resource.kind == kind && one.resource.group == group(api_version));
        found.cloned().ok_or_else(|| Error::Other(format!("no kind {kind} in {api_version} is served")))
    }

    fn api(&self, identity: &Identity) -> Result<Api<DynamicObject>, Error> {
        Ok(self.kind(&identity.api_version, &identity.kind)?.api(self.client(), &identity.namespace))
    }

    fn client(&self) -> &Client {
        &self.context.client
    }

    async fn live(&self, identity: &Identity) -> Result<Option<ObjectMeta>, Error> {
        Ok(self.api(identity)?.get_metadata_opt(&identity.name).await?.map(|object| object.metadata))
    }

    async fn owner(&self, reference: &OwnerReference, namespace: &str) -> Result<Owner, Error> {
        let served = self.kind(&reference.api_version, &reference.kind)?;
        // An owner is in the same namespace or in none.
        if served.namespaced && namespace.is_empty() {
            return Ok(Owner::Absent);
        }
        let live = served.api(self.client(), namespace).get_metadata_opt(&reference.name).await?;
        Ok(Owner::of(reference, live.as_ref().map(|live| &live.metadata)))
    }

    async fn examine(&self, uid: &str) -> Result<(), Error> {
        let Some(identity) = self.graph.lock().identity(uid).cloned() else { return Ok(()) };
        let live = self.live(&identity).await?.filter(|live| meta::uid(live) == uid);
        let Some(live) = live else {
            self.remove(uid, &identity.namespace);
            return Ok(());
        };
        let mut owners = Vec::new();
        if !meta::is_deleting(&live) {
            for reference in live.owner_references.iter().flatten() {
                owners.push(self.owner(reference, &identity.namespace).await?);
            }
        }
        let situation = self.graph.lock().situation(uid);
        match gc::judge(&live, &owners, &situation) {
            Verdict::Keep => {}
            Verdict::Delete(propagation) => self.delete(&identity, &live, propagation).await?,
            Verdict::SetOwners(owners) => self.patch(&identity, &live, json!({ "ownerReferences": owners })).await?,
            Verdict::UnblockAndDelete(owners) => {
                self.patch(&identity, &live, json!({ "ownerReferences": owners })).await?;
                self.delete(&identity, &live, Propagation::Foreground).await?;
            }
            Verdict::Finish => self.drop_finalizer(&identity, &live, gc::FOREGROUND).await?,
            Verdict::Chase(uids) => uids.into_iter().for_each(|uid| self.queue.add((Kind::Examine, uid))),
        }
        Ok(())
    }

    /// Lets the dependents of an object go, and then the object itself.
    async fn orphan(&self, uid: &str) -> Result<(), Error> {
        let (identity, dependents) = {
            let graph = self.graph.lock();
            let Some(identity) = graph.identity(uid).cloned() else { return Ok(()) };
            (identity, graph.dependents(uid))
        };
        for dependent in dependents {
            let Some(live) = self.live(&dependent).await?.filter(|live| meta::uid(live) == dependent.uid) else {
                continue;
            };
            if let Some(owners) = gc::without_owner(&live, uid) {
                self.patch(&dependent, &live, json!({ "ownerReferences": owners })).await?;
            }
        }
        match self.live(&identity).await?.filter(|live| meta::uid(live) == uid) {
            Some(live) => self.drop_finalizer(&identity, &live, gc::ORPHAN).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, identity: &Identity, live: &ObjectMeta, propagation: Propagation) -> Result<(), Error> {
        let policy = match propagation {
            Propagation::Background => PropagationPolicy::Background,
            Propagation::Foreground => PropagationPolicy::Foreground,
            Propagation::Orphan => PropagationPolicy::Orphan,
        };
        let same = Preconditions { uid: live.uid.clone(), resource_version: None };
        let how =
            DeleteParams { propagation_policy: Some(policy), preconditions: Some(same), ..DeleteParams::default() };
        match self.api(identity)?.delete(&identity.name, &how).await {
            Err(error) if client::is_not_found(&error) => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    async fn drop_finalizer(&self, identity: &Identity, live: &ObjectMeta, finalizer: &str) -> Result<(), Error> {
        let present = live.finalizers.clone().unwrap_or_default();
        if !present.iter().any(|one| one == finalizer) {
            return Ok(());
        }
        let left: Vec<String> = present.into_iter().filter(|one| one != finalizer).collect();
        self.patch(identity, live, json!({ "finalizers": left })).await
    }

    /// Writes metadata fields, if nobody has changed the object since it was read.
    async fn patch(&self, identity: &Identity, live: &ObjectMeta, mut fields: serde_json::Value) -> Result<(), Error> {
        fields["uid"] = json!(live.uid);
        fields["resourceVersion"] = json!(live.resource_version);
        let patch = Patch::Merge(json!({ "metadata": fields }));
        match self.api(identity)?.patch_metadata(&identity.name, &PatchParams::default(), &patch).await {
            Err(error) if client::is_not_found(&error) => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }
}

impl Controller for Collector {
    type Key = Key;
    const NAME: &'static str = "garbage-collector";
    const QUEUE: &'static str = "garbage_collector_attempt_to_delete";

    async fn reconcile(&self, (kind, uid): &Key) -> Result<Option<Duration>, Error> {
        match kind {
            Kind::Examine => self.examine(uid).await?,
            Kind::Orphan => self.orphan(uid).await?,
        }
        Ok(None)
    }
}
