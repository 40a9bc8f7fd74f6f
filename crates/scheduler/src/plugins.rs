//! Plugins that come from outside of this crate: how they are recognised in a configuration, made, and heard while they run.
//!
//! ```text
//!   pluginConfig ──claims──▶ Plugins ──make(Place)──▶ Box<dyn sched::Plugin> ──▶ profile ──▶ engine
//!                                                       │ Notices (bounded)
//!                                                       └──────▶ driver ──▶ events, Engine::renew
//! ```
//!
//! A kind of plugins is one type that implements [`Plugins`], and one line where [`crate::Options::plugins`] is filled.

use std::{collections::HashSet, sync::Arc};

use prometheus_client::metrics::counter::Counter;
use runtime::{Clock, Tasks};
use sched::{Pod, framework::Plugin};
use sched_config::{Catalogue, KubeSchedulerConfiguration, Point, Value, v1::Args};
use telemetry::Metrics;
use tokio::sync::mpsc;

use crate::profiles::POINTS;

/// Notices that wait for the driver; past it, events are discarded and counted, and renewals wait.
const MAX_NOTICES: usize = 256;

/// Plugins of one kind, of which a configuration may name any number.
pub trait Plugins: Send + Sync {
    /// Whether arguments (`pluginConfig`) are those of such a plugin.
    fn claims(&self, args: &Value) -> bool;

    /// Where such plugins may be enabled.
    fn points(&self) -> &'static [Point];

    /// Makes the plugin with this name. An error says what is wrong with its arguments.
    fn make(&self, name: &str, args: &Value, place: Place) -> Result<Box<dyn Plugin>, String>;
}

/// Where a plugin lives.
#[derive(Clone)]
pub struct Place {
    pub clock: Clock,
    /// They end with the scheduler.
    pub tasks: Tasks,
    pub metrics: Metrics,
    pub notices: Notices,
}

/// The plugins that a configuration can name: Kubernetes' own, the engine's further ones, and those that it gives arguments
/// which somebody claims.
pub fn catalogue(plugins: &[Arc<dyn Plugins>], configuration: &KubeSchedulerConfiguration) -> Catalogue {
    let mut catalogue = Catalogue::in_tree();
    for (plugin, _) in sched::plugins::further() {
        let configured = |point: &sched::framework::Point| POINTS.iter().find(|(_, own)| own == point);
        catalogue.add(plugin.name(), plugin.points().iter().filter_map(configured).map(|(point, _)| *point));
    }
    for config in configuration.profiles.iter().flat_map(|profile| &profile.plugin_config) {
        let Args::Other(args) = &config.args else { continue };
        if let Some(plugins) = plugins.iter().find(|plugins| plugins.claims(args)) {
            // A name of Kubernetes' stays Kubernetes'; one that two profiles have is the same in both.
            catalogue.add(&config.name, plugins.points().iter().copied());
        }
    }
    catalogue
}

/// What a plugin tells beside its answers. A handle that never waits where the engine would.
#[derive(Clone)]
pub struct Notices {
    sender: mpsc::Sender<Notice>,
    discarded: Counter,
}

pub(crate) enum Notice {
    /// Something that whoever owns the pod should know.
    Event(PodEvent),
    /// The plugin with this name has changed.
    Renewed(String),
}

/// An event about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub warning: bool,
    pub reason: String,
    pub note: String,
}

impl PodEvent {
    /// A warning about a pod.
    pub fn warning(pod: &Pod, reason: &str, note: String) -> Self {
        let (namespace, name, uid) = (pod.namespace.clone(), pod.name.clone(), pod.uid.clone());
        PodEvent { namespace, name, uid, warning: true, reason: reason.to_owned(), note }
    }
}

impl Notices {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(MAX_NOTICES);
        (Notices { sender, discarded: Counter::default() }, receiver)
    }

    /// Records an event, unless too many wait.
    pub fn event(&self, event: PodEvent) {
        if self.sender.try_send(Notice::Event(event)).is_err() {
            self.discarded.inc();
        }
    }

    /// Has the engine renew the plugin, forget what it has said, and try again what it has rejected.
    pub async fn renewed(&self, plugin: &str) {
        // Without a driver there is nothing to renew.
        let _ = self.sender.send(Notice::Renewed(plugin.to_owned())).await;
    }

    /// How many events were discarded.
    pub(crate) fn discarded(&self) -> Counter {
        self.discarded.clone()
    }
}

/// The plugins of one profile that are not Kubernetes'.
pub(crate) struct Outside<'a> {
    pub plugins: &'a [Arc<dyn Plugins>],
    pub place: &'a Place,
    /// Names that were made already: figures and renewals go by them.
    pub made: HashSet<String>,
}

impl Outside<'_> {
    /// The plugin with this name and these arguments; `None`: nobody claims it.
    pub fn make(&mut self, name: &str, args: &Value) -> Option<Result<Box<dyn Plugin>, String>> {
        let plugins = self.plugins.iter().find(|plugins| plugins.claims(args))?;
        if !self.made.insert(name.to_owned()) {
            return Some(Err("two profiles have a plugin of this name: give each its own".to_owned()));
        }
        Some(plugins.make(name, args, self.place.clone()))
    }
}
