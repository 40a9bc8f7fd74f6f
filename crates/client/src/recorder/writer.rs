//! Writes recorded events, some at one time, and merges repetitions into a count as client-go's correlator does.
//!
//! Of one event there is one write at a time. What repeats it meanwhile is counted, and written together afterwards.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{EventType, Record};

/// Writes under way at one time.
const MAX_WRITES: usize = 8;
/// Repetitions remembered; the oldest half is forgotten past it.
const REMEMBERED: usize = 4096;
/// An event repeated after so long is a new event.
const MERGE_WINDOW: Duration = Duration::from_secs(600);

/// What makes two records the same event.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Subject {
    namespace: String,
    uid: String,
    field_path: String,
    kind: EventType,
    reason: String,
    message: String,
}

/// An event that was written or is being written.
struct Known {
    name: String,
    /// How often it has happened, as the newest write says.
    count: i32,
    last: Timestamp,
    writing: bool,
    /// How often it has happened since the write under way began.
    repeats: i32,
}

/// One write that is due.
struct Write {
    subject: Arc<Subject>,
    record: Record,
    change: Change,
}

enum Change {
    Create(Box<Event>),
    Repeat { name: String, count: i32, last: Timestamp },
}

enum Outcome {
    Written,
    /// The event to change was deleted or has expired.
    Missing,
    Failed,
}

pub(super) struct Writer {
    client: Client,
    component: Arc<str>,
    host: Arc<str>,
    known: HashMap<Arc<Subject>, Known>,
}

impl Writer {
    pub fn new(client: Client, component: &str, host: &str) -> Self {
        Writer { client, component: component.into(), host: host.into(), known: HashMap::new() }
    }

    /// Writes until nobody records any more and all is written.
    pub async fn run(mut self, mut receiver: mpsc::Receiver<Record>) {
        let (mut writes, mut open) = (FuturesUnordered::new(), true);
        while open || !writes.is_empty() {
            let due = tokio::select! {
                Some((write, outcome)) = writes.next() => self.ended(write, outcome),
                record = receiver.recv(), if open && writes.len() < MAX_WRITES => match record {
                    Some(record) => self.begin(record),
                    None => {
                        open = false;
                        None
                    }
                },
            };
            if let Some(write) = due {
                writes.push(perform(self.client.clone(), write));
            }
        }
    }

    /// The write that a record asks for, if none of the same event is under way.
    fn begin(&mut self, record: Record) -> Option<Write> {
        let about = &record.about;
        let subject = Arc::new(Subject {
            namespace: about.namespace.clone().unwrap_or_else(|| "default".into()),
            uid: about.uid.clone().or_else(|| about.name.clone()).unwrap_or_default(),
            field_path: about.field_path.clone().unwrap_or_default(),
            kind: record.kind,
            reason: record.reason.clone(),
            message: record.message.clone(),
        });
        match self.known.get_mut(&subject) {
            Some(known) if known.writing => {
                known.repeats += 1;
                known.last = record.at;
                None
            }
            Some(known) if record.at.duration_since(known.last).unsigned_abs() < MERGE_WINDOW => {
                known.repeats += 1;
                known.last = record.at;
                let change = known.repeat();
                Some(Write { subject, record, change })
            }
            _ => Some(self.create(subject, record)),
        }
    }

    /// Takes in how a write has ended. Gives the one that follows from it.
    fn ended(&mut self, write: Write, outcome: Outcome) -> Option<Write> {
        let Write { subject, record, change } = write;
        match (outcome, change) {
            (Outcome::Missing, _) => return Some(self.create(subject, record)),
            // What never was cannot be changed; the next record makes it.
            (Outcome::Failed, Change::Create(_)) => {
                self.known.remove(&subject);
                return None;
            }
            _ => {}
        }
        // Only what is not being written is forgotten.
        let known = self.known.get_mut(&subject)?;
        known.writing = false;
        (known.repeats > 0).then(|| Write { change: known.repeat(), subject, record })
    }

    fn create(&mut self, subject: Arc<Subject>, record: Record) -> Write {
        let event = self.event(&record, &subject.namespace);
        if self.known.len() >= REMEMBERED {
            let mut times: Vec<Timestamp> = self.known.values().map(|known| known.last).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            self.known.retain(|_, known| known.writing || known.last > middle);
        }
        let name = event.metadata.name.clone().unwrap_or_default();
        let known = Known { name, count: 1, last: record.at, writing: true, repeats: 0 };
        self.known.insert(subject.clone(), known);
        Write { subject, record, change: Change::Create(Box::new(event)) }
    }

    fn event(&self, record: &Record, namespace: &str) -> Event {
        let name = record.about.name.as_deref().unwrap_or_default();
        let suffix = runtime::entropy::random_u64();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{suffix:016x}")),
                namespace: Some(namespace.to_owned()),
                annotations: record.annotation.iter().map(annotation).next(),
                ..ObjectMeta::default()
            },
            involved_object: record.about.clone(),
            reason: Some(record.reason.clone()),
            message: Some(record.message.clone()),
            type_: Some(record.kind.text().to_owned()),
            source: Some(EventSource { component: some(&self.component), host: some(&self.host) }),
            first_timestamp: Some(Time(record.at)),
            last_timestamp: Some(Time(record.at)),
            count: Some(1),
            reporting_component: Some(self.component.to_string()),
            reporting_instance: Some(self.host.to_string()),
            ..Event::default()
        }
    }
}

impl Known {
    /// The write of what has been repeated.
    fn repeat(&mut self) -> Change {
        self.count += std::mem::take(&mut self.repeats);
        self.writing = true;
        Change::Repeat { name: self.name.clone(), count: self.count, last: self.last }
    }
}

fn annotation((name, value): &(&'static str, String)) -> BTreeMap<String, String> {
    [((*name).to_owned(), value.clone())].into()
}

async fn perform(client: Client, write: Write) -> (Write, Outcome) {
    let api = Api::<Event>::namespaced(client, &write.subject.namespace);
    let result = match &write.change {
        Change::Create(event) => api.create(&PostParams::default(), event).await,
        Change::Repeat { name, count, last } => {
            let mut patch = json!({ "count": count, "lastTimestamp": Time(*last) });
            if let Some(annotations) = write.record.annotation.iter().map(annotation).next() {
                patch["metadata"] = json!({ "annotations": annotations });
            }
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
        }
    };
    let outcome = match result {
        Ok(_) => Outcome::Written,
        Err(error) if matches!(write.change, Change::Repeat { .. }) && crate::is_not_found(&error) => Outcome::Missing,
        Err(error) => {
            tracing::debug!(reason = write.subject.reason, %error, "event not written");
            Outcome::Failed
        }
    };
    (write, outcome)
}
