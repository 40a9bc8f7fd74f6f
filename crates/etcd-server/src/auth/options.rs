//! `--auth-token`: which kind of token a member hands out, in etcd's own notation.
//!
//! `simple`, or `jwt,pub-key=FILE,priv-key=FILE,sign-method=RS256,ttl=10m`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::jwt::{Jwt, KeyError, Method};

/// How long a signed token lives unless `ttl` says otherwise.
const DEFAULT_TTL: Duration = Duration::from_secs(5 * 60);

/// The tokens that a member hands out and accepts.
#[derive(Default)]
pub enum TokenKind {
    /// Random letters that every member remembers.
    #[default]
    Simple,
    /// Signed claims that nobody has to remember.
    Jwt(Box<Jwt>),
}

/// Why `--auth-token` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenOptionsError {
    #[error("auth: invalid auth options: {0}")]
    Invalid(String),
    #[error("auth: invalid auth options: sign-method {0:?} is none of {all}", all = Method::NAMES.join(", "))]
    Method(String),
    #[error("auth: missing key data: {0}")]
    MissingKey(&'static str),
    #[error("auth: invalid auth options: cannot read {file}", file = .file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl TokenKind {
    /// Reads the option's value, and the files that it names.
    pub fn parse(text: &str) -> Result<Self, TokenOptionsError> {
        let (kind, options) = split(text)?;
        match kind {
            "simple" => Ok(TokenKind::Simple),
            "jwt" => Ok(TokenKind::Jwt(Box::new(jwt(&options)?))),
            other => Err(TokenOptionsError::Invalid(format!("token type {other:?} is neither simple nor jwt"))),
        }
    }
}

fn split(text: &str) -> Result<(&str, BTreeMap<&str, &str>), TokenOptionsError> {
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    for part in parts {
        let pair = part.split_once('=').filter(|(_, value)| !value.contains('='));
        let (key, value) =
            pair.ok_or_else(|| TokenOptionsError::Invalid(format!("{part:?} is not of the form a=b")))?;
        if options.insert(key, value).is_some() {
            return Err(TokenOptionsError::Invalid(format!("{key} is given twice")));
        }
    }
    Ok((kind, options))
}

fn jwt(options: &BTreeMap<&str, &str>) -> Result<Jwt, TokenOptionsError> {
    let known = ["sign-method", "pub-key", "priv-key", "ttl"];
    if let Some(unknown) = options.keys().find(|key| !known.contains(key)) {
        // As in etcd: said, and passed over.
        tracing::warn!(option = unknown, "unknown JWT option");
    }
    let given = |key: &str| options.get(key).copied().filter(|value| !value.is_empty());
    let ttl = match given("ttl") {
        Some(text) => {
            duration(text).ok_or_else(|| TokenOptionsError::Invalid(format!("ttl {text:?} is no duration")))?
        }
        None => DEFAULT_TTL,
    };
    let name = given("sign-method").unwrap_or_default();
    let method = Method::parse(name).ok_or_else(|| TokenOptionsError::Method(name.to_owned()))?;
    let read = |key: &str| {
        let file = given(key).map(PathBuf::from);
        file.map(|file| std::fs::read(&file).map_err(|source| TokenOptionsError::File { file, source })).transpose()
    };
    let (public, private) = (read("pub-key")?, read("priv-key")?);
    match (&public, &private) {
        (_, None) if method.is_symmetric() => Err(TokenOptionsError::MissingKey("priv-key is not given")),
        (None, None) => Err(TokenOptionsError::MissingKey("neither pub-key nor priv-key is given")),
        _ => Ok(Jwt::new(method, public.as_deref(), private.as_deref(), ttl)?),
    }
}

/// A positive duration in Go's notation: numbers with units, one after the other (`1h30m`, `1.5s`, `300ms`).
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|len| *len > 0)?;
        let (number, tail) = rest.split_at(digits);
        let (unit, seconds) =
            [("h", 3600.0), ("ms", 1e-3), ("m", 60.0), ("s", 1.0), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)]
                .into_iter()
                .find(|(unit, _)| tail.starts_with(unit))?;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        (total, rest) = (total.checked_add(part)?, &tail[unit.len()..]);
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let check = |text: &str, seconds: Option<f64>| {
            assert_eq!(duration(text), seconds.map(Duration::from_secs_f64), "{text}");
        };
        check("10m", Some(600.0));
        check("1h30m", Some(5400.0));
        check("1.5s", Some(1.5));
        check("300ms", Some(0.3));
        check("2s500us", Some(2.0005));
        for nonsense in ["", "10", "m", "-5m", "0s", "5x", "5m x"] {
            check(nonsense, None);
        }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let check = |text: &str, expected: &str| {
            let error = TokenKind::parse(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        };
        assert!(matches!(TokenKind::parse("simple"), Ok(TokenKind::Simple)));
        check("", "auth: invalid auth options: token type");
        check("opaque", "auth: invalid auth options: token type");
        check("jwt", "auth: invalid auth options: sign-method");
        check("jwt,sign-method=RS1", "auth: invalid auth options: sign-method \"RS1\" is none of RS256");
        check("jwt,sign-method=RS256", "auth: missing key data");
        check("jwt,sign-method=HS256", "auth: missing key data");
        check("jwt,sign-method=RS256,sign-method=RS256", "auth: invalid auth options: sign-method is given twice");
        check("jwt,ttl", "auth: invalid auth options: \"ttl\" is not of the form");
        check("jwt,sign-method=RS256,ttl=x", "auth: invalid auth options: ttl");
        check("jwt,sign-method=RS256,pub-key=/nowhere", "auth: invalid auth options: cannot read /nowhere");
        check("jwt,sign-method=HS256,priv-key=/dev/null", "auth: missing key data");
    }
}
