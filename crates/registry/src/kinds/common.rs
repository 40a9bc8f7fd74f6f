//! Rules and cells that several kinds share.

use std::{collections::HashSet, fmt::Write as _};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    meta, names, table,
    value::{default, entries, items, text},
};

/// The cell with the object's name.
pub(crate) fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

/// The cell with the object's age.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    table::age(&object["metadata"]["creationTimestamp"], now).into()
}

/// A number's cell; 0 when it is not set.
pub(crate) fn number(value: &Value) -> Value {
    value.as_i64().unwrap_or(0).into()
}

/// A text's cell; `<none>` when it is empty.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// A field's value for a selector, by its dotted path.
pub(crate) fn field_by_path(object: &Value, path: &str) -> String {
    match path.split('.').fold(object, |value, step| &value[step]) {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A label selector as text: `app=web,tier in (a,b)`.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<String> =
        entries(&selector["matchLabels"]).map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    for expression in items(&selector["matchExpressions"]) {
        let key = text(expression, "key");
        let mut values: Vec<&str> = items(&expression["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort_unstable();
    parts.join(",")
}

/// A plain map as a selector's cell: `a=b,c=d`, or `<none>`.
pub(crate) fn map_text(map: &Value) -> String {
    let mut out = String::new();
    for (key, value) in entries(map) {
        let comma = if out.is_empty() { "" } else { "," };
        let _ = write!(out, "{comma}{key}={}", value.as_str().unwrap_or_default());
    }
    if out.is_empty() { "<none>".to_owned() } else { out }
}

/// Whether every expression of a selector says something, so that it can be asked at all.
pub(crate) fn is_selector(selector: &Value) -> bool {
    items(&selector["matchExpressions"]).iter().all(|expression| {
        let valued = !items(&expression["values"]).is_empty();
        match text(expression, "operator") {
            "In" | "NotIn" => valued,
            "Exists" | "DoesNotExist" => !valued,
            _ => false,
        }
    })
}

/// The rules for a label selector in an object.
pub(crate) fn validate_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    meta::validate_labels(&selector["matchLabels"], &path.field("matchLabels"), errors);
    let list = path.field("matchExpressions");
    for (at, expression) in items(&selector["matchExpressions"]).iter().enumerate() {
        let path = list.index(at);
        let values = items(&expression["values"]);
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.field("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &path.field("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&path.field("operator"), &expression["operator"], "not a valid selector operator"),
        }
        for why in names::qualified_name(text(expression, "key")) {
            errors.invalid_text(&path.field("key"), text(expression, "key"), &why);
        }
        for (at, value) in values.iter().enumerate() {
            for why in names::label_value(value.as_str().unwrap_or_default()) {
                errors.invalid(&path.field("values").index(at), value, &why);
            }
        }
    }
}

/// The rule for counts.
pub(crate) fn validate_non_negative(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if value.as_i64().is_some_and(|number| number < 0) {
        errors.invalid(path, value, "must be greater than or equal to 0");
    }
}

/// The rule for fields that keep their first value.
pub(crate) fn validate_immutable(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    if new != old {
        errors.invalid(path, new, "field is immutable");
    }
}

/// The rule for words out of a known few. Absent is fine here.
pub(crate) fn validate_choice(value: &Value, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if value.as_str().is_some_and(|word| !known.contains(&word)) {
        errors.not_supported(path, value, known);
    }
}

/// The rule for port numbers.
pub(crate) fn validate_port(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !value.as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
        let zero = Value::from(0);
        errors.invalid(path, if value.is_null() { &zero } else { value }, "must be between 1 and 65535, inclusive");
    }
}

/// The rule for ports given by number or by name.
pub(crate) fn validate_port_or_name(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::String(name) => {
            for why in names::port_name(name) {
                errors.invalid_text(path, name, &why);
            }
        }
        value => validate_port(value, path, errors),
    }
}

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// The rule for counts that may be percentages. Absent is fine here.
pub(crate) fn validate_int_or_percent(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::String(text) => match percent(text) {
            None => errors.invalid(path, value, PERCENT),
            Some(percent) if percent > 100 => errors.invalid(path, value, "must not be greater than 100%"),
            Some(_) => {}
        },
        value => validate_non_negative(value, path, errors),
    }
}

/// The number in `25%`; none for anything else. One that is too large for a number counts as the largest.
fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}

const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
const MAX_REASON_BYTES: usize = 1024;
const MAX_CONDITION_MESSAGE_BYTES: usize = 32 * 1024;

/// The rules for a list of `meta/v1` conditions.
pub(crate) fn validate_conditions(conditions: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, condition) in items(conditions).iter().enumerate() {
        let path = path.index(at);
        let kind = text(condition, "type");
        if !seen.insert(kind) {
            errors.duplicate(&path.field("type"), &kind.into());
        }
        for why in names::qualified_name(kind) {
            errors.invalid_text(&path.field("type"), kind, &why);
        }
        let known = ["False", "True", "Unknown"];
        if !known.contains(&text(condition, "status")) {
            errors.not_supported(&path.field("status"), &condition["status"], &known);
        }
        if condition["observedGeneration"].as_i64().is_some_and(|generation| generation < 0) {
            let why = "must be greater than or equal to zero";
            errors.invalid(&path.field("observedGeneration"), &condition["observedGeneration"], why);
        }
        if text(condition, "lastTransitionTime").is_empty() {
            errors.required(&path.field("lastTransitionTime"), "");
        }
        validate_reason(text(condition, "reason"), &path.field("reason"), errors);
        if text(condition, "message").len() > MAX_CONDITION_MESSAGE_BYTES {
            errors.too_long(&path.field("message"), MAX_CONDITION_MESSAGE_BYTES);
        }
    }
}

fn validate_reason(reason: &str, path: &Path<'_>, errors: &mut Errors) {
    let bytes = reason.as_bytes();
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let fits = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(word)
        && bytes.iter().all(|byte| word(byte) || matches!(byte, b',' | b':'));
    if reason.is_empty() {
        errors.required(path, "");
    } else if !fits {
        errors.invalid_text(path, reason, REASON);
    }
    if reason.len() > MAX_REASON_BYTES {
        errors.too_long(path, MAX_REASON_BYTES);
    }
}

/// Numbers that Kubernetes writes although they are zero.
pub(crate) fn default_zeros(object: &mut Value, fields: &[&str]) {
    for field in fields {
        default(object, field, 0);
    }
}

/// The metadata that clients may change, for kinds whose status is written without any of it.
pub(crate) const ALL_METADATA: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];
