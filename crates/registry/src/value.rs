//! Small readers and writers over JSON values, so that strategies read like the rules they state.

use serde_json::{Map, Value};

/// A string field; empty when absent.
pub(crate) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The items of a list; none when absent.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The items of a list field, to be changed; none when absent.
pub(crate) fn items_mut<'v>(value: &'v mut Value, field: &str) -> impl Iterator<Item = &'v mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The entries of a map; none when absent.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// Sets a field that is absent or the empty string.
pub(crate) fn default(object: &mut Value, field: &str, value: impl Into<Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match fields.get_mut(field) {
        None => {
            fields.insert(field.to_owned(), value.into());
        }
        Some(old) if old.is_null() || *old == "" => *old = value.into(),
        Some(_) => {}
    }
}

/// Sets a number that is absent or zero, where Kubernetes keeps no pointer and cannot tell the two apart.
pub(crate) fn default_zero(object: &mut Value, field: &str, value: i64) {
    if object[field].as_i64().unwrap_or(0) == 0 {
        set(object, field, value);
    }
}

/// Sets a field.
pub(crate) fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value.into());
    }
}

/// Takes a field out.
pub(crate) fn remove(object: &mut Value, field: &str) -> Option<Value> {
    object.as_object_mut()?.remove(field)
}

/// Sets a field to what another object has, or takes it out if that has none.
pub(crate) fn copy(to: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) if to.get(field) == Some(value) => {}
        Some(value) => set(to, field, value.clone()),
        None => {
            remove(to, field);
        }
    }
}

/// A field that is an object, made if it is absent.
pub(crate) fn object_mut<'v>(value: &'v mut Value, field: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let fields = value.as_object_mut().expect("it was made an object just above");
    if !fields.contains_key(field) {
        fields.insert(field.to_owned(), Value::Object(Map::new()));
    }
    fields.get_mut(field).expect("it was inserted just above")
}

/// A field that is a list, made if it is absent.
pub(crate) fn list_mut<'v>(value: &'v mut Value, field: &str) -> &'v mut Vec<Value> {
    let slot = object_mut(value, field);
    if !slot.is_array() {
        *slot = Value::Array(vec![]);
    }
    slot.as_array_mut().expect("it was made a list just above")
}

/// An integer or a percentage: (number, is a percentage).
pub(crate) fn int_or_percent(value: &Value) -> Option<(i64, bool)> {
    match value {
        Value::Number(number) => Some((number.as_i64()?, false)),
        Value::String(text) => Some((text.strip_suffix('%')?.parse().ok()?, true)),
        _ => None,
    }
}
