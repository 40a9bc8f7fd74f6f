//! How much a guest is trusted still: faults in a row, or among few answers, suspend it for a growing pause. Pure: time comes in.

use std::time::Duration;

/// What a fault weighs against an answer: a guest may fail once in so many calls for ever.
const FAULT: u32 = 64;
/// So many faults in a row suspend it.
const FAULTS_IN_ROW: u32 = 3;
const LIMIT: u32 = FAULTS_IN_ROW * FAULT;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Good, then (after faults) bad, then suspended until a time; then on probation, when one fault suspends it again.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    level: u32,
    /// Suspensions since it was last in good standing.
    pauses: u32,
    until: Option<Duration>,
}

impl Standing {
    pub fn is_suspended(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It has answered.
    pub fn answered(&mut self) {
        self.level = self.level.saturating_sub(1);
        if self.level == 0 {
            self.pauses = 0;
        }
    }

    /// It has failed. Returns when it is worth asking again.
    pub fn failed(&mut self, now: Duration) -> Duration {
        self.level += FAULT;
        if self.level < LIMIT {
            return now + FIRST_PAUSE;
        }
        self.level = LIMIT - FAULT;
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(16)).min(MAX_PAUSE);
        self.pauses += 1;
        let until = now + pause;
        self.until = Some(until);
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.` an answer, `x` a fault, `s` a fault that suspends: as many seconds as the number says.
    fn check(story: &str) {
        let (mut standing, mut now) = (Standing::default(), Duration::from_secs(10));
        for word in story.split_whitespace() {
            let at = format!("{word} in {story:?}");
            match word.split_at(1) {
                (".", count) => (0..count.parse().unwrap_or(1)).for_each(|_| standing.answered()),
                ("x", _) => {
                    assert_eq!(standing.failed(now), now + FIRST_PAUSE, "{at}");
                    assert!(!standing.is_suspended(now), "{at}");
                }
                (_, seconds) => {
                    let until = now + Duration::from_secs(seconds.parse().unwrap());
                    assert_eq!(standing.failed(now), until, "{at}");
                    assert!(standing.is_suspended(until - Duration::from_nanos(1)), "{at}");
                    now = until;
                }
            }
            assert!(!standing.is_suspended(now), "{at}");
        }
    }

    #[test]
    fn faults_in_a_row_suspend_for_longer_each_time() {
        check("x x s1 s2 s4 s8 s16 s32 s64 s128 s256 s300 s300");
    }

    #[test]
    fn answers_make_good_for_faults() {
        check("x x .200 x x s1");
        check("x .64 x .64 x .64 x .64 x");
        // A few answers are not enough for good standing; as many as two faults weigh are.
        check("x x s1 .10 x s2");
        check("x x s1 .128 x x s1");
    }

    #[test]
    fn a_guest_that_fails_every_other_time_is_suspended() {
        check("x . x . x . s1");
    }
}
