//! Paths into a configuration, and errors about what is found there, as Kubernetes words them.

use std::{collections::HashSet, fmt};

use serde::Serialize;

/// A path such as `profiles[0].plugins.score`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    pub fn new(name: &str) -> Self {
        Path(name.to_owned())
    }

    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Path::new(name) } else { Path(format!("{}.{name}", self.0)) }
    }

    pub fn index(&self, index: usize) -> Self {
        Path(format!("{}[{index}]", self.0))
    }

    pub fn key(&self, key: &str) -> Self {
        Path(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Go prints the path of nothing so.
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with one field, or where two fields contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FieldError(String);

impl FieldError {
    pub(crate) fn invalid(path: &Path, value: impl Serialize, detail: &str) -> Self {
        FieldError(format!("{path}: Invalid value: {}: {detail}", json(&value)))
    }

    pub(crate) fn required(path: &Path, detail: &str) -> Self {
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        FieldError(format!("{path}: Required value{detail}"))
    }

    pub(crate) fn duplicate(path: &Path, value: impl Serialize) -> Self {
        FieldError(format!("{path}: Duplicate value: {}", json(&value)))
    }

    pub(crate) fn forbidden(path: &Path, detail: &str) -> Self {
        FieldError(format!("{path}: Forbidden: {detail}"))
    }

    pub(crate) fn unsupported(path: &Path, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        FieldError(format!("{path}: Unsupported value: {value:?}: supported values: {}", supported.join(", ")))
    }
}

/// Text is quoted and numbers are plain in JSON as in Go.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Several errors at once; each is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate(pub Vec<String>);

impl Aggregate {
    pub(crate) fn of(errors: Vec<FieldError>) -> Result<(), Aggregate> {
        if errors.is_empty() { Ok(()) } else { Err(Aggregate(errors.into_iter().map(|error| error.0).collect())) }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen = HashSet::new();
        let told: Vec<&str> = self.0.iter().map(String::as_str).filter(|text| seen.insert(*text)).collect();
        match told.as_slice() {
            [one] => f.write_str(one),
            several => write!(f, "[{}]", several.join(", ")),
        }
    }
}

impl std::error::Error for Aggregate {}
