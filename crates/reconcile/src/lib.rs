//! What each controller decides, as pure functions: objects and a time go in, actions come out.
//!
//! ```text
//!   objects (as the caches show them) ─┐
//!   now ───────────────────────────────┴─▶ deployment │ replicaset │ job │ endpoints │ gc │ … ─▶ actions
//! ```
//!
//! Knows no client, no queue, no clock and no task: whoever calls it executes the actions, and calls again when
//! something has changed. Every decision holds when it is repeated: with its actions done it decides nothing more.

pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod gc;
pub mod intstr;
pub mod job;
pub mod meta;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod podgc;
pub mod replicaset;
pub mod resourceclaim;
pub mod selector;
pub mod serviceaccount;
pub mod template;

use std::time::Duration;

/// Whether an event tells of something usual or of something that needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

/// An event that a decision asks to be recorded about the object that was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub severity: Severity,
    pub reason: &'static str,
    pub message: String,
}

impl Notice {
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Notice { severity: Severity::Normal, reason, message: message.into() }
    }

    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Notice { severity: Severity::Warning, reason, message: message.into() }
    }
}

/// The sooner of two moments at which to look again.
pub fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
