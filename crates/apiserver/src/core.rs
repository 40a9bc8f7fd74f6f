//! What every request shares: the store, the kinds with their caches, and the services of the pipeline's steps.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use registry::{Context, Registry, Resource, Status};
use runtime::{CancellationToken, Clock, Tasks, entropy};
use store_api::{KeyValue, RangeRequest, Revision, Store};
use tokio::sync::watch;

use crate::{
    authenticate::Authenticator,
    cache::{Cache, state::Scope},
    events::EventLeases,
    fairness::Fairness,
    metrics::ServerMetrics,
    options::{ConnectionLimits, NodeDialer},
    parsed::Parsed,
    respond,
    specs::Specs,
    token::Tokens,
};

/// One kind as it is served.
pub(crate) struct Served {
    pub resource: &'static Resource,
    /// None for kinds that are answered and never stored.
    pub cache: Option<Arc<Cache>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub connections: ConnectionLimits,
    pub max_body: usize,
    pub request_timeout: std::time::Duration,
}

/// How services get their addresses and ports.
pub(crate) struct ServiceRanges {
    pub cidr: ipnet::Ipv4Net,
    pub node_ports: std::ops::RangeInclusive<u16>,
}

pub(crate) struct Core {
    pub store: Arc<dyn Store>,
    pub registry: &'static Registry,
    kinds: Kinds,
    pub clock: Clock,
    pub tasks: Tasks,
    pub authenticator: Authenticator,
    pub tokens: Tokens,
    pub fairness: Arc<Fairness>,
    pub metrics: ServerMetrics,
    pub all_metrics: telemetry::Metrics,
    pub limits: Limits,
    pub ranges: ServiceRanges,
    pub node_dialer: Arc<dyn NodeDialer>,
    pub event_leases: EventLeases,
    pub parsed: Parsed,
    pub specs: Specs,
    /// Why the server is not ready; empty when it is.
    pub not_ready: watch::Sender<String>,
    pub stopping: CancellationToken,
}

/// The kinds with their caches, found by their names in a path.
pub(crate) struct Kinds {
    served: Vec<Served>,
    /// Places in the list by plural name. Hardly two groups share one.
    by_plural: HashMap<&'static str, Vec<usize>>,
}

impl Kinds {
    pub fn new(registry: &'static Registry, store: &Arc<dyn Store>, tasks: &Tasks) -> Self {
        let mut by_plural: HashMap<&'static str, Vec<usize>> = HashMap::new();
        let served = registry.resources().iter().enumerate().map(|(at, resource)| {
            let kind = resource.kind();
            by_plural.entry(&kind.plural).or_default().push(at);
            let cache = kind.stored().then(|| Cache::new(resource, store.clone(), tasks.clone()));
            Served { resource, cache }
        });
        Kinds { served: served.collect(), by_plural }
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Served> {
        self.by_plural.get(plural)?.iter().map(|at| &self.served[*at]).find(|served| {
            let kind = served.resource.kind();
            kind.group == group && kind.version == version
        })
    }

    /// Every cache with the name that figures give it, such as `deployments.apps`.
    pub fn caches(&self) -> Vec<(String, Arc<Cache>)> {
        let named = self.served.iter().filter_map(|served| {
            let kind = served.resource.kind();
            let name = match kind.group.as_ref() {
                "" => kind.plural.to_string(),
                group => format!("{}.{group}", kind.plural),
            };
            Some((name, served.cache.clone()?))
        });
        named.collect()
    }
}

impl Core {
    pub fn new(
        options: crate::options::Options,
        kinds: Kinds,
        tokens: Tokens,
        authenticator: Authenticator,
        fairness: Arc<Fairness>,
        metrics: ServerMetrics,
    ) -> Self {
        Core {
            registry: Registry::builtin(),
            kinds,
            event_leases: EventLeases::default(),
            parsed: Parsed::default(),
            specs: Specs::default(),
            authenticator,
            tokens,
            fairness,
            metrics,
            all_metrics: options.metrics,
            limits: Limits {
                connections: options.connections,
                max_body: options.max_body,
                request_timeout: options.request_timeout,
            },
            ranges: ServiceRanges { cidr: options.service_cidr, node_ports: options.node_ports },
            node_dialer: options.node_dialer,
            store: options.store,
            clock: options.clock,
            stopping: options.tasks.stopping(),
            tasks: options.tasks,
            not_ready: watch::channel("starting".to_owned()).0,
        }
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Served> {
        self.kinds.find(group, version, plural)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The circumstances of one write.
    pub fn context(&self) -> Context {
        Context::new(self.now(), entropy::bytes())
    }

    /// An object's key and value, straight from the store.
    pub async fn read(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, Status> {
        let mut response =
            self.store.range(RangeRequest::key(key)).await.map_err(|error| respond::store_error(&error))?;
        Ok(response.kvs.pop())
    }

    /// An object that the server itself asks for, such as a namespace. Read from the store and not from a cache, because
    /// what depends on it must not be decided by a moment ago: a namespace that goes takes no new objects.
    pub async fn neighbour(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<serde_json::Value>>, Status> {
        let served = ["v1", "v1alpha2"].into_iter().find_map(|version| self.find(group, version, plural));
        let Some(served) = served else { return Ok(None) };
        let found = self.read(served.resource.key(namespace, name)).await?;
        Ok(found.map(|kv| self.parsed.value(served.resource, kv)))
    }

    /// All objects of a cluster-wide kind of which there are few, such as classes. From the store for the same reason, and
    /// because a class and the object that names it often come in one manifest.
    pub async fn all(&self, group: &str, plural: &str) -> Result<Vec<Arc<serde_json::Value>>, Status> {
        let Some(served) = self.find(group, "v1", plural) else { return Ok(Vec::new()) };
        let request = RangeRequest::prefix(served.resource.kind().prefix(None));
        let response = self.store.range(request).await.map_err(|error| respond::store_error(&error))?;
        Ok(response.kvs.into_iter().map(|kv| self.parsed.value(served.resource, kv)).collect())
    }

    /// The limit ranges of a namespace, by name. Every new pod asks for them and hardly a namespace has any, so they come
    /// from the watch cache; whoever writes one is answered when the cache has it: see [`Core::settle`]. Other servers see
    /// it as soon as their watch tells them.
    pub async fn limit_ranges(&self, namespace: &str) -> Result<Vec<Arc<serde_json::Value>>, Status> {
        let Some(Served { resource, cache: Some(cache) }) = self.limit_ranges_served() else { return Ok(Vec::new()) };
        let prefix = Bytes::from(resource.kind().prefix(Some(namespace)));
        if cache.wait_for(0).await.is_ok() {
            let (entries, revision) = cache.list(&Scope::Prefix(prefix.clone()));
            // At revision 0 it fills anew, and knows nothing.
            if revision > 0 {
                let values = entries.into_iter().map(|entry| {
                    let (key, value) = (entry.key.clone(), entry.value.clone());
                    let kv = KeyValue { key, value, mod_revision: entry.revision, ..KeyValue::default() };
                    self.parsed.value(resource, kv)
                });
                return Ok(values.collect());
            }
        }
        let response = self.store.range(RangeRequest::prefix(prefix)).await;
        let found = response.map_err(|error| respond::store_error(&error))?.kvs.into_iter();
        Ok(found.map(|kv| self.parsed.value(resource, kv)).collect())
    }

    /// Waits until the server itself goes by what was written: whoever was told that a limit range stands may count on it
    /// with the next pod.
    pub async fn settle(&self, resource: &Resource, revision: Revision) {
        if resource.kind().plural == "limitranges"
            && let Some(Served { cache: Some(cache), .. }) = self.limit_ranges_served()
        {
            // It is written all the same. A cache that does not come so far is one whose store does not answer.
            let _ = cache.wait_for(revision).await;
        }
    }

    fn limit_ranges_served(&self) -> Option<&Served> {
        self.find("", "v1", "limitranges")
    }
}
