//! The controllers: each brings one kind of object to what it asks for.
//!
//! ```text
//!   informer ─▶ Cache (indexes, then listeners) ─▶ Queue of keys ─▶ Controller::reconcile
//!                  ▲                                                  │ objects in, actions out: crate `reconcile`
//!                  └──────────── watch ◀── API ◀── writes ◀───────────┘
//! ```
//!
//! What is decided stands in crate `reconcile`; here are only the queues, the caches and the writes. Knows no store and
//! no API server: the world is reached through crate `client`.

mod cache;
mod context;
mod deployment;
mod discovery;
mod disruption;
mod endpoints;
mod gc;
mod job;
mod metrics;
mod namespace;
mod node;
mod podgc;
mod pods;
mod queue;
mod replicaset;
mod resourceclaim;
mod serviceaccount;
mod tracker;
mod worker;

use std::{sync::Arc, time::Duration};

use client::{Informers, Key};
use reconcile::{meta, node::Grace};
use runtime::{Clock, Tasks};

use context::{Caches, Context};
use queue::Queue;
use worker::Controller;

/// A namespace is looked at so soon after one of its objects has gone: more go at the same time.
const EMPTYING_PAUSE: Duration = Duration::from_millis(20);

/// What the controllers need.
pub struct Options {
    pub informers: Informers,
    pub clock: Clock,
    /// The parent of the controllers' own group of tasks.
    pub tasks: Tasks,
    /// Where the queues are counted.
    pub metrics: telemetry::Metrics,
    /// The certificate authority that every namespace gets in `kube-root-ca.crt`.
    pub cluster_ca_pem: String,
    /// A node that has not reported for so long is Unknown.
    pub node_monitor_grace_period: Duration,
    /// As above, for a node that has never reported.
    pub node_startup_grace_period: Duration,
    /// Ended pods that are kept.
    pub terminated_pod_gc_threshold: usize,
    /// Pods of a node that does not exist are deleted after so long.
    pub orphan_quarantine: Duration,
}

impl Options {
    /// kube-controller-manager's defaults.
    pub fn new(
        informers: Informers,
        clock: Clock,
        tasks: Tasks,
        metrics: telemetry::Metrics,
        cluster_ca_pem: String,
    ) -> Self {
        Options {
            informers,
            clock,
            tasks,
            metrics,
            cluster_ca_pem,
            node_monitor_grace_period: Duration::from_secs(40),
            node_startup_grace_period: Duration::from_secs(60),
            terminated_pod_gc_threshold: 12_500,
            orphan_quarantine: Duration::from_secs(40),
        }
    }
}

/// All controllers of a cluster.
pub struct Service;

/// A handle on the running controllers.
#[derive(Clone)]
pub struct Handle {
    tasks: Tasks,
    caches: Caches,
    collector: Arc<gc::Collector>,
}

impl Service {
    /// Starts watching; the controllers begin to act as soon as their caches are full.
    pub fn start(options: Options) -> Handle {
        let tasks = options.tasks.child("controllers");
        let caches = Caches::new(&options.informers);
        let context = Context {
            client: options.informers.client(),
            clock: options.clock.clone(),
            tasks: tasks.clone(),
            caches: caches.clone(),
        };
        let collector = controllers(&context, &options);
        caches.start(&tasks);
        collector.start();
        Handle { tasks, caches, collector }
    }
}

impl Handle {
    /// Waits until every controller works from a full view.
    pub async fn synced(&self) {
        self.caches.primed().await;
        self.collector.synced().await;
    }

    /// Stops all controllers; what they were writing is cut where it waits, and taken up by the next start.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.tasks.stop();
        self.tasks.join(limit).await
    }
}

/// Makes the controllers and lets each run once the caches are full.
fn controllers(context: &Context, options: &Options) -> Arc<gc::Collector> {
    let metrics = metrics::Metrics::register(&options.metrics);
    let queue = |name| Queue::<Key>::new(options.clock.clone(), metrics.queue(name));
    let grace = Grace { monitor: options.node_monitor_grace_period, startup: options.node_startup_grace_period };

    let accounts = queue(serviceaccount::Accounts::QUEUE);
    run(context, serviceaccount::Accounts::new(context, &accounts, options.cluster_ca_pem.clone()), accounts);
    let deployments = queue(deployment::Deployments::QUEUE);
    run(context, deployment::Deployments::new(context, &deployments), deployments);
    let sets = queue(replicaset::ReplicaSets::QUEUE);
    run(context, replicaset::ReplicaSets::new(context, &sets), sets);
    let jobs = queue(job::Jobs::QUEUE);
    run(context, job::Jobs::new(context, &jobs), jobs);
    let services = queue(endpoints::ServiceEndpoints::QUEUE);
    run(context, endpoints::ServiceEndpoints::new(context, &services), services);
    let nodes = queue(node::Nodes::QUEUE);
    run(context, node::Nodes::new(context, &nodes, grace), nodes);
    let ended = queue(podgc::PodGc::QUEUE);
    let threshold = options.terminated_pod_gc_threshold;
    run(context, podgc::PodGc::new(context, &ended, threshold, options.orphan_quarantine), ended);
    let claims = Queue::new(options.clock.clone(), metrics.queue(resourceclaim::ResourceClaims::QUEUE));
    run(context, resourceclaim::ResourceClaims::new(context, &claims), claims);
    let budgets = Queue::new(options.clock.clone(), metrics.queue(disruption::Disruptions::QUEUE));
    run(context, disruption::Disruptions::new(context, &budgets), budgets);
    let namespaces = queue(namespace::Namespaces::QUEUE);
    run(context, namespace::Namespaces::new(context, &namespaces), namespaces.clone());

    let known = context.caches.namespaces.clone();
    let on_deleted = move |namespace: &str| {
        let key = Key::new("", namespace);
        if known.get(&key).is_some_and(|namespace| meta::is_deleting(&namespace.metadata)) {
            namespaces.add_after(key, EMPTYING_PAUSE);
        }
    };
    let garbage = Queue::new(options.clock.clone(), metrics.queue(gc::Collector::QUEUE));
    let collector = gc::Collector::new(context, &garbage, Arc::new(on_deleted));
    let (tasks, this) = (context.tasks.clone(), collector.clone());
    context.tasks.spawn("gc-start", async move {
        this.synced().await;
        worker::run(&tasks, this.clone(), garbage);
    });
    collector
}

fn run<C: Controller>(context: &Context, controller: Arc<C>, queue: Queue<C::Key>) {
    let (tasks, caches) = (context.tasks.clone(), context.caches.clone());
    context.tasks.spawn("controller-start", async move {
        caches.primed().await;
        worker::run(&tasks, controller, queue);
    });
}
