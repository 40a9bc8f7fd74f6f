//! What every controller gets: the client, the clock, the shared views, and a recorder under its own name.

use std::sync::Arc;

use client::{Client, EventType, Informers, Recorder, kube::Resource};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use reconcile::{Notice, Severity, endpointslice, meta, pod, resourceclaim};
use runtime::{Clock, Tasks};

use crate::{
    cache::{Cache, by_owner, in_namespace, on_node},
    pods::PodControl,
    tracker::Tracker,
};

/// The namespace of the nodes' leases.
pub const LEASES: &str = "kube-node-lease";
/// The group of pods that have ended.
pub const FINISHED: &str = "finished";

#[derive(Clone)]
pub struct Context {
    pub client: Client,
    pub clock: Clock,
    pub tasks: Tasks,
    pub caches: Caches,
}

impl Context {
    /// A recorder of events in the name of `component`.
    pub fn recorder(&self, component: &str) -> Recorder {
        Recorder::new(self.client.clone(), component, "", self.clock.clone(), &self.tasks)
    }

    pub fn pod_control(&self, component: &str) -> PodControl {
        PodControl {
            client: self.client.clone(),
            recorder: self.recorder(component),
            clock: self.clock.clone(),
            tracker: Tracker::default(),
        }
    }

    /// Records what a decision asked to be recorded.
    pub fn notice<K: Resource<DynamicType = ()>>(&self, recorder: &Recorder, about: &K, notice: Notice) {
        let kind = match notice.severity {
            Severity::Normal => EventType::Normal,
            Severity::Warning => EventType::Warning,
        };
        recorder.about(about, kind, notice.reason, notice.message);
    }
}

/// One view of each kind, shared by all controllers.
#[derive(Clone)]
pub struct Caches {
    pub pods: Arc<Cache<Pod>>,
    pub sets: Arc<Cache<ReplicaSet>>,
    pub deployments: Arc<Cache<Deployment>>,
    pub jobs: Arc<Cache<Job>>,
    pub services: Arc<Cache<Service>>,
    pub slices: Arc<Cache<EndpointSlice>>,
    pub endpoints: Arc<Cache<Endpoints>>,
    pub namespaces: Arc<Cache<Namespace>>,
    pub nodes: Arc<Cache<Node>>,
    pub leases: Arc<Cache<Lease>>,
    pub accounts: Arc<Cache<ServiceAccount>>,
    pub configs: Arc<Cache<ConfigMap>>,
    pub claims: Arc<Cache<ResourceClaim>>,
    pub templates: Arc<Cache<ResourceClaimTemplate>>,
    pub budgets: Arc<Cache<PodDisruptionBudget>>,
}

/// The group of a Service's slices.
pub fn of_service(namespace: &str, service: &str) -> String {
    format!("service/{namespace}/{service}")
}

/// The group of pods that know of a claim for devices.
pub fn uses_claim(namespace: &str, claim: &str) -> String {
    format!("claim/{namespace}/{claim}")
}

/// The group of pods that ask for claims from a template.
pub fn uses_template(namespace: &str, template: &str) -> String {
    format!("template/{namespace}/{template}")
}

impl Caches {
    pub fn new(informers: &Informers) -> Self {
        Caches {
            pods: Cache::new(informers.all(), |pod: &Pod| {
                let mut groups = by_owner(&pod.metadata);
                groups.extend(pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).map(on_node));
                groups.extend(pod::is_finished(pod).then(|| FINISHED.to_owned()));
                let namespace = meta::namespace(&pod.metadata);
                groups.extend(resourceclaim::claims_of(pod).into_iter().map(|claim| uses_claim(namespace, claim)));
                let templates = resourceclaim::templates_of(pod).into_iter();
                groups.extend(templates.map(|template| uses_template(namespace, template)));
                groups
            }),
            sets: Cache::new(informers.all(), |set: &ReplicaSet| by_owner(&set.metadata)),
            deployments: Cache::new(informers.all(), |one: &Deployment| by_owner(&one.metadata)),
            jobs: Cache::new(informers.all(), |job: &Job| by_owner(&job.metadata)),
            services: Cache::new(informers.all(), |service: &Service| {
                vec![in_namespace(meta::namespace(&service.metadata))]
            }),
            slices: Cache::new(informers.all(), |slice: &EndpointSlice| {
                let ours =
                    meta::label(&slice.metadata, endpointslice::MANAGED_BY_LABEL) == Some(endpointslice::MANAGER);
                let service = meta::label(&slice.metadata, endpointslice::SERVICE_LABEL).filter(|_| ours);
                service.map(|name| of_service(meta::namespace(&slice.metadata), name)).into_iter().collect()
            }),
            endpoints: Cache::new(informers.all(), |_: &Endpoints| Vec::new()),
            namespaces: Cache::new(informers.all(), |_: &Namespace| Vec::new()),
            nodes: Cache::new(informers.all(), |_: &Node| Vec::new()),
            leases: Cache::new(informers.all(), |_: &Lease| Vec::new()),
            // Only the two names that matter: a cluster has many of these kinds, and large ones.
            accounts: Cache::new(informers.selected("metadata.name=default"), |_: &ServiceAccount| Vec::new()),
            configs: Cache::new(informers.selected("metadata.name=kube-root-ca.crt"), |_: &ConfigMap| Vec::new()),
            claims: Cache::new(informers.all(), |claim: &ResourceClaim| by_owner(&claim.metadata)),
            templates: Cache::new(informers.all(), |_: &ResourceClaimTemplate| Vec::new()),
            budgets: Cache::new(informers.all(), |budget: &PodDisruptionBudget| {
                vec![in_namespace(meta::namespace(&budget.metadata))]
            }),
        }
    }

    pub fn start(&self, tasks: &Tasks) {
        self.namespaces.start(tasks);
        self.deployments.start(tasks);
        self.sets.start(tasks);
        self.jobs.start(tasks);
        self.services.start(tasks);
        self.slices.start(tasks);
        self.endpoints.start(tasks);
        self.nodes.start(tasks);
        self.leases.start(tasks);
        self.accounts.start(tasks);
        self.configs.start(tasks);
        self.claims.start(tasks);
        self.templates.start(tasks);
        self.budgets.start(tasks);
        self.pods.start(tasks);
    }

    pub async fn primed(&self) {
        futures::join!(
            self.namespaces.primed(),
            self.deployments.primed(),
            self.sets.primed(),
            self.jobs.primed(),
            self.services.primed(),
            self.slices.primed(),
            self.endpoints.primed(),
            self.nodes.primed(),
            self.leases.primed(),
            self.accounts.primed(),
            self.configs.primed(),
            self.claims.primed(),
            self.templates.primed(),
            self.budgets.primed(),
            self.pods.primed(),
        );
    }
}
