//! Label and field selectors: parsing with Kubernetes' errors, and matching.

use serde_json::Value;

use crate::names;

mod field;
mod label;

pub use field::{FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};

/// What selectors look at, taken out of an object once so that a cache need not keep the parsed object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    labels: Vec<(Box<str>, Box<str>)>,
    fields: Vec<(&'static str, Box<str>)>,
}

impl Attributes {
    /// Takes the labels and the given fields of an object.
    pub fn new(object: &Value, fields: impl Iterator<Item = (&'static str, String)>) -> Self {
        let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
        Attributes {
            labels: labels.map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or_default().into())).collect(),
            fields: fields.map(|(name, value)| (name, value.into())).collect(),
        }
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v)
    }

    /// A field's value; empty when it is not set.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(k, _)| *k == name).map_or("", |(_, v)| v)
    }
}

/// Both selectors of a list or watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
}

impl Selection {
    /// Selects everything.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object is selected.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        self.labels.matches(|key| attributes.label(key)) && self.fields.matches(|name| attributes.field(name))
    }
}
