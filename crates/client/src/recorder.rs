//! Records Kubernetes Events (core/v1) about objects. Never waits: where more come than the API takes, the newest are
//! discarded and counted.

mod writer;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, Resource};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use runtime::{Clock, Tasks};
use tokio::sync::mpsc::{self, error::TrySendError};

use self::writer::Writer;

/// Events that wait to be written; past it new ones are discarded.
const QUEUE: usize = 4096;
/// How often the log says that events were discarded.
const TELL_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn text(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// A handle that records events without waiting.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Record>,
    clock: Clock,
    discarded: Counter,
    told: Arc<Mutex<Told>>,
}

/// What the log has said of events that were discarded.
#[derive(Default)]
struct Told {
    at: Option<Duration>,
    count: u64,
}

struct Record {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    /// The name of an annotation, and its value.
    annotation: Option<(&'static str, String)>,
    at: Timestamp,
}

impl Recorder {
    /// Records as `component` (for example `kubelet`) on `host` (empty: none).
    pub fn new(client: Client, component: &str, host: &str, clock: Clock, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tasks.spawn("events", Writer::new(client, component, host).run(receiver));
        Recorder { sender, clock, discarded: Counter::default(), told: Arc::default() }
    }

    /// The same as another component; what either discards is counted together.
    #[must_use]
    pub fn of(&self, client: Client, component: &str, host: &str, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tasks.spawn("events", Writer::new(client, component, host).run(receiver));
        Recorder { sender, ..self.clone() }
    }

    /// How many events were discarded because too many waited; for its owner to register.
    pub fn discarded(&self) -> Counter {
        self.discarded.clone()
    }

    /// Records that `reason` happened to `about`.
    pub fn event(&self, about: &ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        self.annotated_event(about, kind, reason, message, None);
    }

    /// As [`Recorder::event`], with an annotation of the event if there is one.
    pub fn annotated_event(
        &self,
        about: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
        annotation: Option<(&'static str, String)>,
    ) {
        let (reason, message, at) = (reason.to_owned(), message.into(), self.clock.now());
        let record = Record { about: about.clone(), kind, reason, message, annotation, at };
        // A closed channel is the group's end, when nothing is written any more.
        if let Err(TrySendError::Full(_)) = self.sender.try_send(record) {
            self.discard();
        }
    }

    fn discard(&self) {
        self.discarded.inc();
        let now = self.clock.monotonic();
        let mut told = self.told.lock();
        if told.at.is_none_or(|at| now.saturating_sub(at) >= TELL_EVERY) {
            let count = self.discarded.get();
            tracing::warn!(count = count - told.count, "events discarded: they come faster than they can be written");
            *told = Told { at: Some(now), count };
        }
    }

    /// Records about an object.
    pub fn about<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.event(&object_reference(object), kind, reason, message);
    }
}

/// A reference to `object` as events carry it.
pub fn object_reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
