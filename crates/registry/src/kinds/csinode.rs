//! CSINode: the storage drivers on a node.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{common, persistentvolume::validate_driver_name};
use crate::{
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::{items, object_mut, remove, set, text},
};

pub(crate) struct CsiNode;

const MAX_NODE_ID: usize = 256;

impl Strategy for CsiNode {
    fn default(&self, object: &mut Value) {
        // Go writes these even when there are none, and then as null.
        let spec = object_mut(object, "spec");
        if items(&spec["drivers"]).is_empty() {
            set(spec, "drivers", Value::Null);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = Path::root("spec");
        let list = spec.field("drivers");
        let mut seen = HashSet::new();
        for (at, driver) in items(&object["spec"]["drivers"]).iter().enumerate() {
            let path = list.index(at);
            validate_driver(driver, &path, errors);
            if !seen.insert(text(driver, "name")) {
                errors.duplicate(&path.field("name"), &driver["name"]);
            }
            validate_keys(&driver["topologyKeys"], &path, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            remove(&mut driver, "allocatable");
            driver
        };
        for before in items(&old["spec"]["drivers"]) {
            for after in items(&new["spec"]["drivers"]).iter().filter(|d| d["name"] == before["name"]) {
                if fixed(before) != fixed(after) {
                    errors.invalid_as(&"spec.drivers", &internal_form(after), "field is immutable");
                }
            }
        }
    }

    fn requires_resource_version(&self) -> bool {
        true
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Drivers", "Drivers indicates the number of CSI drivers registered on the node"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let drivers = items(&object["spec"]["drivers"]).len();
        vec![common::name(object), drivers.into(), common::age(object, now)]
    }
}

/// Kubernetes shows a driver as its own code names the fields.
fn internal_form(driver: &Value) -> String {
    let (name, node) = (text(driver, "name"), text(driver, "nodeID"));
    format!(r#"{{"Name":{name:?},"NodeID":{node:?},"TopologyKeys":{},"Allocatable":null}}"#, driver["topologyKeys"])
}

fn validate_driver(driver: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_driver_name(text(driver, "name"), &path.field("name"), errors);
    let (node, place) = (text(driver, "nodeID"), path.field("nodeID"));
    if node.is_empty() {
        errors.required(&place, "");
    }
    if node.len() > MAX_NODE_ID {
        errors.invalid_text(&place, node, &format!("must be {MAX_NODE_ID} characters or less"));
    }
    let place = path.field("allocatable");
    common::validate_non_negative(&driver["allocatable"]["count"], &place.field("count"), errors);
}

fn validate_keys(keys: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for key in items(keys) {
        let name = key.as_str().unwrap_or_default();
        if name.is_empty() {
            errors.required(path, "");
        }
        if !seen.insert(name) {
            errors.duplicate(path, key);
        }
        for why in names::qualified_name(name) {
            errors.invalid_text(path, name, &why);
        }
    }
}
