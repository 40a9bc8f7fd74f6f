//! Whether the peer is there, and whether it asks too often whether we are: gRPC's keep-alive (proposals A8 and A9), as
//! servers in Go keep it. Time comes from the driver.

use std::time::Duration;

use super::Engine;
use crate::{
    Encode,
    frame::{self, Reason},
    server::KeepAlive,
};

/// Pings too soon that a client is forgiven, since the last answer to it.
const MAX_STRIKES: u32 = 2;
/// Without a call, pings serve nobody: so long they may not come again.
const IDLE_MIN_TIME: Duration = Duration::from_secs(2 * 3600);
/// What a client is told that pings too often.
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";
/// The interval is looked at in so many parts: a peer is asked at most one part too late.
const PARTS: u32 = 4;
/// A shorter interval is raised to this, as in Go.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// What was heard of a peer, and how it pings.
#[derive(Debug, Default)]
pub(super) struct Alive {
    /// Something has come since the last look.
    pub heard: bool,
    /// Looks since something came.
    silent: u32,
    asked: bool,
    /// Pings since the last judgement.
    pings: u32,
    /// Something was sent since the last ping.
    sent: bool,
    strikes: u32,
    last_ping: Option<Duration>,
}

impl Alive {
    /// Part of an answer goes out: a ping to measure how fast it arrives is no offence.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    pub fn pinged(&mut self) {
        self.pings = self.pings.saturating_add(1);
    }

    /// Whether the pings that have come are too many.
    fn offends(&mut self, now: Duration, min_time: Duration) -> bool {
        for _ in 0..std::mem::take(&mut self.pings).min(MAX_STRIKES + 2) {
            let last = self.last_ping.replace(now);
            if std::mem::take(&mut self.sent) {
                self.strikes = 0;
            } else if last.is_some_and(|last| now < last + min_time) {
                self.strikes += 1;
            }
        }
        self.strikes > MAX_STRIKES
    }
}

impl KeepAlive {
    /// Until the driver looks for the first time; none where the peer is never asked.
    pub(crate) fn first_look(&self) -> Option<Duration> {
        let on = !self.interval.is_zero() && !self.timeout.is_zero();
        on.then(|| self.interval.max(MIN_INTERVAL) / PARTS)
    }
}

impl<R: Encode + Send + 'static> Engine<R> {
    /// Whether there are pings to judge.
    pub fn was_pinged(&self) -> bool {
        self.alive.pings > 0
    }

    /// Judges the pings that have come; `now` counts from any moment.
    pub fn judge_pings(&mut self, now: Duration) {
        let min_time = if self.streams.is_empty() { IDLE_MIN_TIME } else { self.server.keep_alive.min_time };
        if self.alive.offends(now, min_time) {
            frame::put_go_away(self.last_stream, Reason::EnhanceYourCalm, TOO_MANY_PINGS, self.output.tail());
            self.close();
        }
    }

    /// Asks a silent peer whether it is there, and gives it up when it does not answer. Says when to look again.
    pub fn look(&mut self) -> Duration {
        let part = self.server.keep_alive.interval.max(MIN_INTERVAL) / PARTS;
        if std::mem::take(&mut self.alive.heard) {
            (self.alive.silent, self.alive.asked) = (0, false);
            return part;
        }
        if self.alive.asked {
            self.close();
            return part;
        }
        self.alive.silent += 1;
        if self.alive.silent < PARTS {
            return part;
        }
        self.alive.asked = true;
        frame::put_ping(*b"stillher", false, self.output.tail());
        self.server.keep_alive.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_that_come_too_soon() {
        // Seconds at which a ping comes, or "-" where something is sent to the peer.
        let check = |line: &str, min_seconds: u64, expected: bool| {
            let (mut alive, mut offends) = (Alive::default(), false);
            for word in line.split(' ') {
                match word.parse() {
                    Err(_) => alive.sent(),
                    Ok(seconds) => {
                        alive.pinged();
                        offends = alive.offends(Duration::from_secs(seconds), Duration::from_secs(min_seconds));
                    }
                }
            }
            assert_eq!(offends, expected, "{line}");
        };
        check("0 5 10 15 20 25", 5, false);
        check("0 1 2", 5, false);
        check("0 1 2 3", 5, true);
        check("0 1 2 - 3 4 5", 5, false);
        check("0 1 2 - 3 4 5 6", 5, true);
        // Good ones in between make none forgotten.
        check("0 1 10 11 20 21", 5, true);
        check("0 0 0 0", 0, false);
    }
}
