//! Go's durations, as Kubernetes writes them: `15s`, `1m40s`, `1.5h`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A signed span of nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

/// Why a text is no duration, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", MICROSECOND),
    ("µs", MICROSECOND),
    ("μs", MICROSECOND),
    ("ms", MILLISECOND),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

impl GoDuration {
    /// The longest there is, where that is shorter.
    pub const fn seconds(seconds: i64) -> Self {
        GoDuration(seconds.saturating_mul(SECOND))
    }

    /// As a span of time; a negative one is none.
    pub fn get(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Reads what Go's `time.ParseDuration` reads.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(GoDuration(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, after) = rest.split_at(end);
            if number.is_empty() || number == "." || number.matches('.').count() > 1 {
                return Err(invalid());
            }
            let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            if unit.is_empty() {
                return Err(DurationError::MissingUnit(text.to_owned()));
            }
            let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() });
            };
            total += nanoseconds(number, *scale).ok_or_else(invalid)?;
            if total > i128::from(i64::MAX) + i128::from(negative) {
                return Err(invalid());
            }
            rest = after;
        }
        let total = if negative { -total } else { total };
        i64::try_from(total).map(GoDuration).map_err(|_| invalid())
    }
}

fn nanoseconds(number: &str, scale: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
    // Digits beyond a nanosecond of the largest unit change nothing.
    let digits: String = fraction.chars().take(18).collect();
    let fraction: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let power = 10_i128.pow(u32::try_from(digits.len()).ok()?);
    Some(whole * i128::from(scale) + fraction * i128::from(scale) / power)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let nanoseconds = self.0.unsigned_abs();
        let second = SECOND.unsigned_abs();
        if nanoseconds < second {
            let (unit, scale) = match nanoseconds {
                ..1_000 => ("ns", 1),
                1_000..1_000_000 => ("µs", 1_000),
                _ => ("ms", 1_000_000),
            };
            return write!(f, "{}{unit}", decimal(nanoseconds, scale));
        }
        let (minutes, rest) = (nanoseconds / (60 * second), nanoseconds % (60 * second));
        match (minutes / 60, minutes % 60) {
            (0, 0) => {}
            (0, minutes) => write!(f, "{minutes}m")?,
            (hours, minutes) => write!(f, "{hours}h{minutes}m")?,
        }
        write!(f, "{}s", decimal(rest, second))
    }
}

/// `number / scale` without trailing zeros.
fn decimal(number: u64, scale: u64) -> String {
    let (whole, rest) = (number / scale, number % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = scale.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        GoDuration::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let read = GoDuration::parse(text).map(|duration| duration.to_string()).map_err(|error| error.to_string());
            assert_eq!(read.as_deref().map_err(String::as_str), expected, "{text}");
        };
        check("15s", Ok("15s"));
        check("0", Ok("0s"));
        check("100s", Ok("1m40s"));
        check("1h", Ok("1h0m0s"));
        check("1.5h", Ok("1h30m0s"));
        check("-2m3.5s", Ok("-2m3.5s"));
        check("+5ms", Ok("5ms"));
        check("1500us", Ok("1.5ms"));
        check("3µs7ns", Ok("3.007µs"));
        check(".5s", Ok("500ms"));
        check("9223372036854775807ns", Ok("2562047h47m16.854775807s"));
        check("9223372036854775808ns", Err("time: invalid duration \"9223372036854775808ns\""));
        check("15", Err("time: missing unit in duration \"15\""));
        check("", Err("time: invalid duration \"\""));
        check("1x", Err("time: unknown unit \"x\" in duration \"1x\""));
        check("s", Err("time: invalid duration \"s\""));
        check("1.2.3s", Err("time: invalid duration \"1.2.3s\""));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(nanoseconds: i64) {
            let written = GoDuration(nanoseconds).to_string();
            assert_eq!(GoDuration::parse(&written), Ok(GoDuration(nanoseconds)));
        }

        #[test]
        fn no_text_is_too_odd(text in ".*") {
            let _ = GoDuration::parse(&text);
        }
    }
}
