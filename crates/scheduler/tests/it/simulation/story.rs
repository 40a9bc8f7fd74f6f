//! What happened in a simulation, line by line; a failure is understood from the last part, and a sum over all of it tells
//! whether two runs were the same.

use std::{collections::VecDeque, fmt, time::Duration};

/// Lines that are kept when not all are wanted.
const KEPT: usize = 120;

pub struct Story {
    lines: VecDeque<String>,
    whole: bool,
    sum: u64,
}

impl Story {
    pub fn new(whole: bool) -> Self {
        Story { lines: VecDeque::new(), whole, sum: 0xcbf2_9ce4_8422_2325 }
    }

    pub fn say(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        let line = format!("{:>8.2} s  {what}", now.as_secs_f64());
        for byte in line.bytes() {
            // FNV-1a.
            self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if !self.whole && self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Equal for equal stories.
    pub fn fingerprint(&self) -> u64 {
        self.sum
    }

    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
