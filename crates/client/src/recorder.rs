//! Writes Kubernetes Events (core/v1) about objects, merging repetitions into a count as client-go's correlator does.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use runtime::{Clock, Tasks};
use serde_json::json;
use tokio::sync::mpsc;

/// Events that wait to be written; past it new ones are dropped, with a line in the log.
const QUEUE: usize = 1024;
/// Repetitions remembered; the oldest half is forgotten past it.
const REMEMBERED: usize = 4096;
/// An event repeated after so long is a new event.
const MERGE_WINDOW: Duration = Duration::from_secs(600);

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
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Subject {
    namespace: String,
    uid: String,
    field_path: String,
    kind: EventType,
    reason: String,
    message: String,
}

struct Record {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

struct Known {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    /// Records as `component` (for example `kubelet`) on `host` (empty: none).
    pub fn new(client: Client, component: &str, host: &str, clock: Clock, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer { client, component: component.into(), host: host.into(), known: HashMap::new() };
        tasks.spawn("events", writer.run(receiver));
        Recorder { sender, clock }
    }

    /// Records that `reason` happened to `about`.
    pub fn event(&self, about: &ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        let record = Record {
            about: about.clone(),
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            at: self.clock.now(),
        };
        if let Err(error) = self.sender.try_send(record) {
            tracing::warn!(reason, %error, "event dropped");
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

struct Writer {
    client: Client,
    component: Arc<str>,
    host: Arc<str>,
    known: HashMap<Subject, Known>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Record>) {
        while let Some(record) = receiver.recv().await {
            let reason = record.reason.clone();
            if let Err(error) = self.write(record).await {
                tracing::debug!(reason, %error, "event not written");
            }
        }
    }

    async fn write(&mut self, record: Record) -> kube::Result<()> {
        let namespace = record.about.namespace.clone().unwrap_or_else(|| "default".into());
        let subject = Subject {
            namespace: namespace.clone(),
            uid: record.about.uid.clone().unwrap_or_else(|| record.about.name.clone().unwrap_or_default()),
            field_path: record.about.field_path.clone().unwrap_or_default(),
            kind: record.kind,
            reason: record.reason.clone(),
            message: record.message.clone(),
        };
        let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
        if let Some(known) = self.known.get_mut(&subject)
            && record.at.duration_since(known.last).unsigned_abs() < MERGE_WINDOW
        {
            let patch = json!({ "count": known.count + 1, "lastTimestamp": Time(record.at) });
            match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {
                    known.count += 1;
                    known.last = record.at;
                    return Ok(());
                }
                // It was deleted or has expired: write it anew.
                Err(error) if crate::is_not_found(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.event(&record, &namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        if self.known.len() >= REMEMBERED {
            let mut times: Vec<Timestamp> = self.known.values().map(|known| known.last).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            self.known.retain(|_, known| known.last > middle);
        }
        self.known.insert(subject, Known { name, count: 1, last: record.at });
        Ok(())
    }

    fn event(&self, record: &Record, namespace: &str) -> Event {
        let name = record.about.name.as_deref().unwrap_or_default();
        let suffix = runtime::entropy::random_u64();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{suffix:016x}")),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: record.about.clone(),
            reason: Some(record.reason.clone()),
            message: Some(record.message.clone()),
            type_: Some(record.kind.text().to_owned()),
            source: Some(EventSource { component: some(&self.component), host: some(&self.host) }),
            first_timestamp: Some(Time(record.at)),
            last_timestamp: Some(Time(record.at)),
            event_time: None::<MicroTime>,
            count: Some(1),
            reporting_component: Some(self.component.to_string()),
            reporting_instance: Some(self.host.to_string()),
            ..Event::default()
        }
    }
}
