//! What plugins cost, one by one: a decorator around each, which measures what is done in one turn of ten.
//!
//! ```text
//!   driver ── a turn begins, ends ──▶ Sampler ──▶ Meter ◀── is this one measured? ── Measured ──▶ plugin
//!                                                   └──▶ histograms, counters
//! ```
//!
//! The engine in crate `sched` knows no clock and no figures, so they are put around its plugins. In a turn that is not
//! measured the decorator costs a relaxed load and a call, because a plan may ask about thousands of nodes.

mod asked;
mod figures;
mod meter;
mod tally;

pub(crate) use figures::Figures;
pub(crate) use meter::{Meter, Sampler};

use std::{sync::Arc, time::Duration};

use sched::{
    NodeId, Pod, World,
    diagnosis::Rejection,
    framework::{Bind, Event, Plugin, Point, PostFilter, PreFilter, PreScore, Unplaced},
    pre_bind::{PreBind, Progress, Write},
};

use asked::Asked;
use meter::Seat;
use tally::{At, Status};

/// kube-scheduler's name of a change of the pod that waits.
const ITSELF: &str = "UnschedulablePodUpdate";

/// A plugin of one profile, measured.
pub(crate) struct Measured {
    plugin: Box<dyn Plugin>,
    seat: Arc<Seat>,
    /// Where the profile asks it: elsewhere it is called only to hand out what it filters or scores by.
    pre_filters: bool,
    pre_scores: bool,
}

impl Measured {
    /// `points`: where the profile asks the plugin.
    pub fn new(plugin: Box<dyn Plugin>, profile: &str, points: &[Point], meter: &Arc<Meter>) -> Self {
        let seat = meter.seat(plugin.name(), profile, points);
        let at = |point| points.contains(&point);
        Measured { plugin, seat, pre_filters: at(Point::PreFilter), pre_scores: at(Point::PreScore) }
    }
}

// A method that is missing here would be the trait's default for every plugin.
#[deny(clippy::missing_trait_methods)]
impl Plugin for Measured {
    fn name(&self) -> &str {
        self.plugin.name()
    }

    fn points(&self) -> &'static [Point] {
        self.plugin.points()
    }

    fn pre_enqueue(&self, pod: &Pod, world: &World) -> Result<(), Rejection> {
        self.seat.time(At::PreEnqueue, || self.plugin.pre_enqueue(pod, world), Status::of)
    }

    fn rank(&self, pod: &Pod) -> i64 {
        self.plugin.rank(pod)
    }

    fn pre_filter(&self, pod: &Pod, world: &mut World) -> Result<PreFilter, Rejection> {
        let found = if self.pre_filters {
            let found = self.seat.time(At::PreFilter, || self.plugin.pre_filter(pod, world), Status::of_pre_filter);
            self.seat.count(At::PreFilter, Status::of_pre_filter(&found));
            found
        } else {
            self.plugin.pre_filter(pod, world)
        };
        found.map(|found| PreFilter {
            filter: found.filter.map(|filter| Asked::filter(filter, &self.seat)),
            group: found.group.map(|filter| Asked::group_filter(filter, &self.seat)),
            ..found
        })
    }

    fn post_filter(&self, pod: &Pod, found: &Unplaced<'_>, world: &World) -> PostFilter {
        self.seat.rescue(|| self.plugin.post_filter(pod, found, world))
    }

    fn pre_score(&self, pod: &Pod, world: &mut World) -> PreScore {
        let found = if self.pre_scores {
            let found = self.seat.time(At::PreScore, || self.plugin.pre_score(pod, world), Status::of_pre_score);
            self.seat.count(At::PreScore, Status::of_pre_score(&found));
            found
        } else {
            self.plugin.pre_score(pod, world)
        };
        PreScore {
            score: found.score.map(|score| Asked::score(score, &self.seat)),
            group: found.group.map(|score| Asked::group_score(score, &self.seat)),
            ..found
        }
    }

    fn reserve(&mut self, pod: &Pod, node: NodeId, world: &mut World) -> Result<(), Rejection> {
        self.seat.time(At::Reserve, || self.plugin.reserve(pod, node, world), Status::of)
    }

    fn unreserve(&mut self, pod: &Pod, node: &str, world: &mut World) {
        self.seat.time(At::Unreserve, || self.plugin.unreserve(pod, node, world), Status::always);
    }

    fn permit(&self, pod: &Pod, node: &str, world: &World) -> Result<Option<Duration>, Rejection> {
        self.seat.time(At::Permit, || self.plugin.permit(pod, node, world), Status::of_permit)
    }

    fn permitted(&self, pod: &Pod, node: &str, world: &World) -> Progress {
        self.plugin.permitted(pod, node, world)
    }

    // What goes before a binding is written and waited for by the driver, which measures it as a whole: how long the plugin
    // takes to say what is to be written would look like the time of that.
    fn pre_bind(&self, pod: &Pod, world: &World) -> PreBind {
        self.plugin.pre_bind(pod, world)
    }

    fn pre_bound(&self, pod: &Pod, node: &str, world: &World) -> Progress {
        self.plugin.pre_bound(pod, node, world)
    }

    fn may_bind(&self, pod: &Pod, node: &str, world: &World) -> Result<(), Rejection> {
        self.plugin.may_bind(pod, node, world)
    }

    // The driver measures what comes of it.
    fn bind(&self, pod: &Pod, node: &str, world: &World) -> Result<Bind, Rejection> {
        self.plugin.bind(pod, node, world)
    }

    fn waited_in_vain(&self) -> String {
        self.plugin.waited_in_vain()
    }

    fn take_back(&self, pod: &Pod, world: &World) -> Vec<Write> {
        self.plugin.take_back(pod, world)
    }

    fn post_bind(&mut self, pod: &Pod, node: &str, world: &mut World) {
        self.seat.time(At::PostBind, || self.plugin.post_bind(pod, node, world), Status::always);
    }

    fn renew(&mut self) {
        self.plugin.renew();
    }

    fn helps(&self, pod: &Pod, event: &Event, world: &World) -> bool {
        self.seat.hint(|| event.label(), || self.plugin.helps(pod, event, world))
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        self.seat.hint(|| ITSELF, || self.plugin.helps_itself(old, new))
    }
}

#[cfg(test)]
mod tests;
