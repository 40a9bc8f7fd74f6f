//! The scheduler as a service: feeds pods and nodes from the API to the engine in crate `sched`, and carries out what
//! it decides.
//!
//! ```text
//!   feeds ──▶ Driver ──▶ sched::Engine ──▶ Decision ──▶ bind, evict, or say why not ──▶ API
//!                ▲                                                │
//!                └────────────────── how it went ─────────────────┘
//! ```
//!
//! Decides nothing itself and knows no API server: it reaches the world through crate `client`.

mod api;
mod driver;
mod feeds;
mod metrics;

use client::{Client, Recorder};
use runtime::{Clock, Tasks};
use telemetry::Metrics;

/// The name that a pod's `schedulerName` has when it says nothing else.
pub const DEFAULT_NAME: &str = "default-scheduler";

/// What the scheduler needs.
pub struct Options {
    pub client: Client,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: Metrics,
    /// The name that events are recorded under.
    pub name: String,
    /// How pods are placed.
    pub engine: sched::Options,
}

impl Options {
    /// The default scheduler with kube-scheduler's plugins.
    pub fn new(client: Client, clock: Clock, tasks: Tasks, metrics: Metrics) -> Self {
        let engine = sched::Options { seed: runtime::entropy::random_u64(), ..Default::default() };
        Options { client, clock, tasks, metrics, name: DEFAULT_NAME.to_owned(), engine }
    }
}

/// Starts the scheduler. It runs until the group of tasks stops.
pub fn start(options: Options) {
    let Options { client, clock, tasks, metrics, name, engine } = options;
    let recorder = Recorder::new(client.clone(), &name, "", clock.clone(), &tasks);
    let metrics = metrics::Metrics::register(&metrics, &name);
    let engine = sched::Engine::new(engine);
    let inputs = feeds::start(&client, &tasks);
    let api = api::Api { client, recorder, clock: clock.clone() };
    let driver = driver::Driver::new(api, engine, inputs, clock, tasks.clone(), metrics);
    tasks.spawn_critical("scheduler", async move {
        driver.run().await;
        // The driver ends only with its group.
        Ok::<(), std::convert::Infallible>(())
    });
}
