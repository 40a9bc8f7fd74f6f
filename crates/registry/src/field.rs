//! Where in an object something is wrong, and what: Kubernetes' `field.Error` and `field.Path`.
//!
//! A [`Path`] lives on the stack and is written out only when there is an error to report, so that validating a correct
//! object allocates nothing.

use std::fmt::{self, Display, Write as _};

use serde_json::Value;

use crate::status::Cause;

/// A place in an object.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A field of the object itself.
    pub fn root(field: &'a str) -> Self {
        Path { parent: None, step: Step::Field(field) }
    }

    /// A field below this one.
    pub fn field(&'a self, field: &'a str) -> Self {
        Path { parent: Some(self), step: Step::Field(field) }
    }

    /// An item of this list.
    pub fn index(&'a self, index: usize) -> Self {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of this map.
    pub fn key(&'a self, key: &'a str) -> Self {
        Path { parent: Some(self), step: Step::Key(key) }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_none() => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    reason: &'static str,
    field: String,
    body: String,
}

impl Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body)
    }
}

impl FieldError {
    /// The machine-readable form.
    pub fn into_cause(self) -> Cause {
        Cause { reason: self.reason, message: self.body, field: self.field }
    }
}

/// The broken rules found so far.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

/// No more are collected from one object; the first ones say enough.
const MAX_ERRORS: usize = 200;

impl Errors {
    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    fn push(&mut self, reason: &'static str, path: &dyn Display, body: String) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(FieldError { reason, field: path.to_string(), body });
        }
    }

    fn push_value(&mut self, reason: &'static str, title: &str, path: &dyn Display, value: &Value, detail: &str) {
        let mut body = format!("{title}: {}", shown(value));
        if !detail.is_empty() {
            body.push_str(": ");
            body.push_str(detail);
        }
        self.push(reason, path, body);
    }

    /// A value must be given.
    pub fn required(&mut self, path: &dyn Display, detail: &str) {
        let body = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        self.push("FieldValueRequired", path, body);
    }

    /// The value is malformed.
    pub fn invalid(&mut self, path: &dyn Display, value: &Value, detail: &str) {
        self.push_value("FieldValueInvalid", "Invalid value", path, value, detail);
    }

    /// The value is malformed; an absent one is shown as `null`, as maps are.
    pub fn null_or_invalid(&mut self, path: &dyn Display, value: &Value, detail: &str) {
        self.push("FieldValueInvalid", path, format!("Invalid value: {value}: {detail}"));
    }

    /// The value is malformed, and shown in the words of Kubernetes' own code.
    pub fn invalid_as(&mut self, path: &dyn Display, shown: &str, detail: &str) {
        self.push("FieldValueInvalid", path, format!("Invalid value: {shown}: {detail}"));
    }

    /// The text is malformed.
    pub fn invalid_text(&mut self, path: &dyn Display, value: &str, detail: &str) {
        let mut body = format!("Invalid value: {value:?}");
        if !detail.is_empty() {
            let _ = write!(body, ": {detail}");
        }
        self.push("FieldValueInvalid", path, body);
    }

    /// The value is not one of a known few, which are told in the order given.
    pub fn not_supported(&mut self, path: &dyn Display, value: &Value, supported: &[&str]) {
        let mut body = format!("Unsupported value: {}", shown(value));
        if !supported.is_empty() {
            let names: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
            let _ = write!(body, ": supported values: {}", names.join(", "));
        }
        self.push("FieldValueNotSupported", path, body);
    }

    /// The map has other keys than it may have; an absent one is shown as `null`.
    pub fn null_or_not_supported(&mut self, path: &dyn Display, value: &Value, supported: &[&str]) {
        let names: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let body = format!("Unsupported value: {value}: supported values: {}", names.join(", "));
        self.push("FieldValueNotSupported", path, body);
    }

    /// The field may not be set here.
    pub fn forbidden(&mut self, path: &dyn Display, detail: &str) {
        self.push("FieldValueForbidden", path, format!("Forbidden: {detail}"));
    }

    /// The value occurs twice.
    pub fn duplicate(&mut self, path: &dyn Display, value: &Value) {
        self.push_value("FieldValueDuplicate", "Duplicate value", path, value, "");
    }

    /// The value names something that is not there.
    pub fn not_found(&mut self, path: &dyn Display, value: &Value) {
        self.push_value("FieldValueNotFound", "Not found", path, value, "");
    }

    /// The value names something that is not there; `known` says what is.
    pub fn not_found_among(&mut self, path: &dyn Display, value: &Value, known: &str) {
        self.push_value("FieldValueNotFound", "Not found", path, value, known);
    }

    /// The value has too many bytes.
    pub fn too_long(&mut self, path: &dyn Display, max_bytes: usize) {
        self.push("FieldValueTooLong", path, format!("Too long: may not be more than {max_bytes} bytes"));
    }

    /// The list has too many items.
    pub fn too_many(&mut self, path: &dyn Display, actual: usize, max_items: usize) {
        let body = format!("Too many: {actual}: must have at most {max_items} items");
        self.push("FieldValueTooMany", path, body);
    }
}

/// A value as errors show it: strings quoted, absent ones as the empty string, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "\"\"".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_bodies_read_as_kubernetes_writes_them() {
        let spec = Path::root("spec");
        let containers = spec.field("containers");
        let first = containers.index(0);
        let mut errors = Errors::default();
        errors.required(&first.field("image"), "");
        errors.not_supported(&spec.field("restartPolicy"), &"X".into(), &["Never", "Always"]);
        errors.invalid(&spec.field("replicas"), &(-1).into(), "must be greater than or equal to 0");
        errors.duplicate(&Path::root("data").key("a"), &"b".into());
        let texts: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.containers[0].image: Required value",
                r#"spec.restartPolicy: Unsupported value: "X": supported values: "Never", "Always""#,
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                r#"data[a]: Duplicate value: "b""#,
            ]
        );
    }
}
