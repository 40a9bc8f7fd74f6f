//! What a guest's store holds: what the call under way is about, what the guest has said so far, and what it may use.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sched::{Node, Pod};
use scheduler::{Notices, PodEvent};
use wasmtime::{Caller, Extern, Memory, ResourceLimiter};

use crate::{arguments::Arguments, fault::Fault, nodes::Nodes, scores::Scores, waiting::Waiting};

/// Tables that a guest may have, and elements of each.
const MAX_TABLES: usize = 8;
const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Bytes of what a guest writes to its standard output and error that are kept, to say why it trapped.
pub(crate) const MAX_OUTPUT: usize = 1024;
/// Log lines and events of one guest; the rest is dropped.
const MAX_SAID_PER_SECOND: u32 = 100;

/// What all instances of a guest share.
pub(crate) struct About {
    pub name: String,
    pub arguments: Arguments,
    pub nodes: Mutex<Nodes>,
    pub waiting: Waiting,
    pub notices: Notices,
    pub clock: runtime::Clock,
    pub said: Mutex<Said>,
}

/// How much the guest has said in one second.
#[derive(Debug, Default)]
pub(crate) struct Said {
    second: u64,
    times: u32,
}

impl Said {
    /// Whether it may say one thing more.
    fn more(&mut self, now: Duration) -> bool {
        if self.second != now.as_secs() {
            *self = Said { second: now.as_secs(), times: 0 };
        }
        self.times = self.times.saturating_add(1);
        self.times <= MAX_SAID_PER_SECOND
    }
}

impl About {
    /// Whether a log line or an event of the guest's is taken still: one that has something to say of every node would drown out
    /// all others.
    pub fn may_say(&self) -> bool {
        self.said.lock().more(self.clock.monotonic())
    }
}

/// The pod that is asked about.
pub(crate) struct Subject {
    pub pod: Pod,
    /// As the guest sees it.
    pub encoded: Vec<u8>,
}

/// Status codes by the names of nodes.
pub(crate) type Statuses = BTreeMap<Arc<str>, i32>;

/// One call, in and out.
#[derive(Default)]
pub(crate) struct Call {
    pub subject: Option<Arc<Subject>>,
    pub node: Option<Arc<Node>>,
    /// On how many nodes each of the node's images is; only for guests that ask.
    pub image_nodes: Vec<usize>,
    /// Those of all nodes, to be normalized; and what they are then.
    pub scores: Scores,
    pub normalized: Option<Vec<i64>>,
    /// What each node has said to a pod that none takes; only for guests that ask.
    pub statuses: Statuses,
    /// The node that is to be kept for it.
    pub nominated: Option<Arc<str>>,
    /// The reason for the status.
    pub reason: String,
    /// The only nodes that come into question.
    pub only: Option<Vec<Arc<str>>>,
    pub cluster_events: Vec<u8>,
    pub output: Vec<u8>,
}

pub(crate) struct Host {
    pub about: Arc<About>,
    pub call: Call,
}

impl Host {
    pub fn new(about: Arc<About>) -> Self {
        Host { about, call: Call::default() }
    }

    /// Keeps the beginning of what the guest prints.
    pub fn print(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT - self.call.output.len().min(MAX_OUTPUT);
        self.call.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Records an event about the pod that is asked about.
    pub fn event(&self, warning: bool, reason: String, note: String) {
        if let Some(subject) = &self.call.subject {
            let event = PodEvent { warning, reason, ..PodEvent::warning(&subject.pod, "", note) };
            self.about.notices.event(event);
        }
    }
}

impl ResourceLimiter for Host {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let limit = self.about.arguments.limits.memory;
        if desired as u64 > limit {
            // An error rather than a refusal, so that it ends the call and is told for what it is.
            return Err(Fault::Memory(limit).into());
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        1
    }
}

/// A guest's memory during a call of `import`.
pub(crate) struct View<'a, 'b> {
    caller: &'a mut Caller<'b, Host>,
    memory: Memory,
    import: &'static str,
}

impl<'a, 'b> View<'a, 'b> {
    pub fn new(caller: &'a mut Caller<'b, Host>, import: &'static str) -> Result<Self, Fault> {
        match caller.get_export("memory") {
            Some(Extern::Memory(memory)) => Ok(View { caller, memory, import }),
            _ => Err(Fault::Pointer(import)),
        }
    }

    pub fn host(&mut self) -> &mut Host {
        self.caller.data_mut()
    }

    pub fn read(&self, at: u32, len: u32) -> Result<&[u8], Fault> {
        let data = self.memory.data(&*self.caller);
        range(at, len).and_then(|range| data.get(range)).ok_or(Fault::Pointer(self.import))
    }

    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Fault> {
        let import = self.import;
        let len = u32::try_from(bytes.len()).map_err(|_| Fault::Pointer(import))?;
        let data = self.memory.data_mut(&mut *self.caller);
        let place = range(at, len).and_then(|range| data.get_mut(range)).ok_or(Fault::Pointer(import))?;
        place.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes bytes if the guest has room for them, and says how many there are: with less room, it asks again.
    pub fn give(&mut self, at: u32, room: u32, bytes: &[u8]) -> Result<u32, Fault> {
        let len = u32::try_from(bytes.len()).map_err(|_| Fault::Pointer(self.import))?;
        if len > 0 && len <= room {
            self.write(at, bytes)?;
        }
        Ok(len)
    }
}

fn range(at: u32, len: u32) -> Option<std::ops::Range<usize>> {
    let (start, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?);
    Some(start..start.checked_add(len)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_may_say_so_much_a_second() {
        let mut said = Said::default();
        let mut taken =
            |millis: u64, times: usize| (0..times).filter(|_| said.more(Duration::from_millis(millis))).count();
        assert_eq!(taken(1_000, 150), 100);
        assert_eq!(taken(1_999, 10), 0);
        assert_eq!(taken(2_000, 10), 10);
        assert_eq!(taken(2_500, 150), 90);
    }
}
