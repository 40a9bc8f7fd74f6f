//! Which turns are measured, and what becomes of what was measured.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use runtime::Clock;
use sched::{
    Decision,
    framework::{Point, PostFilter},
};

use super::{
    figures::Figures,
    tally::{At, Status, Sum, Tally},
};

/// Of so many turns one is measured, as with kube-scheduler.
const ONE_IN: u64 = 10;

/// What is shared by the driver, which says when a turn begins and ends, and all plugins. All of them are called by the
/// driver's task.
pub(crate) struct Meter {
    clock: Clock,
    figures: Figures,
    /// This turn is measured.
    measures: AtomicBool,
    /// Nodes are looked at for whom to evict: that is PostFilter's time, whichever plugin is asked.
    rescuing: AtomicBool,
    /// The plugin for which the engine looks for whom to evict, and since when.
    preempting: Mutex<Option<(Arc<Seat>, Duration)>>,
    /// The plugins of each profile.
    profiles: Mutex<Vec<(String, Vec<Arc<Seat>>)>>,
}

/// One plugin in one profile.
pub(super) struct Seat {
    meter: Arc<Meter>,
    plugin: String,
    tallies: [Tally; At::COUNT],
}

impl Meter {
    pub fn new(clock: Clock, figures: Figures) -> Arc<Self> {
        Arc::new(Meter {
            clock,
            figures,
            measures: AtomicBool::new(false),
            rescuing: AtomicBool::new(false),
            preempting: Mutex::new(None),
            profiles: Mutex::new(Vec::new()),
        })
    }

    /// A place for a plugin that its profile asks at these points.
    pub(super) fn seat(self: &Arc<Self>, plugin: &str, profile: &str, points: &[Point]) -> Arc<Seat> {
        let tallies = At::ALL.map(|at| {
            let counted = at.counted().is_some_and(|point| points.contains(&point));
            // There from the beginning, so that what is never asked can be told from what is not there.
            Tally::new(counted.then(|| self.figures.evaluations(plugin, at, profile)))
        });
        let seat = Arc::new(Seat { meter: self.clone(), plugin: plugin.to_owned(), tallies });
        let mut profiles = self.profiles.lock();
        match profiles.iter_mut().find(|(name, _)| name == profile) {
            Some((_, seats)) => seats.push(seat.clone()),
            None => profiles.push((profile.to_owned(), vec![seat.clone()])),
        }
        seat
    }

    fn begin(&self, measured: bool) {
        self.measures.store(measured, Relaxed);
    }

    /// `nominated`: others are evicted for the pod.
    fn end(&self, nominated: bool) {
        if !self.measures.swap(false, Relaxed) {
            return;
        }
        if let Some((seat, since)) = self.preempting.lock().take() {
            let status = if nominated { Status::Success } else { Status::Unschedulable };
            seat.took(At::PostFilter, self.clock.monotonic().saturating_sub(since), status, 1);
        }
        self.rescuing.store(false, Relaxed);
        for (profile, seats) in &*self.profiles.lock() {
            for at in At::ALL {
                let mut all = Sum::default();
                for seat in seats {
                    let tally = &seat.tallies[at as usize];
                    let sum = tally.take();
                    if let (At::Filter | At::Score, Some(evaluations)) = (at, &tally.evaluations) {
                        evaluations.inc_by(sum.calls * ONE_IN);
                    }
                    all.add(sum);
                }
                if all.calls > 0 {
                    self.figures.point(at, all.status(at), profile).observe(all.took.as_secs_f64());
                }
            }
        }
    }
}

impl Seat {
    /// Calls the plugin.
    #[inline]
    pub fn time<T>(&self, at: At, call: impl FnOnce() -> T, status: impl FnOnce(&T) -> Status) -> T {
        if self.measures() { self.timed(at, call, status) } else { call() }
    }

    #[inline]
    fn measures(&self) -> bool {
        self.meter.measures.load(Relaxed)
    }

    #[cold]
    fn timed<T>(&self, at: At, call: impl FnOnce() -> T, status: impl FnOnce(&T) -> Status) -> T {
        let tally = &self.tallies[at as usize];
        let Some(weight) = tally.weight() else {
            let answer = call();
            tally.ended(status(&answer));
            return answer;
        };
        let began = self.meter.clock.monotonic();
        let answer = call();
        let took = self.meter.clock.monotonic().saturating_sub(began);
        self.took(at, took, status(&answer), weight);
        answer
    }

    /// A call has ended that stands for so many.
    fn took(&self, at: At, took: Duration, status: Status, weight: u64) {
        let tally = &self.tallies[at as usize];
        // What preemption asks about nodes is in PostFilter's time already.
        let inside = self.meter.rescuing.load(Relaxed) && at != At::PostFilter;
        tally.ended(status);
        tally.took(took, status, if inside { 0 } else { weight }, || {
            self.meter.figures.execution(&self.plugin, at, status)
        });
    }

    /// Counts a call that was made once for all nodes; one that the plugin had nothing to say to is none.
    pub fn count(&self, at: At, status: Status) {
        if let (true, Some(evaluations)) = (status != Status::Skip, &self.tallies[at as usize].evaluations) {
            evaluations.inc();
        }
    }

    /// Asks for what is done for a pod that no node takes. If others may be evicted for it, the engine looks for them until the
    /// turn's end, and that is the plugin's time.
    pub fn rescue(self: &Arc<Self>, call: impl FnOnce() -> PostFilter) -> PostFilter {
        if !self.measures() {
            return call();
        }
        self.meter.rescuing.store(true, Relaxed);
        let since = self.meter.clock.monotonic();
        let found = call();
        self.tallies[At::PostFilter as usize].weight();
        if matches!(found, PostFilter::Preempts) {
            *self.meter.preempting.lock() = Some((self.clone(), since));
        } else {
            let took = self.meter.clock.monotonic().saturating_sub(since);
            let nominates = matches!(found, PostFilter::Nominates(..));
            self.took(At::PostFilter, took, if nominates { Status::Success } else { Status::Unschedulable }, 1);
        }
        found
    }

    /// Asks whether an event helps.
    #[inline]
    pub fn hint(&self, event: impl FnOnce() -> &'static str, call: impl FnOnce() -> bool) -> bool {
        if self.measures() { self.timed_hint(event(), call) } else { call() }
    }

    #[cold]
    fn timed_hint(&self, event: &'static str, call: impl FnOnce() -> bool) -> bool {
        let began = self.meter.clock.monotonic();
        let helps = call();
        let took = self.meter.clock.monotonic().saturating_sub(began);
        self.meter.figures.hint(&self.plugin, event, helps).observe(took.as_secs_f64());
        helps
    }
}

/// Says which turns are measured. The driver's own.
pub(crate) struct Sampler {
    meter: Arc<Meter>,
    decisions: Dice,
    changes: Dice,
}

impl Sampler {
    pub fn new(meter: Arc<Meter>) -> Self {
        Sampler { meter, decisions: Dice::new(), changes: Dice::new() }
    }

    /// A turn in which the engine may decide.
    pub fn decision(&mut self, decide: impl FnOnce() -> Option<Decision>) -> Option<Decision> {
        self.meter.begin(self.decisions.due);
        let decision = decide();
        self.meter.end(matches!(&decision, Some(Decision::Unschedulable { victims: Some(_), .. })));
        if decision.is_some() {
            self.decisions.throw();
        }
        decision
    }

    /// Whether the next turn of the latter kind is measured.
    #[cfg(test)]
    pub fn is_due(&self) -> bool {
        self.changes.due
    }

    /// A turn in which it takes in a change begins, until [`Sampler::taken_in`].
    pub fn takes_in(&mut self) {
        self.meter.begin(self.changes.due);
    }

    pub fn taken_in(&mut self) {
        self.meter.end(false);
        self.changes.throw();
    }
}

/// One turn in [`ONE_IN`] by chance, so that no rhythm of the workload decides which are measured; always the same ones,
/// so that a test can count on it.
struct Dice {
    state: u64,
    due: bool,
}

impl Dice {
    fn new() -> Self {
        let mut dice = Dice { state: 0x9E37_79B9_7F4A_7C15, due: false };
        dice.throw();
        dice
    }

    /// Xorshift: a decision takes microseconds, and the system's entropy a good part of one.
    fn throw(&mut self) {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.due = self.state.is_multiple_of(ONE_IN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_in_ten_is_measured_and_the_first_soon() {
        let mut dice = Dice::new();
        let measured: Vec<usize> = (0..10_000)
            .filter(|_| {
                let due = dice.due;
                dice.throw();
                due
            })
            .collect();
        assert!((900..1100).contains(&measured.len()), "{}", measured.len());
        assert!(measured[0] < 30, "{}", measured[0]);
    }
}
