//! Bounds what a peer may ask for that brings nobody anything: resets of calls that run, pings, settings, empty frames.
//! What is useful (a call answered, data sent) gives some of it back, so that a busy honest peer is never cut off.

/// Frames that brought nothing, and resets of running calls, at most per tick and beyond what useful work allows.
const MAX_IDLE_FRAMES: u32 = 10_000;
const MAX_RESETS: u32 = 1_000;
/// The work that a useful frame allows.
const PER_USEFUL: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct Budget {
    useful: u32,
    idle_frames: u32,
    resets: u32,
}

impl Budget {
    pub fn useful(&mut self) {
        self.useful = self.useful.saturating_add(PER_USEFUL);
    }

    /// A frame that brought nothing. Returns whether that was one too many.
    #[must_use]
    pub fn idle_frame(&mut self) -> bool {
        self.idle_frames = self.idle_frames.saturating_add(1);
        self.idle_frames > self.useful.saturating_add(MAX_IDLE_FRAMES)
    }

    /// The peer gave up a call that ran. Returns whether that was one too many.
    #[must_use]
    pub fn reset(&mut self) -> bool {
        self.resets = self.resets.saturating_add(1);
        self.resets > self.useful.saturating_add(MAX_RESETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn useful_work_makes_room() {
        let mut budget = Budget::default();
        assert!((0..MAX_RESETS).all(|_| !budget.reset()));
        budget.useful();
        assert!(!budget.reset() && !budget.reset() && budget.reset());
    }
}
