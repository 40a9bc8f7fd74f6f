//! What the checks found, in words.

use std::fmt;

use serde::Serialize;

use crate::{History, Timeline};

/// Findings of one invariant after which it is not said again: they mostly follow from the first.
pub const MAX_FINDINGS: usize = 20;

/// One way in which the history is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the invariant's file.
    pub invariant: &'static str,
    /// Says what was seen, what should have been, and names the operations.
    pub message: String,
    /// The ids of the operations that the message names.
    pub operations: Vec<u64>,
}

/// The verdict over one history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub operations: usize,
    /// Those without an answer.
    pub unknown: usize,
    /// Writes in the order that was found.
    pub revisions: usize,
    /// Events that watches were given.
    pub events: usize,
    pub findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(history: &History, timeline: &Timeline, findings: Vec<Finding>) -> Self {
        let responses = history.watches.iter().flat_map(|watch| &watch.responses);
        Report {
            operations: history.operations.len(),
            unknown: history.operations.iter().filter(|operation| operation.is_unknown()).count(),
            revisions: timeline.changes.len(),
            events: responses.map(|response| response.events.len()).sum(),
            findings,
        }
    }

    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { operations, unknown, revisions, events, findings } = self;
        write!(
            f,
            "{operations} operations ({unknown} without an answer), {revisions} revisions, {events} watched events"
        )?;
        if findings.is_empty() {
            return write!(f, ": no finding");
        }
        write!(f, ": {} findings", findings.len())?;
        findings.iter().try_for_each(|finding| write!(f, "\n- {}: {}", finding.invariant, finding.message))
    }
}

/// Collects the findings of one invariant, up to the bound.
pub(crate) struct Findings<'a> {
    invariant: &'static str,
    count: usize,
    all: &'a mut Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub fn new(invariant: &'static str, all: &'a mut Vec<Finding>) -> Self {
        Findings { invariant, count: 0, all }
    }

    pub fn add(&mut self, operations: Vec<u64>, message: String) {
        self.count += 1;
        if self.count <= MAX_FINDINGS {
            self.all.push(Finding { invariant: self.invariant, message, operations });
        }
    }

    pub fn is_full(&self) -> bool {
        self.count >= MAX_FINDINGS
    }
}
