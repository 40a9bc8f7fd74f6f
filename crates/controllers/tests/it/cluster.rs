//! A control plane without nodes, and ways to wait for what it does.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use apiserver::{ApiServer, Identity, ServiceAccountOptions};
use client::{
    Client, Informers,
    kube::{Api, Resource, api::PostParams},
};
use controllers::{Handle, Options, Service};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use runtime::{Clock, Tasks};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(15);

pub struct Cluster {
    pub client: Client,
    pub informers: Informers,
    pub clock: Clock,
    pub tasks: Tasks,
    handle: Handle,
    _folder: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let (clock, tasks) = (Clock::system(), Tasks::root());
        let folder = tempfile::tempdir().unwrap();
        let options = store::Options::new(folder.path().join("store"), clock.clone(), tasks.child("store"));
        let store = Arc::new(store::Store::open(options).await.unwrap());
        let accounts = ServiceAccountOptions {
            signing_key: apiserver::generate_signing_key().unwrap(),
            issuer: "https://kubernetes.default.svc".into(),
            audiences: vec!["https://kubernetes.default.svc".into()],
        };
        let metrics = telemetry::Metrics::default();
        let options =
            apiserver::Options::new(store, accounts, clock.clone(), tasks.child("apiserver"), metrics.clone());
        let server = ApiServer::start(options).await.unwrap();
        server.ready().await;
        let client = Client::new(server.local(Identity::admin()), "default");
        let informers = Informers::new(client.clone(), tasks.child("informers"));
        let mut options = Options::new(informers.clone(), clock.clone(), tasks.clone(), metrics, "PEM".into());
        change(&mut options);
        let handle = Service::start(options);
        within("the controllers are synced", handle.synced()).await;
        let cluster = Cluster { client, informers, clock, tasks, handle, _folder: folder };
        // Without it the API admits no pod.
        let named = |all: &[Arc<ServiceAccount>]| all.iter().any(|one| one.metadata.name.as_deref() == Some("default"));
        cluster.until("the default account", named).await;
        cluster
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi_scope::Namespaced>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi_scope::Namespaced>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Waits until the objects of a kind in the namespace `default` satisfy `holds`.
    pub async fn until<K>(&self, what: &str, holds: impl Fn(&[Arc<K>]) -> bool) -> Vec<Arc<K>>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
    {
        let informer = self.informers.all::<K>();
        let mut subscription = informer.subscribe();
        let here = |object: &K| object.meta().namespace.as_deref().is_none_or(|namespace| namespace == "default");
        let waits = async {
            loop {
                let objects = informer.filtered(here);
                if holds(&objects) {
                    return objects;
                }
                subscription.next().await;
            }
        };
        match tokio::time::timeout(DEADLINE, waits).await {
            Ok(objects) => objects,
            Err(_) => {
                let objects = informer.filtered(here);
                let texts: Vec<String> = objects.iter().filter_map(|o| serde_json::to_string(&**o).ok()).collect();
                panic!("never seen: {what}\n{}", texts.join("\n"))
            }
        }
    }

    /// Marks every pod as running and ready (or, in a Job, as succeeded) as soon as it appears.
    pub fn run_pods(&self) {
        let (informer, client) = (self.informers.all::<Pod>(), self.client.clone());
        self.tasks.spawn("stand-in", async move {
            let mut subscription = informer.subscribe();
            let mut count = 0;
            loop {
                let change = subscription.next().await;
                let Some(pod) = change.new.filter(|pod| pod.metadata.deletion_timestamp.is_none()) else { continue };
                if pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending") != "Pending" {
                    continue;
                }
                count += 1;
                let in_job =
                    pod.metadata.labels.as_ref().is_some_and(|l| l.contains_key("batch.kubernetes.io/job-name"));
                let mut pod = (*pod).clone();
                pod.status = serde_json::from_value(json!({
                    "phase": if in_job { "Succeeded" } else { "Running" },
                    "podIP": format!("10.42.0.{count}"),
                    "podIPs": [{"ip": format!("10.42.0.{count}")}],
                    "conditions": [{"type": "Ready", "status": if in_job { "False" } else { "True" },
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                }))
                .unwrap();
                let api = Api::<Pod>::namespaced(client.clone(), &change.key.namespace);
                // Whoever was faster makes another change, and that is looked at again.
                let _ = api.replace_status(&change.key.name, &PostParams::default(), &pod).await;
            }
        });
    }

    pub async fn stop(self) {
        self.handle.stop(Duration::from_secs(5)).await;
        self.tasks.stop();
    }
}

/// Fails the test if `future` does not end in time.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("never seen: {what}"),
    }
}

/// The scope of kinds that live in namespaces.
pub mod k8s_openapi_scope {
    pub use k8s_openapi::NamespaceResourceScope as Namespaced;
}

/// A Deployment of `replicas` pods.
pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]},
            },
        },
    })
}
