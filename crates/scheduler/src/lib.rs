//! The scheduler as a service: feeds pods and nodes from the API to the engine in crate `sched`, and carries out what
//! it decides.
//!
//! ```text
//!   informers ──▶ Driver ──▶ sched::Engine ──▶ Decision ──▶ bind, or say why not ──▶ API
//!                    ▲                                            │
//!                    └────────────── how it went ─────────────────┘
//! ```
//!
//! Decides nothing itself and knows no API server: it reaches the world through crate `client`.

mod api;
mod driver;
mod metrics;

use client::{Informers, Recorder};
use k8s_openapi::api::core::v1::{Node, Pod};
use runtime::{Clock, Tasks};
use telemetry::Metrics;

/// The name that a pod's `schedulerName` has when it says nothing else.
pub const DEFAULT_NAME: &str = "default-scheduler";

/// What the scheduler needs.
pub struct Options {
    /// The pods' and nodes' local copies, shared with the other parts of the process.
    pub informers: Informers,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: Metrics,
    /// The profiles and all else that kube-scheduler's configuration says. Only pods that name one of the profiles are
    /// placed.
    pub configuration: sched_config::Configuration,
    pub plugins: sched::plugins::Plugins,
}

impl Options {
    /// The default scheduler with kube-scheduler's plugins.
    pub fn new(informers: Informers, clock: Clock, tasks: Tasks, metrics: Metrics) -> Self {
        let plugins = sched::plugins::Plugins::default();
        let configuration = sched_config::Configuration::default();
        Options { informers, clock, tasks, metrics, configuration, plugins }
    }
}

/// Starts the scheduler. It runs until the group of tasks stops.
pub fn start(options: Options) {
    let Options { informers, clock, tasks, metrics, configuration, plugins } = options;
    let names: Vec<String> = configuration.profiles.into_iter().map(|profile| profile.scheduler_name).collect();
    let name = names.first().map_or(DEFAULT_NAME, String::as_str).to_owned();
    let recorder = Recorder::new(informers.client(), &name, "", clock.clone(), &tasks);
    let metrics = metrics::Metrics::register(&metrics, &name);
    let engine = sched::Engine::new(sched::Options { plugins, seed: runtime::entropy::random_u64() });
    let (pods, nodes) = (informers.all::<Pod>(), informers.all::<Node>());
    let api = api::Api { client: informers.client(), pods: pods.clone(), recorder, clock: clock.clone() };
    let driver = driver::Driver::new(api, engine, pods, nodes, clock, tasks.clone(), metrics, names);
    tasks.spawn_critical("scheduler", async move {
        driver.run().await;
        // The driver ends only with its group.
        Ok::<(), std::convert::Infallible>(())
    });
}
