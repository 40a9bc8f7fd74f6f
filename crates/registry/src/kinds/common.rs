//! Rules and cells that several kinds share.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    meta, names, table,
    value::{entries, items, text},
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
