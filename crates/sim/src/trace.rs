//! What happened, line by line. A sum over all lines tells whether two runs were the same; the lines themselves are kept
//! up to a bound, because a failure is understood from its last part.

use std::{collections::VecDeque, fmt};

/// Lines that are kept when not all are wanted.
const KEPT: usize = 400;

/// Bytes of a line that are kept; its sum is over all of them.
const LONGEST: usize = 400;

/// The story of one run.
#[derive(Debug)]
pub struct Trace {
    lines: VecDeque<String>,
    /// All lines are kept.
    whole: bool,
    sum: u64,
    count: u64,
}

impl Trace {
    pub fn new(whole: bool) -> Self {
        Trace { lines: VecDeque::new(), whole, sum: 0xcbf2_9ce4_8422_2325, count: 0 }
    }

    /// Adds a line at a virtual time in microseconds.
    pub fn say(&mut self, now: u64, what: fmt::Arguments<'_>) {
        let mut line = format!("{:>9}.{:03} ms  {what}", now / 1000, now % 1000);
        for byte in line.bytes() {
            // FNV-1a.
            self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        if !self.whole && self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        if line.len() > LONGEST {
            line.truncate(line.floor_char_boundary(LONGEST));
            line.push('…');
        }
        self.lines.push_back(line);
    }

    /// Equal for equal traces: (sum over all bytes, lines).
    pub fn fingerprint(&self) -> (u64, u64) {
        (self.sum, self.count)
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
