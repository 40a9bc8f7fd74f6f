//! What clients did and saw, as plain data: operations, watches, hashes of replicas, and notes of what was done to the
//! cluster meanwhile.
//!
//! A history is complete: it begins with an empty store, and every write to the store is in it, whatever became of it.
//! The checks name a revision that nobody can have made, so that a writer who is not recorded is a finding.

use serde::{Deserialize, Serialize};

/// Microseconds of the recorder's clock, which is one for all clients.
pub type Micros = u64;
/// etcd's revision: the store's version, and the order of all writes.
pub type Revision = i64;

/// Everything that one run recorded. The order within the lists means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub settings: Settings,
    pub operations: Vec<Operation>,
    pub watches: Vec<Watch>,
    pub hashes: Vec<Hash>,
    pub notes: Vec<Note>,
}

/// What the checks must know of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Which program, scenario and seed: words for a person.
    pub name: String,
    /// The empty store's revision; etcd begins with 1.
    pub first_revision: Revision,
    /// How much earlier than its time to live a lease may end: what clocks may differ by.
    pub lease_early: Micros,
    /// How much later than its time to live a lease may end: an election and the new leader's full time to live.
    pub lease_late: Micros,
    /// Whether a renewal counts that is answered from a store older than what was known when it was asked for. It must, by
    /// etcd's promise; the real etcd 3.5 breaks it when a deposed leader wakes up: the first tick makes it take itself for
    /// active, and it renews what it no longer decides over.
    #[serde(default = "yes")]
    pub stale_renewals_count: bool,
}

fn yes() -> bool {
    true
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: String::new(),
            first_revision: 1,
            lease_early: 100_000,
            lease_late: 10_000_000,
            stale_renewals_count: true,
        }
    }
}

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Unique in the history; findings name it.
    pub id: u64,
    /// A client does one operation at a time.
    pub client: u32,
    /// The member that was asked, as far as the client knows.
    pub member: u64,
    pub invoked: Micros,
    /// When the client had its answer, or gave up.
    pub returned: Micros,
    pub request: Request,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done(Response),
    /// Refused: it certainly had no effect.
    Refused(String),
    /// No answer: it had its effect at some time after it was invoked, possibly after the client gave up, or never.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
    Compact { revision: Revision },
    LeaseGrant { lease: i64, ttl: i64 },
    LeaseRevoke { lease: i64 },
    LeaseKeepAlive { lease: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub keys: Keys,
    /// 0 asks for the newest.
    #[serde(default)]
    pub revision: Revision,
    #[serde(default)]
    pub serializable: bool,
    /// 0 is no limit.
    #[serde(default)]
    pub limit: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    pub key: String,
    pub value: String,
    /// 0 is no lease.
    #[serde(default)]
    pub lease: i64,
    #[serde(default)]
    pub prev_kv: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    pub keys: Keys,
    #[serde(default)]
    pub prev_kv: bool,
}

/// All comparisons hold: the steps of `success`, else those of `failure`, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Step>,
    pub failure: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    pub key: String,
    pub is: Is,
    pub target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Is {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// What of a key is compared with what. A key that is not there has zeros; its value equals nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Version(i64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Lease(i64),
    Value(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Range(Range),
    Put(Put),
    Delete(Delete),
}

/// An answer and the revision in its header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub revision: Revision,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Range {
        kvs: Vec<KeyValue>,
        count: i64,
    },
    Put {
        prev: Option<KeyValue>,
    },
    Delete {
        deleted: i64,
        prev: Vec<KeyValue>,
    },
    Txn {
        succeeded: bool,
        steps: Vec<Answer>,
    },
    /// Of a grant or a renewal: the seconds that the lease lives from now; 0 when there is no such lease.
    Lease {
        ttl: i64,
    },
    /// Of what has no answer but success.
    Done,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyValue {
    pub key: String,
    pub value: String,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: i64,
    #[serde(default)]
    pub lease: i64,
}

/// Which keys: etcd's key and range end. An empty end is the one key, an end of one zero byte all from the key on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end: String,
}

impl Keys {
    pub fn one(key: impl Into<String>) -> Self {
        Keys { key: key.into(), end: String::new() }
    }

    pub fn all() -> Self {
        Keys { key: "\0".to_owned(), end: "\0".to_owned() }
    }

    /// All keys that begin with `prefix`, which ends with an ASCII character.
    pub fn prefix(prefix: &str) -> Self {
        let last = prefix.chars().next_back().filter(char::is_ascii).expect("a prefix ends with an ASCII character");
        let next = char::from(last as u8 + 1);
        Keys { key: prefix.to_owned(), end: format!("{}{next}", &prefix[..prefix.len() - 1]) }
    }

    pub fn contains(&self, key: &str) -> bool {
        match self.end.as_str() {
            "" => key == self.key,
            "\0" => key >= self.key.as_str(),
            end => (self.key.as_str()..end).contains(&key),
        }
    }
}

/// One watch from its creation to its end. A watch that goes on after a broken connection is a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Unique in the history; findings name it.
    pub id: u64,
    pub client: u32,
    pub member: u64,
    pub keys: Keys,
    /// The first revision wanted; 0 is what comes after the creation.
    pub start: Revision,
    #[serde(default)]
    pub prev_kv: bool,
    /// The client allows a revision's events to come in parts.
    #[serde(default)]
    pub fragment: bool,
    #[serde(default)]
    pub no_put: bool,
    #[serde(default)]
    pub no_delete: bool,
    /// In the order in which they came.
    pub responses: Vec<WatchResponse>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchResponse {
    pub at: Micros,
    /// Of the header. In a response without events that is a bookmark: nothing up to it is still to come.
    pub revision: Revision,
    #[serde(default)]
    pub created: bool,
    #[serde(default)]
    pub canceled: bool,
    /// When the watch asks for what is compacted: the first revision that is not.
    #[serde(default)]
    pub compact_revision: Revision,
    /// More of the last event's revision follows.
    #[serde(default)]
    pub fragment: bool,
    #[serde(default)]
    pub events: Vec<Event>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// After a put the whole of it; of a deletion only the key and the revision.
    pub kv: KeyValue,
    pub deleted: bool,
    #[serde(default)]
    pub prev: Option<KeyValue>,
}

/// What one member says of all keys at one revision (etcd's HashKV).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash {
    pub at: Micros,
    pub member: u64,
    pub revision: Revision,
    pub compact_revision: Revision,
    pub hash: u32,
}

/// Something that happened to the cluster, for a person who reads the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub at: Micros,
    pub text: String,
}

impl Operation {
    /// The answer, if there was one.
    pub fn response(&self) -> Option<&Response> {
        match &self.outcome {
            Outcome::Done(response) => Some(response),
            Outcome::Refused(_) | Outcome::Unknown(_) => None,
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown(_))
    }

    /// Whether its header's revision says where it stands in the order of all operations. Those of leases and
    /// compaction tell a revision that was current at some time near the answer.
    pub fn is_kv(&self) -> bool {
        matches!(self.request, Request::Range(_) | Request::Put(_) | Request::Delete(_) | Request::Txn(_))
    }

    /// It asks no majority: its answer may be old.
    pub fn is_serializable(&self) -> bool {
        let step = |step: &Step| matches!(step, Step::Range(range) if range.serializable);
        match &self.request {
            Request::Range(range) => range.serializable,
            Request::Txn(txn) => {
                let mut steps = txn.success.iter().chain(&txn.failure).peekable();
                steps.peek().is_some() && steps.all(step)
            }
            _ => false,
        }
    }

    /// The revision that this operation made, if its answer says that it made one.
    pub fn written(&self) -> Option<Revision> {
        let response = self.response()?;
        response.answer.writes().then_some(response.revision)
    }

    /// Everything that it would store, whichever way its comparisons go.
    pub fn puts(&self) -> Vec<&Put> {
        match &self.request {
            Request::Put(put) => vec![put],
            Request::Txn(txn) => txn.success.iter().chain(&txn.failure).filter_map(Step::put).collect(),
            _ => Vec::new(),
        }
    }
}

impl Step {
    fn put(&self) -> Option<&Put> {
        match self {
            Step::Put(put) => Some(put),
            Step::Range(_) | Step::Delete(_) => None,
        }
    }
}

impl Answer {
    /// Whether the store has a new revision by this.
    pub fn writes(&self) -> bool {
        match self {
            Answer::Put { .. } => true,
            Answer::Delete { deleted, .. } => *deleted > 0,
            Answer::Txn { steps, .. } => steps.iter().any(Answer::writes),
            Answer::Range { .. } | Answer::Lease { .. } | Answer::Done => false,
        }
    }

    /// All keys and values that it shows.
    pub fn kvs(&self) -> Vec<&KeyValue> {
        match self {
            Answer::Range { kvs, .. } => kvs.iter().collect(),
            Answer::Put { prev } => prev.iter().collect(),
            Answer::Delete { prev, .. } => prev.iter().collect(),
            Answer::Txn { steps, .. } => steps.iter().flat_map(Answer::kvs).collect(),
            Answer::Lease { .. } | Answer::Done => Vec::new(),
        }
    }
}
