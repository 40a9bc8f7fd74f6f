//! Answers a progress request: one response for the whole stream, once every watch on it has come as far as the store
//! was when the client asked. A client that has just written thus learns at once that it has seen its write.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use store_api::Revision;

use super::control::Control;

#[derive(Default)]
pub(super) struct Progress(Mutex<State>);

#[derive(Default)]
struct State {
    /// How to ask each live watch.
    watches: HashMap<i64, Arc<Control>>,
    /// Watches that have not answered in this round; empty: no round is open.
    waiting: HashSet<i64>,
    /// What an answer must reach in this round.
    needed: Revision,
    /// The smallest revision that was answered in this round.
    revision: Revision,
    /// A request came while a round was open, and what its own answer must reach.
    again: Option<Revision>,
}

impl State {
    fn open_round(&mut self, needed: Revision) {
        self.needed = needed;
        self.revision = Revision::MAX;
        self.waiting = self.watches.keys().copied().collect();
        for control in self.watches.values() {
            control.ask();
        }
    }

    /// The revision to tell when nobody is waited for any more.
    fn close_round(&mut self) -> Option<Revision> {
        if !self.waiting.is_empty() || self.revision == Revision::MAX {
            return None;
        }
        let revision = std::mem::replace(&mut self.revision, Revision::MAX);
        if let Some(needed) = self.again.take() {
            self.open_round(needed);
        }
        Some(revision)
    }
}

impl Progress {
    /// A new watch, and how it is asked.
    pub fn join(&self, id: i64, control: Arc<Control>) {
        self.0.lock().watches.insert(id, control);
    }

    /// The watch ended; returns the revision to tell if it was the last one waited for.
    pub fn leave(&self, id: i64) -> Option<Revision> {
        let mut state = self.0.lock();
        state.watches.remove(&id);
        if state.waiting.remove(&id) { state.close_round() } else { None }
    }

    /// The client asks while the store is at revision `needed`.
    pub fn request(&self, needed: Revision) {
        let mut state = self.0.lock();
        if state.waiting.is_empty() {
            state.open_round(needed);
        } else {
            state.again = state.again.max(Some(needed));
        }
    }

    /// Watch `id` has delivered everything up to `revision`.
    pub fn answered(&self, id: i64, revision: Revision) -> Answer {
        let mut state = self.0.lock();
        if !state.waiting.contains(&id) {
            return Answer::NotAsked;
        }
        if revision < state.needed {
            return Answer::TooEarly;
        }
        state.waiting.remove(&id);
        state.revision = state.revision.min(revision);
        state.close_round().map_or(Answer::NotLast, Answer::Last)
    }
}

/// What an answer of one watch means for the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nobody asked: it is the watch's own progress notification.
    NotAsked,
    /// The watch has not come far enough yet: ask again.
    TooEarly,
    /// Others are still waited for.
    NotLast,
    /// Everybody has answered: tell this revision.
    Last(Revision),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_watch_decides() {
        let progress = Progress::default();
        progress.join(0, Arc::default());
        progress.join(1, Arc::default());
        assert_eq!(progress.answered(0, 5), Answer::NotAsked);
        progress.request(3);
        assert_eq!(progress.answered(0, 7), Answer::NotLast);
        assert_eq!(progress.answered(0, 9), Answer::NotAsked);
        assert_eq!(progress.answered(1, 6), Answer::Last(6));
    }

    #[test]
    fn a_watch_that_ends_is_not_waited_for() {
        let progress = Progress::default();
        progress.join(0, Arc::default());
        progress.join(1, Arc::default());
        progress.request(3);
        assert_eq!(progress.answered(0, 7), Answer::NotLast);
        assert_eq!(progress.leave(1), Some(7));
    }

    #[test]
    fn an_answer_older_than_the_request_does_not_count() {
        let progress = Progress::default();
        progress.join(0, Arc::default());
        progress.request(8);
        assert_eq!(progress.answered(0, 7), Answer::TooEarly);
        assert_eq!(progress.answered(0, 8), Answer::Last(8));
    }

    #[test]
    fn a_request_during_a_round_opens_another_one() {
        let progress = Progress::default();
        progress.join(0, Arc::default());
        progress.request(3);
        progress.request(3);
        assert_eq!(progress.answered(0, 3), Answer::Last(3));
        assert_eq!(progress.answered(0, 4), Answer::Last(4));
        assert_eq!(progress.answered(0, 5), Answer::NotAsked);
    }
}
