//! What a guest can do wrong. Each ends the call and the instance; what then becomes of the pod is the failure policy's.

use std::time::Duration;

/// Bytes of a guest's own words that are told on.
pub(crate) const MAX_WORDS: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("trapped: {0}")]
    Trap(String),
    #[error("used up its {0} units of fuel")]
    Fuel(u64),
    #[error("took longer than {0:?}")]
    Time(Duration),
    #[error("took longer than {0:?} for one pod")]
    TimeOfPod(Duration),
    #[error("wanted more than {0} bytes of memory")]
    Memory(u64),
    #[error("answered with the status code {0}, which has no meaning there")]
    Status(i32),
    #[error("gave the score {0}, which is not within 0 to 100")]
    Score(i64),
    #[error("pointed at memory that it does not have, in a call of {0}")]
    Pointer(&'static str),
    #[error("sent what cannot be read, in a call of {0}")]
    Garbage(&'static str),
    #[error("called {0}, which is not offered here")]
    Unsupported(&'static str),
    #[error("ended itself with the exit code {0}")]
    Exit(i32),
    /// Its own words for what went wrong.
    #[error("reported an error: {0}")]
    Reported(String),
}

impl Fault {
    /// The label of the figures.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Trap(_) => "trap",
            Fault::Fuel(_) => "fuel",
            Fault::Time(_) | Fault::TimeOfPod(_) => "time",
            Fault::Memory(_) => "memory",
            Fault::Status(_) => "status",
            Fault::Score(_) => "score",
            Fault::Pointer(_) => "pointer",
            Fault::Garbage(_) => "garbage",
            Fault::Unsupported(_) => "unsupported",
            Fault::Exit(_) => "exit",
            Fault::Reported(_) => "error",
        }
    }
}

/// A guest's bytes as text that fits into a log or an event: bounded, and on one line.
pub(crate) fn words(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]);
    text.trim().chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_short_and_on_one_line() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(words(bytes, 8), expected);
        check(b"plain", "plain");
        check(b" a\nb\0c ", "a b c");
        check(b"0123456789", "01234567");
        check("äääääää".as_bytes(), "ääää");
        check(&[0xff, b'x'], "\u{fffd}x");
    }
}
