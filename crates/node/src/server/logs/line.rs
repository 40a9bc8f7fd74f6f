//! One line of a CRI log file: `<RFC 3339 time> <stdout|stderr> <tags> <text>`. The tag `P` says that the text goes on
//! in the next line.

use jiff::Timestamp;

use super::Streams;

/// A parsed line; everything borrows from the file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub time: &'a [u8],
    pub stream: &'a [u8],
    /// More of the same line follows.
    pub partial: bool,
    pub text: &'a [u8],
}

/// Reads one line (without its newline). `None` when it is not in the format; such a line is left out.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    if time.is_empty() || !matches!(stream, b"stdout" | b"stderr") {
        return None;
    }
    let partial = tags.split(|byte| *byte == b':').any(|tag| tag == b"P");
    Some(Line { time, stream, partial, text: parts.next().unwrap_or_default() })
}

impl Line<'_> {
    /// Whether the line is one of those asked for.
    pub fn wanted(&self, streams: Streams, since: Option<Timestamp>) -> bool {
        let stream = match streams {
            Streams::All => true,
            Streams::Stdout => self.stream == b"stdout",
            Streams::Stderr => self.stream == b"stderr",
        };
        stream && since.is_none_or(|since| self.timestamp().is_none_or(|time| time >= since))
    }

    fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_the_format() {
        let check = |text: &'static str, expected: Option<(&str, bool, &str)>| {
            let line = parse(text.as_bytes());
            let got = line.map(|l| (l.stream, l.partial, l.text));
            assert_eq!(got, expected.map(|(s, p, t)| (s.as_bytes(), p, t.as_bytes())), "{text}");
        };
        check("2026-01-01T00:00:00.1Z stdout F hello world", Some(("stdout", false, "hello world")));
        check("2026-01-01T00:00:00.1Z stderr P half", Some(("stderr", true, "half")));
        check("2026-01-01T00:00:00.1Z stdout F ", Some(("stdout", false, "")));
        check("2026-01-01T00:00:00.1Z stdin F x", None);
        check("nonsense", None);
        check("", None);
    }

    #[test]
    fn since_leaves_older_lines_out() {
        let line = parse(b"2026-01-01T00:00:10.5Z stdout F x").unwrap();
        let at = |text: &str| Some(text.parse().unwrap());
        assert!(line.wanted(Streams::All, at("2026-01-01T00:00:10Z")));
        assert!(!line.wanted(Streams::All, at("2026-01-01T00:00:11Z")));
        assert!(!line.wanted(Streams::Stderr, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = parse(&bytes).map(|line| line.wanted(Streams::All, Some(Timestamp::UNIX_EPOCH)));
        }
    }
}
