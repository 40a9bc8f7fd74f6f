//! What one plugin has done at one extension point in the turn that is measured.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use sched::{
    diagnosis::Rejection,
    framework::{Point, PreFilter, PreScore},
};

/// So many calls of a plugin at a point are timed in one turn, and after them one in so many, which stands for all: a search
/// through thousands of nodes would otherwise take twice as long when it is measured.
const TIMED: u64 = 16;

/// The extension points that are measured plugin by plugin, as [`At::ALL`] has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    PreEnqueue,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Unreserve,
    Permit,
    PostBind,
}

impl At {
    pub const COUNT: usize = At::ALL.len();
    /// In the order of their numbers.
    pub const ALL: [At; 10] = [
        At::PreEnqueue,
        At::PreFilter,
        At::Filter,
        At::PostFilter,
        At::PreScore,
        At::Score,
        At::Reserve,
        At::Unreserve,
        At::Permit,
        At::PostBind,
    ];

    /// kube-scheduler's name of it.
    pub fn name(self) -> &'static str {
        match self {
            At::PreEnqueue => "PreEnqueue",
            At::PreFilter => "PreFilter",
            At::Filter => "Filter",
            At::PostFilter => "PostFilter",
            At::PreScore => "PreScore",
            At::Score => "Score",
            At::Reserve => "Reserve",
            At::Unreserve => "Unreserve",
            At::Permit => "Permit",
            At::PostBind => "PostBind",
        }
    }

    /// Where a profile has to ask the plugin for its calls to be counted; kube-scheduler counts at these points only.
    pub fn counted(self) -> Option<Point> {
        match self {
            At::PreFilter => Some(Point::PreFilter),
            At::Filter => Some(Point::Filter),
            At::PreScore => Some(Point::PreScore),
            At::Score => Some(Point::Score),
            _ => None,
        }
    }
}

/// How a call ended, in the order in which one outweighs another; kube-scheduler's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    /// The plugin has nothing to do with the pod.
    Skip,
    Wait,
    Unschedulable,
    UnschedulableAndUnresolvable,
    Error,
}

impl Status {
    const COUNT: usize = Status::ALL.len();
    /// In the order of their numbers.
    const ALL: [Status; 6] = [
        Status::Success,
        Status::Skip,
        Status::Wait,
        Status::Unschedulable,
        Status::UnschedulableAndUnresolvable,
        Status::Error,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Status::Success => "Success",
            Status::Skip => "Skip",
            Status::Wait => "Wait",
            Status::Unschedulable => "Unschedulable",
            Status::UnschedulableAndUnresolvable => "UnschedulableAndUnresolvable",
            Status::Error => "Error",
        }
    }

    fn rejected(rejection: &Rejection) -> Self {
        if rejection.unresolvable { Status::UnschedulableAndUnresolvable } else { Status::Unschedulable }
    }

    pub fn of<T>(answer: &Result<T, Rejection>) -> Self {
        answer.as_ref().map_or_else(Status::rejected, |_| Status::Success)
    }

    pub fn of_pre_filter(answer: &Result<PreFilter, Rejection>) -> Self {
        match answer {
            Ok(PreFilter { filter: None, group: None, only: None, .. }) => Status::Skip,
            other => Status::of(other),
        }
    }

    pub fn of_pre_score(answer: &PreScore) -> Self {
        if answer.score.is_none() && answer.group.is_none() { Status::Skip } else { Status::Success }
    }

    /// A plugin that does not say how good a node is has failed.
    pub fn of_score<T>(answer: &Result<T, Rejection>) -> Self {
        if answer.is_ok() { Status::Success } else { Status::Error }
    }

    pub fn of_permit(answer: &Result<Option<Duration>, Rejection>) -> Self {
        match answer {
            Ok(Some(_)) => Status::Wait,
            other => Status::of(other),
        }
    }

    /// Of what cannot fail.
    pub fn always((): &()) -> Self {
        Status::Success
    }
}

/// One turn's sums, and where they go. Only the driver's task writes to it, and only while it measures.
pub(super) struct Tally {
    /// Counts calls, where that is done.
    pub evaluations: Option<Counter>,
    by_status: [OnceLock<Histogram>; Status::COUNT],
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    /// The one that outweighs the others.
    status: AtomicUsize,
}

/// What there was in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub calls: u64,
    pub took: Duration,
    status: usize,
}

impl Sum {
    pub fn add(&mut self, other: Sum) {
        self.calls += other.calls;
        self.took += other.took;
        self.status = self.status.max(other.status);
    }

    /// How the point ended. That of Filter is a success when nodes were rejected, too, as with kube-scheduler.
    pub fn status(self, at: At) -> Status {
        let status = Status::ALL.get(self.status).copied().unwrap_or(Status::Success);
        match status {
            Status::Skip => Status::Success,
            _ if at == At::Filter => Status::Success,
            status => status,
        }
    }
}

impl Tally {
    pub fn new(evaluations: Option<Counter>) -> Self {
        Tally {
            evaluations,
            by_status: Default::default(),
            calls: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            status: AtomicUsize::new(0),
        }
    }

    /// For how many calls the next one is to be timed; `None`: it is not.
    pub fn weight(&self) -> Option<u64> {
        match self.calls.fetch_add(1, Relaxed) {
            calls if calls < TIMED => Some(1),
            calls => (calls % TIMED == 0).then_some(TIMED),
        }
    }

    pub fn ended(&self, status: Status) {
        if status != Status::Success {
            self.status.fetch_max(status as usize, Relaxed);
        }
    }

    /// A call took so long, and stands for so many.
    pub fn took(&self, took: Duration, status: Status, weight: u64, make: impl FnOnce() -> Histogram) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds.saturating_mul(weight), Relaxed);
        self.by_status[status as usize].get_or_init(make).observe(took.as_secs_f64());
    }

    /// The turn has ended.
    pub fn take(&self) -> Sum {
        Sum {
            calls: self.calls.swap(0, Relaxed),
            took: Duration::from_nanos(self.nanoseconds.swap(0, Relaxed)),
            status: self.status.swap(0, Relaxed),
        }
    }
}
