//! A command line in the syntax of Go's pflag, with its words for what is none.

use std::{collections::BTreeMap, net::IpAddr};

use sched_config::GoDuration;

use crate::flags::{self, Flag, Kind};

/// The flags of one letter.
const SHORTHANDS: [(char, &str); 2] = [('v', "v"), ('h', "help")];

/// What flags were given as. Every value is one of its flag's kind.
#[derive(Clone, Debug, Default)]
pub struct Values {
    given: BTreeMap<&'static str, Vec<String>>,
}

/// A command line that is none, in pflag's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("unknown flag: --{0}")]
    Unknown(String),
    #[error("unknown shorthand flag: {letter:?} in -{group}")]
    UnknownShorthand { letter: char, group: String },
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    #[error("flag needs an argument: {0}")]
    NoArgument(String),
    #[error("invalid argument {value:?} for \"{flag}\" flag: {reason}")]
    Value { value: String, flag: String, reason: String },
    #[error("\"kube-scheduler\" does not take any arguments, got [{0}]")]
    Arguments(String),
}

/// Reads a command line without the program's name. Help that is asked for wins over what is wrong behind it.
pub fn parse(arguments: &[String]) -> Result<Values, ParseError> {
    let mut values = Values::default();
    let mut stray = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            stray.extend(rest.by_ref().cloned());
        } else if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            if name.is_empty() || name.starts_with('-') {
                return Err(ParseError::Syntax(argument.clone()));
            }
            // pflag takes words with underscores for the same.
            let flag = flags::find(&name.replace('_', "-")).ok_or_else(|| ParseError::Unknown(name.to_owned()))?;
            let missing = || ParseError::NoArgument(format!("--{name}"));
            let value = value.or_else(|| flag.kind.alone().map(str::to_owned)).or_else(|| rest.next().cloned());
            values.set(flag, value.ok_or_else(missing)?)?;
        } else if argument.len() > 1 && argument.starts_with('-') {
            shorthands(&argument[1..], &mut rest, &mut values)?;
        } else {
            stray.push(argument.clone());
        }
        if values.bool("help") {
            return Ok(values);
        }
    }
    if stray.iter().any(|argument| !argument.is_empty()) {
        let all: Vec<String> = stray.iter().map(|argument| format!("{argument:?}")).collect();
        return Err(ParseError::Arguments(all.join(" ")));
    }
    Ok(values)
}

/// Reads flags of one letter: `-v4`, `-v=4`, `-v 4`.
fn shorthands<'a>(
    group: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    values: &mut Values,
) -> Result<(), ParseError> {
    let mut left = group;
    while let Some(letter) = left.chars().next() {
        left = &left[letter.len_utf8()..];
        let Some((_, name)) = SHORTHANDS.iter().find(|(known, _)| *known == letter) else {
            return Err(ParseError::UnknownShorthand { letter, group: group.to_owned() });
        };
        let flag = flags::find(name).expect("a shorthand stands for a flag");
        if let Some(alone) = flag.kind.alone() {
            values.set(flag, alone.to_owned())?;
            continue;
        }
        let value = match left.strip_prefix('=').unwrap_or(left) {
            "" => rest.next().cloned(),
            value => Some(value.to_owned()),
        };
        let missing = || ParseError::NoArgument(format!("{letter:?} in -{group}"));
        return values.set(flag, value.ok_or_else(missing)?);
    }
    Ok(())
}

impl Values {
    /// Whether the flag was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value of a flag that has one.
    pub fn text(&self, name: &str) -> &str {
        let given = self.given.get(name).and_then(|all| all.last()).map(String::as_str);
        given.unwrap_or_else(|| flags::find(name).map_or("", |flag| flag.default))
    }

    pub fn bool(&self, name: &str) -> bool {
        go_bool(self.text(name)).unwrap_or(false)
    }

    pub fn int(&self, name: &str) -> i64 {
        go_int(self.text(name), 64).unwrap_or(0)
    }

    pub fn float(&self, name: &str) -> f32 {
        self.text(name).parse().unwrap_or(0.0)
    }

    pub fn duration(&self, name: &str) -> GoDuration {
        GoDuration::parse(self.text(name)).unwrap_or_default()
    }

    /// All values of a flag that takes several, or that may be given several times.
    pub fn list(&self, name: &str) -> Vec<String> {
        let split = |text: &String| csv(text).unwrap_or_default();
        match self.given.get(name) {
            Some(given) => given.iter().flat_map(split).collect(),
            None => split(&self.text(name).to_owned()),
        }
    }

    /// The values as they were given.
    pub fn raw(&self, name: &str) -> &[String] {
        self.given.get(name).map_or(&[], Vec::as_slice)
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), ParseError> {
        if let Err(reason) = check(flag.kind, &value) {
            let short = SHORTHANDS.iter().find(|(_, name)| *name == flag.name);
            let flag = match short {
                Some((letter, name)) => format!("-{letter}, --{name}"),
                None => format!("--{}", flag.name),
            };
            return Err(ParseError::Value { value, flag, reason });
        }
        let all = self.given.entry(flag.name).or_default();
        if !flag.kind.adds_up() {
            all.clear();
        }
        all.push(value);
        Ok(())
    }
}

/// Whether a value is of the kind; if not, why, in Go's words.
fn check(kind: Kind, value: &str) -> Result<(), String> {
    let number = |function: &str, reason: &str| format!("strconv.{function}: parsing {value:?}: {reason}");
    let done = |ok: bool, reason: &dyn Fn() -> String| if ok { Ok(()) } else { Err(reason()) };
    match kind {
        Kind::Text | Kind::Gates => Ok(()),
        Kind::Bool => go_bool(value).map(drop).ok_or_else(|| number("ParseBool", "invalid syntax")),
        Kind::Int => go_int(value, 64).map(drop).map_err(|reason| number("ParseInt", reason)),
        Kind::Int32 => go_int(value, 32).map(drop).map_err(|reason| number("ParseInt", reason)),
        Kind::Int32Slice => value.split(',').try_for_each(|one| {
            go_int(one, 32).map(drop).map_err(|reason| format!("strconv.ParseInt: parsing {one:?}: {reason}"))
        }),
        Kind::Float32 => done(value.parse::<f32>().is_ok(), &|| number("ParseFloat", "invalid syntax")),
        Kind::Texts => csv(value).map(drop),
        Kind::Duration => GoDuration::parse(value).map(drop).map_err(|error| error.to_string()),
        Kind::Ip => done(value.parse::<IpAddr>().is_ok(), &|| format!("failed to parse IP: {value:?}")),
        Kind::Level => done(value.parse::<u32>().is_ok(), &|| number("ParseUint", "invalid syntax")),
        Kind::VModule => value.split(',').filter(|one| !one.is_empty()).try_for_each(|one| {
            let valid =
                one.split_once('=').is_some_and(|(pattern, level)| !pattern.is_empty() && level.parse::<u32>().is_ok());
            done(valid, &|| format!("{one:?} does not have the pattern=N format"))
        }),
        Kind::Quantity => done(is_quantity(value), &|| {
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()
        }),
        Kind::Map => csv(value)?
            .iter()
            .try_for_each(|one| done(one.contains('='), &|| format!("{one} must be formatted as key=value"))),
        Kind::CertKey => done(value.split_once(',').is_some(), &|| {
            "expected comma separated certificate and key file paths".to_owned()
        }),
        Kind::Version => match value.strip_prefix('v') {
            Some(rest) => done(is_version(rest), &|| format!("illegal version string {value:?}")),
            None if value == "raw" => Ok(()),
            None => go_bool(value).map(drop).ok_or_else(|| number("ParseBool", "invalid syntax")),
        },
    }
}

fn is_version(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u64>().is_ok())
}

fn is_quantity(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|rest| rest.parse::<i8>().is_ok());
    number.contains(|c: char| c.is_ascii_digit())
        && number.matches('.').count() <= 1
        && (known.contains(&suffix) || exponent)
}

fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What Go's `strconv.ParseInt` takes with any base.
fn go_int(text: &str, bits: u32) -> Result<i64, &'static str> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err("invalid syntax");
    }
    let size = i128::from_str_radix(digits, base).map_err(|_| "value out of range")?;
    let value = if text.starts_with('-') { -size } else { size };
    let limit = 1_i128 << (bits - 1);
    if value < -limit || value >= limit {
        return Err("value out of range");
    }
    i64::try_from(value).map_err(|_| "value out of range")
}

/// One line of comma-separated values, with quotes where commas are meant.
fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    if text.is_empty() {
        return Ok(fields);
    }
    let wrong = |at: usize, what: &str| format!("parse error on line 1, column {}: {what}", at + 1);
    loop {
        let mut field = String::new();
        if chars.next_if(|(_, c)| *c == '"').is_some() {
            loop {
                match chars.next() {
                    Some((_, '"')) if chars.next_if(|(_, c)| *c == '"').is_some() => field.push('"'),
                    Some((_, '"')) => break,
                    Some((_, c)) => field.push(c),
                    None => return Err(wrong(text.chars().count(), "extraneous or missing \" in quoted-field")),
                }
            }
        } else {
            while let Some((at, c)) = chars.next_if(|(_, c)| *c != ',') {
                if c == '"' {
                    return Err(wrong(at, "bare \" in non-quoted-field"));
                }
                field.push(c);
            }
        }
        fields.push(field);
        match chars.next() {
            None => return Ok(fields),
            Some((_, ',')) => {}
            Some((at, _)) => return Err(wrong(at, "extraneous or missing \" in quoted-field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Values, ParseError> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn values_are_read_as_pflag_does() {
        let check =
            |line: &str, name: &str, expected: &str| assert_eq!(parsed(line).unwrap().text(name), expected, "{line}");
        check("--secure-port 1", "secure-port", "1");
        check("--secure-port=1 --secure-port=2", "secure-port", "2");
        check("--secure_port=1", "secure-port", "1");
        check("", "secure-port", "10259");
        check("--leader-elect=false", "leader-elect", "false");
        check("--leader-elect", "leader-elect", "true");
        check("-v4", "v", "4");
        check("-v=4", "v", "4");
        check("-v 4", "v", "4");
        check("-h --nothing", "help", "true");
        let lists = parsed("--tls-cipher-suites=a,b --tls-cipher-suites c").unwrap();
        assert_eq!(lists.list("tls-cipher-suites"), ["a", "b", "c"]);
        assert_eq!(lists.list("requestheader-group-headers"), ["x-remote-group"]);
        let quoted = parse(&["--disabled-metrics=\"a,b\",c\"d".replace("c\"d", "cd")]).unwrap();
        assert_eq!(quoted.list("disabled-metrics"), ["a,b", "cd"]);
    }

    #[test]
    fn what_is_wrong_is_told_in_pflags_words() {
        let check = |line: &str, expected: &str| assert_eq!(parsed(line).unwrap_err().to_string(), expected, "{line}");
        check("--foo", "unknown flag: --foo");
        check("--config", "flag needs an argument: --config");
        check("extra", "\"kube-scheduler\" does not take any arguments, got [\"extra\"]");
        check("--leader-elect maybe", "\"kube-scheduler\" does not take any arguments, got [\"maybe\"]");
        check("-x", "unknown shorthand flag: 'x' in -x");
        check("-v", "flag needs an argument: 'v' in -v");
        check("--=x", "bad flag syntax: --=x");
        check("---x", "bad flag syntax: ---x");
        let value =
            |value: &str, flag: &str, reason: &str| format!("invalid argument {value:?} for \"{flag}\" flag: {reason}");
        check("--secure-port x", &value("x", "--secure-port", "strconv.ParseInt: parsing \"x\": invalid syntax"));
        check("--secure-port=", &value("", "--secure-port", "strconv.ParseInt: parsing \"\": invalid syntax"));
        check("-vx", &value("x", "-v, --v", "strconv.ParseUint: parsing \"x\": invalid syntax"));
        check(
            "--leader-elect=maybe",
            &value("maybe", "--leader-elect", "strconv.ParseBool: parsing \"maybe\": invalid syntax"),
        );
        check("--bind-address=foo", &value("foo", "--bind-address", "failed to parse IP: \"foo\""));
        check("--vmodule=x", &value("x", "--vmodule", "\"x\" does not have the pattern=N format"));
        check(
            "--leader-elect-lease-duration=5",
            &value("5", "--leader-elect-lease-duration", "time: missing unit in duration \"5\""),
        );
        check("--kube-api-qps=a", &value("a", "--kube-api-qps", "strconv.ParseFloat: parsing \"a\": invalid syntax"));
        check(
            "--kube-api-burst=99999999999",
            &value("99999999999", "--kube-api-burst", "strconv.ParseInt: parsing \"99999999999\": value out of range"),
        );
        check("--version=foo", &value("foo", "--version", "strconv.ParseBool: parsing \"foo\": invalid syntax"));
        check("--version=v9.9", &value("v9.9", "--version", "illegal version string \"v9.9\""));
        check(
            "--requestheader-allowed-names=a,\"b",
            &value(
                "a,\"b",
                "--requestheader-allowed-names",
                "parse error on line 1, column 5: extraneous or missing \" in quoted-field",
            ),
        );
        check("--allow-metric-labels=x", &value("x", "--allow-metric-labels", "x must be formatted as key=value"));
        check(
            "--tls-sni-cert-key=a",
            &value("a", "--tls-sni-cert-key", "expected comma separated certificate and key file paths"),
        );
        check(
            "--tls-curve-preferences=a",
            &value("a", "--tls-curve-preferences", "strconv.ParseInt: parsing \"a\": invalid syntax"),
        );
    }

    #[test]
    fn every_default_is_of_its_flags_kind() {
        for flag in flags::GROUPS.iter().flat_map(|group| group.flags) {
            let unset = flag.default.is_empty();
            assert!(unset || check(flag.kind, flag.default).is_ok(), "{}", flag.name);
        }
    }
}
