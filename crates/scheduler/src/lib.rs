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
mod extenders;
mod feeds;
mod measured;
mod metrics;
mod plugins;
mod profiles;
pub mod why;

pub use plugins::{Notices, Place, Plugins, PodEvent, catalogue};
pub use profiles::ProfileError;

use std::{sync::Arc, time::Duration};

use client::{Client, Recorder};
use runtime::{Clock, Tasks};
use sched_config::Configuration;
use telemetry::Metrics;
use tokio::sync::watch;

/// The name that a pod's `schedulerName` has when it says nothing else.
pub const DEFAULT_NAME: &str = "default-scheduler";

/// What the scheduler needs.
pub struct Options {
    pub client: Client,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: Metrics,
    /// The profiles and all else that kube-scheduler's configuration says. Only pods that name one of the profiles are
    /// placed.
    pub configuration: Configuration,
    /// Plugins of other crates, by their kinds. The configuration must know them, too ([`catalogue`]).
    pub plugins: Vec<Arc<dyn Plugins>>,
    /// Of so many of the best nodes it is told why they were ([`why`]).
    pub named: usize,
    /// Breaks ties between equal nodes. With the same seed, the same inputs give the same decisions; `None`: by chance.
    pub seed: Option<u64>,
}

impl Options {
    /// A scheduler that was told nothing: kube-scheduler's default profile.
    pub fn new(client: Client, clock: Clock, tasks: Tasks, metrics: Metrics) -> Self {
        let (configuration, plugins) = (Configuration::default(), Vec::new());
        let named = sched::explanation::NAMED;
        Options { client, clock, tasks, metrics, configuration, plugins, named, seed: None }
    }
}

/// A running scheduler.
#[derive(Clone)]
pub struct Handle {
    state: watch::Sender<State>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// It knows everything that was there when it began.
    synced: bool,
    /// It may decide.
    leads: bool,
}

impl Handle {
    /// From now on it places pods.
    pub fn lead(&self) {
        self.state.send_modify(|state| state.leads = true);
    }

    /// Waits until it knows the cluster.
    pub async fn synced(&self) {
        // The handle holds the sender, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(|state| state.synced).await;
    }
}

/// Starts the scheduler: it learns what there is, and places pods once it leads ([`Handle::lead`]). It runs until the group of
/// tasks stops.
pub fn start(options: Options) -> Result<Handle, ProfileError> {
    let Options { client, clock, tasks, metrics, configuration, plugins, named, seed } = options;
    let extenders = extenders::Extenders::new(&configuration.extenders, &client)?;
    let (notices, told) = Notices::new();
    let discarded_notices = notices.discarded();
    let place = Place { clock: clock.clone(), tasks: tasks.clone(), metrics: metrics.clone(), notices };
    let figures = metrics::Metrics::register(&metrics);
    let meter = measured::Meter::new(clock.clone(), figures.plugins.clone());
    let engine = profiles::engine(&configuration, &plugins, &place, &meter)?;
    let unix_time = Duration::from_secs(u64::try_from(clock.now().as_second()).unwrap_or(0));
    let engine = sched::Engine::new(sched::Options {
        unix_start: unix_time.saturating_sub(clock.monotonic()),
        extenders: extenders.facts(),
        named,
        seed: seed.unwrap_or_else(runtime::entropy::random_u64),
        ..engine
    });
    let name = configuration.profiles.first().map_or(DEFAULT_NAME, |profile| profile.scheduler_name.as_str());
    let recorder = Recorder::new(client.clone(), name, "", clock.clone(), &tasks);
    let discarded = recorder.discarded();
    metrics.register(|registry| {
        registry.register("scheduler_events_discarded", "Events discarded because too many waited", discarded);
        let help = "Events of plugins discarded because too many waited";
        registry.register("scheduler_plugin_events_discarded", help, discarded_notices);
    });
    let inputs = driver::Inputs { changes: feeds::start(&client, &tasks, extenders.nodes()), notices: told };
    // Whoever reads an event sees which profile it was.
    let others = configuration.profiles.iter().skip(1).map(|profile| {
        let name = &profile.scheduler_name;
        (name.as_str().into(), recorder.of(client.clone(), name, "", &tasks))
    });
    let recorders = api::Recorders { others: others.collect(), first: recorder };
    let made_claims = figures.made_claims.clone();
    let api = api::Api { client, recorders, clock: clock.clone(), extenders, made_claims };
    let handle = Handle { state: watch::channel(State::default()).0 };
    let measures = driver::Measures { metrics: figures, sampler: measured::Sampler::new(meter) };
    let driver = driver::Driver::new(api, engine, inputs, handle.state.clone(), clock, tasks.clone(), measures);
    tasks.spawn_critical("scheduler", async move {
        driver.run().await;
        // The driver ends only with its group.
        Ok::<(), std::convert::Infallible>(())
    });
    Ok(handle)
}
