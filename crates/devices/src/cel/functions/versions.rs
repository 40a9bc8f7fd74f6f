//! Versions by semver 2.0: `semver("1.2.3")` and what can be asked of one.

use std::{cmp::Ordering, sync::Arc};

use semver::Version;

use super::{Answer, Overload, function, method};
use crate::cel::{
    Fault,
    value::{Type, Value},
};

const TWO: &[Type] = &[Type::Semver, Type::Semver];
const ONE: &[Type] = &[Type::Semver];

pub(super) const VERSIONS: &[Overload] = &[
    function("semver", &[Type::String], Type::Semver, |values, _| version(values)),
    function("semver", &[Type::String, Type::Bool], Type::Semver, |values, _| version(values)),
    function("isSemver", &[Type::String], Type::Bool, |values, _| Ok(Value::Bool(version(values).is_ok()))),
    function("isSemver", &[Type::String, Type::Bool], Type::Bool, |values, _| Ok(Value::Bool(version(values).is_ok()))),
    method("isGreaterThan", TWO, Type::Bool, |values, _| {
        compare(values).map(|order| Value::Bool(order == Ordering::Greater))
    }),
    method("isLessThan", TWO, Type::Bool, |values, _| {
        compare(values).map(|order| Value::Bool(order == Ordering::Less))
    }),
    method("compareTo", TWO, Type::Int, |values, _| compare(values).map(|order| Value::Int(order as i64))),
    method("major", ONE, Type::Int, |values, _| part(values, |version| version.major)),
    method("minor", ONE, Type::Int, |values, _| part(values, |version| version.minor)),
    method("patch", ONE, Type::Int, |values, _| part(values, |version| version.patch)),
];

/// A version from its text; with `true` beside it, a text that is nearly one does: `v1`, `1.2`, `01.02.03`.
fn version(values: &[Value]) -> Answer {
    let (text, lax) = match values {
        [Value::String(text)] => (text, false),
        [Value::String(text), Value::Bool(lax)] => (text, *lax),
        _ => return Err(Fault::no_overload()),
    };
    let parsed = if lax { Version::parse(&normal(text)) } else { Version::parse(text) };
    parsed.map(|version| Value::Semver(Arc::new(version))).map_err(|error| Fault::new(error.to_string()))
}

fn normal(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let without_zeros = |number: &str| match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0".to_owned(),
        number => number.to_owned(),
    };
    let mut parts: Vec<String> = numbers.split('.').map(without_zeros).collect();
    while parts.len() < 3 {
        parts.push("0".to_owned());
    }
    parts.join(".") + rest
}

fn compare(values: &[Value]) -> Result<Ordering, Fault> {
    match values {
        [Value::Semver(one), Value::Semver(two)] => Ok(one.cmp_precedence(two)),
        _ => Err(Fault::no_overload()),
    }
}

fn part(values: &[Value], part: impl Fn(&Version) -> u64) -> Answer {
    match &values[0] {
        Value::Semver(version) => Ok(Value::Int(i64::try_from(part(version)).unwrap_or(i64::MAX))),
        _ => Err(Fault::no_overload()),
    }
}
