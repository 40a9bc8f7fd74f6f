//! How long to wait before something that failed is tried again: kubelet's figures, as plain data.

use jiff::{SignedDuration, Timestamp};

/// The first pause after a crash or a failed pull.
const CRASH_BASE: SignedDuration = SignedDuration::from_secs(10);
/// Pauses double up to this.
const CRASH_MAX: SignedDuration = SignedDuration::from_secs(300);
/// After so long without trouble the pauses start from the beginning.
const CRASH_FORGET: SignedDuration = SignedDuration::from_secs(600);

/// The pauses between restarts of one container or between pulls of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashBackoff {
    /// The pause that the last attempt set, and when.
    set: Option<(SignedDuration, Timestamp)>,
}

impl CrashBackoff {
    /// The pause in force for something that failed at `failed_at`: when it ends, and how long it is. `None` lets the
    /// next attempt go ahead.
    pub fn waiting(&self, failed_at: Timestamp, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
        let (pause, set_at) = self.set?;
        if failed_at.duration_since(set_at) > CRASH_FORGET {
            return None;
        }
        let until = failed_at.checked_add(pause).unwrap_or(Timestamp::MAX);
        (until > now).then_some((until, pause))
    }

    /// An attempt is made for what failed at `failed_at`: the next pause doubles, or starts over after a quiet time.
    pub fn attempt(&mut self, failed_at: Timestamp, now: Timestamp) {
        let pause = match self.set {
            Some((pause, set_at)) if failed_at.duration_since(set_at) <= CRASH_FORGET => {
                pause.checked_mul(2).unwrap_or(CRASH_MAX).min(CRASH_MAX)
            }
            _ => CRASH_BASE,
        };
        self.set = Some((pause, now));
    }
}

/// Pauses for steps that usually succeed soon (volumes, sandboxes): from `base` doubling to `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
    pub not_before: Option<Timestamp>,
}

/// The first pause of [`Retry`].
const RETRY_BASE: SignedDuration = SignedDuration::from_millis(500);
/// The longest pause of [`Retry`]: kubelet's for volumes.
const RETRY_MAX: SignedDuration = SignedDuration::from_secs(122);

impl Retry {
    pub fn failed(&mut self, now: Timestamp) {
        let pause = RETRY_BASE.checked_mul(1 << self.failures.min(10)).unwrap_or(RETRY_MAX).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.checked_add(pause).ok();
    }

    pub fn succeeded(&mut self) {
        *self = Retry::default();
    }

    /// Whether an attempt may be made now.
    pub fn due(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn crashes_wait_ten_seconds_doubling_to_five_minutes() {
        let mut backoff = CrashBackoff::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = backoff.waiting(at(now), at(now)).map_or(0, |(_, pause)| pause.as_secs());
            pauses.push(pause);
            now += pause;
            backoff.attempt(at(now - pause), at(now));
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_start_over() {
        let mut backoff = CrashBackoff::default();
        backoff.attempt(at(0), at(0));
        backoff.attempt(at(10), at(20));
        assert_eq!(backoff.waiting(at(30), at(30)), Some((at(50), SignedDuration::from_secs(20))));
        assert_eq!(backoff.waiting(at(700), at(700)), None);
        backoff.attempt(at(700), at(700));
        assert_eq!(backoff.waiting(at(701), at(701)).map(|(_, pause)| pause.as_secs()), Some(10));
    }

    #[test]
    fn retries_double_and_are_bounded() {
        let mut retry = Retry::default();
        assert!(retry.due(at(0)));
        retry.failed(at(0));
        assert!(!retry.due(at(0)) && retry.due(at(1)));
        for _ in 0..40 {
            retry.failed(at(0));
        }
        assert_eq!(retry.not_before, Some(at(122)));
    }
}
