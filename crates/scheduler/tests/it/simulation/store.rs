//! The objects of the simulated API and the log of their changes; the version of a change is its place in the log.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub struct Logged {
    pub resource: String,
    pub kind: &'static str,
    pub object: Value,
}

#[derive(Default)]
pub struct Store {
    objects: BTreeMap<(String, String), Value>,
    log: Vec<Logged>,
    /// Watches from before this version are too old.
    pub oldest: usize,
}

impl Store {
    pub fn version(&self) -> usize {
        self.log.len()
    }

    pub fn get(&self, resource: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(resource.to_owned(), name.to_owned()))
    }

    pub fn all(&self, resource: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((of, _), _)| of == resource).map(|(_, object)| object)
    }

    /// Creates or replaces; what is the same already makes no version.
    pub fn put(&mut self, resource: &str, mut object: Value) {
        let key = (resource.to_owned(), name(&object).to_owned());
        let before = self.objects.get(&key);
        if let Some(before) = before {
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if *before == object {
                return;
            }
        }
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        object["metadata"]["resourceVersion"] = json!((self.version() + 1).to_string());
        self.objects.insert(key, object.clone());
        self.log.push(Logged { resource: resource.to_owned(), kind, object });
    }

    pub fn remove(&mut self, resource: &str, name: &str) {
        let Some(mut object) = self.objects.remove(&(resource.to_owned(), name.to_owned())) else { return };
        object["metadata"]["resourceVersion"] = json!((self.version() + 1).to_string());
        self.log.push(Logged { resource: resource.to_owned(), kind: "DELETED", object });
    }

    /// The next change of a kind after a version, and its own version.
    pub fn change_after(&self, resource: &str, version: usize) -> Option<(usize, &Logged)> {
        let later = self.log.iter().enumerate().skip(version);
        later.map(|(at, logged)| (at + 1, logged)).find(|(_, logged)| logged.resource == resource)
    }
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

pub fn node_of(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str()
}

pub fn is_leaving(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Nothing of it runs any more.
pub fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
}
