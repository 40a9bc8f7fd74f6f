//! Label and field selectors: parsing with Kubernetes' errors, and matching.

use std::ops::Range;

use serde_json::Value;

use crate::{
    names,
    raw::{self, skip_value, walk},
};

mod field;
mod label;

pub use field::{FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};

/// What selectors look at, taken out of an object once so that a cache need not keep the parsed object.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// All texts, one behind the other: a cache keeps many of these.
    text: String,
    labels: Vec<(Span, Span)>,
    fields: Vec<(&'static str, Span)>,
}

/// Where a text stands among all.
type Span = Range<u32>;

/// A field that is looked for, and the last value that was found.
struct Wanted<'s> {
    field: &'static str,
    step: &'static [u8],
    /// Empty: the value is the member itself.
    below: &'static [u8],
    value: Option<&'s [u8]>,
}

impl Wanted<'_> {
    fn new(field: &'static str) -> Self {
        let (step, below) = field.split_once('.').unwrap_or((field, ""));
        Wanted { field, step: step.as_bytes(), below: below.as_bytes(), value: None }
    }
}

impl Attributes {
    /// Takes the labels and the given fields of an object.
    pub fn new(object: &Value, fields: impl Iterator<Item = (&'static str, String)>) -> Self {
        let mut out = Attributes::default();
        for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
            out.add_label(key, value.as_str().unwrap_or_default());
        }
        fields.for_each(|(name, value)| out.add_field(name, &value));
        out
    }

    /// The same of stored bytes, where fields are values at places of one or two steps, such as `spec.nodeName`. One that
    /// is not set reads as `unset` says. None: the bytes have to be parsed.
    pub(crate) fn stored(
        stored: &[u8],
        fields: impl Iterator<Item = &'static str> + Clone,
        unset: impl Fn(&str) -> &'static str,
    ) -> Option<Self> {
        let mut out = Attributes::default();
        let mut wanted: Vec<Wanted<'_>> = fields.map(Wanted::new).collect();
        // Of members of one name the last counts, as in a parsed value.
        walk(stored, 0, |step, start| {
            let mut here = wanted.iter().filter(|wanted| wanted.step == step);
            let open = step == b"metadata" || here.any(|wanted| !wanted.below.is_empty());
            if !open || stored.get(start) != Some(&b'{') {
                let end = skip_value(stored, start)?;
                let here = wanted.iter_mut().filter(|wanted| wanted.step == step && wanted.below.is_empty());
                here.for_each(|wanted| wanted.value = Some(&stored[start..end]));
                return Some(end);
            }
            walk(stored, start, |below, start| {
                let labels = step == b"metadata" && below == b"labels" && stored.get(start) == Some(&b'{');
                let end = if labels { out.take_labels(stored, start)? } else { skip_value(stored, start)? };
                let here = wanted.iter_mut().filter(|wanted| wanted.below == below && wanted.step == step);
                here.for_each(|wanted| wanted.value = Some(&stored[start..end]));
                Some(end)
            })
        })?;
        for Wanted { field, value, .. } in wanted {
            match value.filter(|value| *value != b"null") {
                Some(value) => out.add_field(field, &raw::text(value)?),
                None => out.add_field(field, unset(field)),
            }
        }
        Some(out)
    }

    fn take_labels(&mut self, stored: &[u8], start: usize) -> Option<usize> {
        self.labels.clear();
        walk(stored, start, |key, start| {
            let end = skip_value(stored, start)?;
            let value =
                Some(&stored[start..end]).filter(|value| value[0] == b'"').map_or(Some("".into()), raw::text)?;
            self.add_label(std::str::from_utf8(key).ok()?, &value);
            Some(end)
        })
    }

    fn add_label(&mut self, key: &str, value: &str) {
        let label = (self.add(key), self.add(value));
        self.labels.push(label);
    }

    fn add_field(&mut self, name: &'static str, value: &str) {
        let span = self.add(value);
        self.fields.push((name, span));
    }

    fn add(&mut self, text: &str) -> Span {
        let end = |text: &str| u32::try_from(text.len()).expect("an object's bound is far below 4 GiB");
        let start = end(&self.text);
        self.text.push_str(text);
        start..end(&self.text)
    }

    fn text(&self, span: &Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().rfind(|(k, _)| self.text(k) == key).map(|(_, value)| self.text(value))
    }

    /// A field's value; empty when it is not set.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(k, _)| *k == name).map_or("", |(_, value)| self.text(value))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Registry, raw::tests::any_value};

    /// What selectors see is the same whether the bytes were parsed or not.
    fn check(plural: &str, object: &Value) {
        let resource =
            Registry::builtin().resources().iter().find(|r| r.kind().plural == plural).expect("it is served");
        let (parsed, read) = (resource.attributes(object), resource.stored_attributes(&crate::encode(object)));
        assert_eq!(parsed.fields.len(), read.fields.len(), "{plural} {object}");
        for (field, _) in &parsed.fields {
            assert_eq!(read.field(field), parsed.field(field), "{field} of {object}");
        }
        for key in parsed.labels.iter().map(|(key, _)| parsed.text(key)).chain(["a"]) {
            assert_eq!(read.label(key), parsed.label(key), "{key} of {object}");
        }
        assert_eq!(parsed.labels.len(), read.labels.len(), "{object}");
    }

    #[test]
    fn attributes_are_read_out_of_stored_bytes() {
        let metadata = json!({"name": "x", "namespace": "n", "labels": {"a": "b", "c\"": "\"\n"}});
        let spec = json!({"nodeName": "é\"", "hostNetwork": true, "unschedulable": true, "containers": [{"spec": {}}]});
        for plural in ["pods", "nodes", "events", "configmaps"] {
            check(plural, &json!({}));
            check(plural, &json!({"metadata": metadata, "spec": spec, "reason": "r", "status": {"phase": "Failed"}}));
            check(plural, &json!({"metadata": null, "spec": {"nodeName": null}, "status": []}));
        }
    }

    proptest! {
        #[test]
        fn attributes_of_any_object(labels in any_value(), spec in any_value(), name in any_value()) {
            check("pods", &json!({"metadata": {"name": "p", "labels": labels}, "spec": {"nodeName": name}}));
            check("pods", &json!({"metadata": spec}));
        }
    }
}
