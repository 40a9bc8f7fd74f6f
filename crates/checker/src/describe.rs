//! Operations in words, short enough for a line of a finding.

use std::fmt;

use crate::history::{Answer, Compare, Event, Is, KeyValue, Keys, Operation, Outcome, Range, Request, Step, Target};

/// Characters of a value that are shown; the rest says nothing more.
const VALUE_SHOWN: usize = 24;
/// Things of a list that are shown.
const LIST_SHOWN: usize = 6;

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |at: u64| at as f64 / 1000.0;
        let (invoked, returned) = (ms(self.invoked), ms(self.returned));
        write!(f, "#{} (client {}, {invoked:.3}..{returned:.3} ms) {} => ", self.id, self.client, self.request)?;
        match &self.outcome {
            Outcome::Done(response) => write!(f, "{} at revision {}", response.answer, response.revision),
            Outcome::Refused(reason) => write!(f, "refused: {reason}"),
            Outcome::Unknown(reason) => write!(f, "no answer: {reason}"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Range(range) => write!(f, "{range}"),
            Request::Put(put) => write!(f, "put {}={}{}", put.key, short(&put.value), with_lease(put.lease)),
            Request::Delete(delete) => write!(f, "delete {}", delete.keys),
            Request::Txn(txn) => {
                write!(
                    f,
                    "if {} then {} else {}",
                    list(&txn.compare, " and "),
                    steps(&txn.success),
                    steps(&txn.failure)
                )
            }
            Request::Compact { revision } => write!(f, "compact {revision}"),
            Request::LeaseGrant { lease, ttl } => write!(f, "grant lease {lease} for {ttl} s"),
            Request::LeaseRevoke { lease } => write!(f, "revoke lease {lease}"),
            Request::LeaseKeepAlive { lease } => write!(f, "keep lease {lease} alive"),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}get {}", if self.serializable { "serializable " } else { "" }, self.keys)?;
        if self.revision > 0 { write!(f, " as of {}", self.revision) } else { Ok(()) }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Range(range) => write!(f, "{range}"),
            Step::Put(put) => write!(f, "put {}={}{}", put.key, short(&put.value), with_lease(put.lease)),
            Step::Delete(delete) => write!(f, "delete {}", delete.keys),
        }
    }
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = match self.is {
            Is::Equal => "=",
            Is::Greater => ">",
            Is::Less => "<",
            Is::NotEqual => "!=",
        };
        match &self.target {
            Target::Version(version) => write!(f, "{}'s version {is} {version}", self.key),
            Target::CreateRevision(revision) => write!(f, "{}'s creation {is} {revision}", self.key),
            Target::ModRevision(revision) => write!(f, "{}'s revision {is} {revision}", self.key),
            Target::Lease(lease) => write!(f, "{}'s lease {is} {lease}", self.key),
            Target::Value(value) => write!(f, "{} {is} {}", self.key, short(value)),
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end.as_str() {
            "" => write!(f, "{}", self.key),
            "\0" if self.key == "\0" => write!(f, "everything"),
            "\0" => write!(f, "[{}, ...)", self.key),
            end => write!(f, "[{}, {end})", self.key),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Range { kvs, count } if kvs.is_empty() => write!(f, "nothing (of {count})"),
            Answer::Range { kvs, .. } => write!(f, "{}", list(kvs, ", ")),
            Answer::Put { prev: None } => write!(f, "put"),
            Answer::Put { prev: Some(prev) } => write!(f, "put over {prev}"),
            Answer::Delete { deleted, prev } if prev.is_empty() => write!(f, "{deleted} deleted"),
            Answer::Delete { deleted, prev } => write!(f, "{deleted} deleted: {}", list(prev, ", ")),
            Answer::Txn { succeeded, steps } => {
                write!(f, "{}: {}", if *succeeded { "true" } else { "false" }, list(steps, "; "))
            }
            Answer::Lease { ttl } => write!(f, "{ttl} s left"),
            Answer::Done => write!(f, "done"),
        }
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyValue { key, value, create_revision, mod_revision, version, lease } = self;
        let lease = with_lease(*lease);
        write!(
            f,
            "{key}={}{lease} (revision {mod_revision}, created {create_revision}, version {version})",
            short(value)
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.deleted {
            true => write!(f, "deletion of {} at revision {}", self.kv.key, self.kv.mod_revision),
            false => write!(f, "put of {}", self.kv),
        }
    }
}

/// The things in words, one after the other.
pub(crate) fn list<T: fmt::Display>(things: &[T], between: &str) -> String {
    if things.is_empty() {
        return "nothing".to_owned();
    }
    let mut words: Vec<String> = things.iter().take(LIST_SHOWN).map(T::to_string).collect();
    if things.len() > LIST_SHOWN {
        words.push(format!("and {} more", things.len() - LIST_SHOWN));
    }
    words.join(between)
}

fn steps(steps: &[Step]) -> String {
    format!("[{}]", list(steps, "; "))
}

fn with_lease(lease: i64) -> String {
    if lease == 0 { String::new() } else { format!(" with lease {lease}") }
}

fn short(value: &str) -> String {
    match value.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}
