//! Judges what a replicated etcd-compatible store did, from what its clients saw: a history goes in, a report comes out.
//!
//! ```text
//!   History ──▶ evidence ──▶ timeline ──▶ linearizability ─┐
//!   (jsonl)     what was     who made        revisions     ├─▶ Report
//!               seen at      which           durability    │
//!               a revision   revision        watch, lease  │
//!                                            replicas ─────┘
//! ```
//!
//! One file for each invariant; each says at its head what it demands and why that is right. Knows no socket, clock, disk
//! or task: times are numbers that the recorder took, virtual or real, of one clock for all clients. It does not know
//! which program it judges, either: the rules are etcd's documented guarantees. 20,000 operations of ten clients take a
//! debug build one or two seconds.

mod describe;
mod durability;
mod evidence;
pub mod history;
pub mod jsonl;
mod lease;
mod linearizability;
pub mod model;
mod replicas;
mod report;
mod revisions;
mod timeline;
mod watch;

pub use history::History;
pub use report::{Finding, Report};
pub use timeline::{Cause, Change, Timeline};

use evidence::Evidence;

/// Checks every invariant.
pub fn check(history: &History) -> Report {
    let evidence = Evidence::gather(history);
    let mut findings = Vec::new();
    let timeline = timeline::build(history, &evidence, &mut findings);
    linearizability::check(history, &mut findings);
    revisions::check(history, &mut findings);
    durability::check(history, &timeline, &mut findings);
    watch::check(history, &timeline, &mut findings);
    lease::check(history, &timeline, &mut findings);
    replicas::check(history, &mut findings);
    Report::new(history, &timeline, findings)
}
