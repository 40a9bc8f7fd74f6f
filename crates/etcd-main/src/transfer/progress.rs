//! How far it is: a line on a terminal that is written over, and nothing where nobody looks.

use std::io::{self, IsTerminal, Write};

/// Progress of one thing.
pub struct Progress {
    what: &'static str,
    terminal: bool,
    shown: bool,
    /// Only changes of so much are shown.
    every: u64,
    last: u64,
}

impl Progress {
    pub fn new(what: &'static str, every: u64) -> Self {
        Progress { what, terminal: io::stderr().is_terminal(), shown: false, every, last: 0 }
    }

    /// So much is done, of so much where that is known.
    pub fn show(&mut self, done: u64, of: Option<u64>, unit: &str) {
        if !self.terminal || self.shown && done.saturating_sub(self.last) < self.every {
            return;
        }
        (self.shown, self.last) = (true, done);
        let of = of.map_or_else(String::new, |all| format!(" of {all}"));
        // A terminal that cannot be written to is no reason to stop.
        let _ = write!(io::stderr(), "\r\x1b[K{}: {done}{of} {unit}", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = writeln!(io::stderr());
        }
    }
}
