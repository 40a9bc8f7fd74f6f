//! What plugins hand out and are then asked about each node or group, measured.

use std::sync::Arc;

use sched::{
    NodeInfo, World,
    diagnosis::Rejection,
    framework::{Filter, Group, GroupFilter, GroupScore, Grouping, Score},
};

use super::{At, Seat, Status};

/// One of the traits below, of the plugin with this seat.
pub(super) struct Asked<T: ?Sized> {
    within: Box<T>,
    seat: Arc<Seat>,
}

impl<T: ?Sized> Asked<T> {
    fn new(within: Box<T>, seat: &Arc<Seat>) -> Box<Self> {
        Box::new(Asked { within, seat: seat.clone() })
    }
}

impl Asked<dyn Filter> {
    pub fn filter(within: Box<dyn Filter>, seat: &Arc<Seat>) -> Box<dyn Filter> {
        Asked::new(within, seat)
    }
}

impl Asked<dyn Score> {
    pub fn score(within: Box<dyn Score>, seat: &Arc<Seat>) -> Box<dyn Score> {
        Asked::new(within, seat)
    }
}

impl Asked<dyn GroupFilter> {
    pub fn group_filter(within: Box<dyn GroupFilter>, seat: &Arc<Seat>) -> Box<dyn GroupFilter> {
        Asked::new(within, seat)
    }
}

impl Asked<dyn GroupScore> {
    pub fn group_score(within: Box<dyn GroupScore>, seat: &Arc<Seat>) -> Box<dyn GroupScore> {
        Asked::new(within, seat)
    }
}

impl Filter for Asked<dyn Filter> {
    fn filter(&self, node: &NodeInfo, world: &World) -> Result<(), Rejection> {
        self.seat.time(At::Filter, || self.within.filter(node, world), Status::of)
    }
}

impl Score for Asked<dyn Score> {
    fn score(&self, node: &NodeInfo, world: &World) -> Result<i64, Rejection> {
        self.seat.time(At::Score, || self.within.score(node, world), Status::of_score)
    }
}

impl Grouping for Asked<dyn GroupFilter> {
    fn width(&self) -> usize {
        self.within.width()
    }

    fn key(&self, node: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        self.seat.time(At::Filter, || self.within.key(node, world, key), Status::always);
    }
}

impl GroupFilter for Asked<dyn GroupFilter> {
    fn filter(&self, key: &[i64], world: &World) -> Result<(), Rejection> {
        self.seat.time(At::Filter, || self.within.filter(key, world), Status::of)
    }
}

impl Grouping for Asked<dyn GroupScore> {
    fn width(&self) -> usize {
        self.within.width()
    }

    fn key(&self, node: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        self.seat.time(At::Score, || self.within.key(node, world, key), Status::always);
    }
}

impl GroupScore for Asked<dyn GroupScore> {
    fn score(&self, groups: &[Group<'_>], world: &World, scores: &mut [i64]) -> Result<(), Rejection> {
        self.seat.time(At::Score, || self.within.score(groups, world, scores), Status::of_score)
    }
}
