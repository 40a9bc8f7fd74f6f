//! Objects that many writes look at, such as a pod's namespace and its service account, parsed once per revision. The store
//! is asked for them all the same, so nothing is decided by a moment ago; only the parsing is spared.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use registry::Resource;
use serde_json::Value;
use store_api::{KeyValue, Revision};

/// Objects kept. When there are more, all go: those in use are soon back.
const MAX_OBJECTS: usize = 1024;

#[derive(Default)]
pub(crate) struct Parsed {
    objects: Mutex<HashMap<Bytes, (Revision, Arc<Value>)>>,
}

impl Parsed {
    /// An object of the store. Bytes that are no JSON read as null.
    pub fn value(&self, resource: &Resource, kv: KeyValue) -> Arc<Value> {
        // Two kinds that share their keys show one object in two forms.
        if resource.converts() {
            return parse(resource, kv.value);
        }
        if let Some((revision, value)) = self.objects.lock().get(&kv.key)
            && *revision == kv.mod_revision
        {
            return value.clone();
        }
        let value = parse(resource, kv.value);
        let mut objects = self.objects.lock();
        if objects.len() >= MAX_OBJECTS {
            objects.clear();
        }
        objects.insert(Bytes::copy_from_slice(&kv.key), (kv.mod_revision, value.clone()));
        value
    }
}

fn parse(resource: &Resource, stored: Bytes) -> Arc<Value> {
    Arc::new(serde_json::from_slice(&resource.from_stored(stored)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry::Registry;

    #[test]
    fn an_object_is_parsed_once_per_revision() {
        let (parsed, resource) = (Parsed::default(), Registry::builtin().find("", "v1", "namespaces").unwrap());
        let read = |key: String, revision: Revision| {
            let value = format!(r#"{{"a":{revision}}}"#).into();
            parsed.value(resource, KeyValue { key: key.into(), value, mod_revision: revision, ..KeyValue::default() })
        };
        let first = read("x".into(), 1);
        assert!(Arc::ptr_eq(&first, &read("x".into(), 1)));
        assert_eq!((first["a"].as_i64(), read("x".into(), 2)["a"].as_i64()), (Some(1), Some(2)));
        for at in 0..2 * MAX_OBJECTS {
            read(at.to_string(), 1);
            assert!(parsed.objects.lock().len() <= MAX_OBJECTS);
        }
    }
}
