//! How Go reads and writes the values of flags: numbers, booleans, durations, quoted text. Knows no flag.

use std::time::Duration;

/// Why a value is not taken, in the words of Go's flag package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("parse error")]
    Syntax,
    #[error("value out of range")]
    Range,
}

pub fn parse_bool(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::Syntax),
    }
}

/// An unsigned number with Go's prefixes: 0x, 0o, 0b, a leading 0 for octal, and `_` between digits after a prefix.
pub fn parse_uint(text: &str) -> Result<u64, ValueError> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    let misplaced = digits.ends_with('_') || digits.contains("__") || (radix == 10 && digits.contains('_'));
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    if misplaced || digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(ValueError::Syntax);
    }
    u64::from_str_radix(&digits, radix).map_err(|_| ValueError::Range)
}

/// A signed number, written as for [`parse_uint`].
pub fn parse_int(text: &str) -> Result<i64, ValueError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(parse_uint(digits)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| ValueError::Range)
}

const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// A duration such as `1h30m` or `1.5s` in nanoseconds; it may be negative, and has a unit unless it is 0.
pub fn parse_duration(text: &str) -> Result<i64, ValueError> {
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(ValueError::Syntax);
    }
    let mut nanoseconds = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(ValueError::Syntax)?;
        let number: f64 = rest[..end].parse().map_err(|_| ValueError::Syntax)?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..end]).ok_or(ValueError::Syntax)?;
        nanoseconds += number * unit.1;
        rest = &rest[end..];
    }
    // Past this a duration does not fit Go's own type.
    if nanoseconds >= i64::MAX as f64 {
        return Err(ValueError::Syntax);
    }
    let nanoseconds = nanoseconds.round() as i64;
    Ok(if negative { -nanoseconds } else { nanoseconds })
}

/// A duration as Go prints it: `1h0m0s`, `1m30s`, `100ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let fraction = |unit: u128, name: &str| {
        let (whole, rest) = (nanoseconds / unit, nanoseconds % unit);
        if rest == 0 {
            return format!("{whole}{name}");
        }
        let digits = unit.ilog10() as usize;
        format!("{whole}.{}{name}", format!("{rest:0digits$}").trim_end_matches('0'))
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => fraction(1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => fraction(1_000_000, "ms"),
        _ => {
            let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
            let seconds = Duration::new(duration.as_secs() % 60, duration.subsec_nanos());
            let seconds = match seconds.subsec_nanos() {
                0 => format!("{}s", seconds.as_secs()),
                rest => format!("{}.{}s", seconds.as_secs(), format!("{rest:09}").trim_end_matches('0')),
            };
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, _) => format!("{minutes}m{seconds}"),
                _ => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// A list of texts as Go's `%q` prints it.
pub fn quoted_list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("100", Ok(100)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            ("0b11", Ok(3)),
            ("0x_ff", Ok(255)),
            ("1_000", Err(ValueError::Syntax)),
            ("", Err(ValueError::Syntax)),
            ("-1", Err(ValueError::Syntax)),
            ("1.5", Err(ValueError::Syntax)),
            ("99999999999999999999", Err(ValueError::Range)),
        ] {
            assert_eq!(parse_uint(text), expected, "{text:?}");
        }
        assert_eq!(parse_int("-5"), Ok(-5));
        assert_eq!(parse_int("9223372036854775808"), Err(ValueError::Range));
    }

    #[test]
    fn durations_there_and_back() {
        for (text, milliseconds, printed) in [
            ("5s", 5_000, "5s"),
            ("1h", 3_600_000, "1h0m0s"),
            ("1h30m", 5_400_000, "1h30m0s"),
            ("1.5s", 1_500, "1.5s"),
            ("90s", 90_000, "1m30s"),
            ("100ms", 100, "100ms"),
            ("2500us", 2, "2.5ms"),
            ("0", 0, "0s"),
        ] {
            let duration = Duration::from_nanos(parse_duration(text).unwrap().unsigned_abs());
            assert_eq!((duration.as_millis(), format_duration(duration).as_str()), (milliseconds, printed), "{text}");
        }
        for text in ["", "5", "s", "5x", "1h5", "--1s", "300000000h"] {
            assert_eq!(parse_duration(text), Err(ValueError::Syntax), "{text:?}");
        }
        assert_eq!(parse_duration("-1s"), Ok(-1_000_000_000));
    }
}
