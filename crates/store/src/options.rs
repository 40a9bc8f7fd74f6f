//! What can be chosen about a store.

use std::{path::PathBuf, time::Duration};

use mvcc::Limits;
use runtime::{Clock, Tasks};

use crate::disk::DiskFault;

/// How revisions are compacted without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Only by `compact`; Kubernetes' API server asks every five minutes.
    #[default]
    Off,
    /// Keep so many revisions.
    Revisions(i64),
    /// Keep what is younger than this.
    Period(Duration),
}

/// Everything that a store is given at its start.
#[derive(Clone)]
pub struct Options {
    /// Taken over if empty; refused if it holds something else.
    pub data_dir: PathBuf,
    pub clock: Clock,
    /// The store's own group: stopping it stops the store, joining it waits for the last batch.
    pub tasks: Tasks,
    pub limits: Limits,
    /// Writes that add data are refused while the data takes more than this.
    pub quota_bytes: u64,
    pub auto_compaction: AutoCompaction,
    /// A log segment's size.
    pub segment_bytes: u64,
    /// A snapshot is written when the log since the last one is longer than this and than that snapshot.
    pub snapshot_bytes: u64,
    /// Events that a watcher may leave unread.
    pub watch_buffer_events: usize,
    /// How long a watcher with `progress_notify` hears nothing before it is told the revision.
    pub progress_interval: Duration,
    /// For tests: makes operations on the disk fail.
    pub disk_fault: Option<DiskFault>,
}

impl Options {
    /// etcd's defaults.
    pub fn new(data_dir: impl Into<PathBuf>, clock: Clock, tasks: Tasks) -> Self {
        Options {
            data_dir: data_dir.into(),
            clock,
            tasks,
            limits: Limits::default(),
            quota_bytes: 2 << 30,
            auto_compaction: AutoCompaction::Off,
            segment_bytes: 16 << 20,
            snapshot_bytes: 64 << 20,
            watch_buffer_events: 16 * 1024,
            progress_interval: Duration::from_secs(600),
            disk_fault: None,
        }
    }
}
