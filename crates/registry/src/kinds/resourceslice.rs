//! ResourceSlice: devices that a driver offers.

mod device;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, devices, persistentvolume::validate_driver_name};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    table::Column,
    value::{entries, items, items_mut, object_mut, remove, set, text},
};

pub(crate) struct ResourceSlice;

const MAX_DEVICES: usize = 128;
/// Where devices have taints or counters, which take more room.
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const LIST_ATTRIBUTES: [&str; 4] = ["bools", "ints", "strings", "versions"];

impl Strategy for ResourceSlice {
    fn prepare_create(&self, context: &Context, object: &mut Value) {
        set(object_mut(object, "metadata"), "generation", 1);
        drop_unserved(object);
        stamp_taints(context, object);
    }

    fn prepare_update(&self, context: &Context, new: &mut Value, old: &Value) {
        drop_unserved(new);
        stamp_taints(context, new);
        meta::bump_generation(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        validate_driver_name(text(spec, "driver"), &path.field("driver"), errors);
        validate_pool(&spec["pool"], &path.field("pool"), errors);
        validate_nodes(spec, &path, errors);
        let list = items(&spec["devices"]);
        if !items(&spec["sharedCounters"]).is_empty() && !list.is_empty() {
            errors.invalid_text(&path, "", "only one of `sharedCounters` or `devices` is allowed");
        }
        let advanced = |device: &Value| !device["taints"].is_null() || !device["consumesCounters"].is_null();
        let max = if list.iter().any(advanced) { MAX_ADVANCED_DEVICES } else { MAX_DEVICES };
        let place = path.field("devices");
        if devices::fits(list, max, &place, errors) {
            let per_device = spec["perDeviceNodeSelection"] == true;
            for (at, device) in list.iter().enumerate() {
                device::validate(device, per_device, &place.index(at), errors);
            }
            devices::refuse_doubles(list.iter().map(|device| text(device, "name")), &place, errors);
        }
        validate_counter_sets(&spec["sharedCounters"], &path.field("sharedCounters"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (to, from, path) = (&new["spec"], &old["spec"], Path::root("spec"));
        let pool = path.field("pool");
        common::validate_immutable(&to["pool"]["name"], &from["pool"]["name"], &pool.field("name"), errors);
        common::validate_immutable(&to["driver"], &from["driver"], &path.field("driver"), errors);
        if to["nodeName"] != from["nodeName"] {
            errors.null_or_invalid(&path.field("nodeName"), &to["nodeName"], "field is immutable");
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Node", "The node that the devices are on, if they are on one."),
                Column::text("Driver", "The driver that offers the devices."),
                Column::text("Pool", "The pool that the slice is a part of."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        vec![
            common::name(object),
            text(spec, "nodeName").into(),
            text(spec, "driver").into(),
            text(&spec["pool"], "name").into(),
            common::age(object, now),
        ]
    }
}

/// Fields of features that are off in Kubernetes as it is delivered.
fn drop_unserved(object: &mut Value) {
    for device in items_mut(object_mut(object, "spec"), "devices") {
        remove(device, "nodeAllocatableResourceMappings");
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for attribute in attributes.into_iter().flat_map(|attributes| attributes.values_mut()) {
            for field in LIST_ATTRIBUTES {
                remove(attribute, field);
            }
        }
    }
}

fn stamp_taints(context: &Context, object: &mut Value) {
    for device in items_mut(object_mut(object, "spec"), "devices") {
        for taint in items_mut(device, "taints").filter(|taint| taint["timeAdded"].is_null()) {
            set(taint, "timeAdded", context.timestamp());
        }
    }
}

fn validate_pool(pool: &Value, path: &Path<'_>, errors: &mut Errors) {
    devices::validate_pool(text(pool, "name"), &path.field("name"), errors);
    let number = |field: &str| pool[field].as_i64().unwrap_or(0);
    if number("resourceSliceCount") <= 0 {
        let (count, place) = (number("resourceSliceCount"), path.field("resourceSliceCount"));
        errors.invalid(&place, &count.into(), "must be greater than zero");
    }
    if number("generation") < 0 {
        let why = "must be greater than or equal to zero";
        errors.invalid(&path.field("generation"), &number("generation").into(), why);
    }
}

/// Where the devices can be used is said in exactly one way.
fn validate_nodes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut given = device::validate_nodes(spec, "must be either unset or set to a non-empty string", path, errors);
    let terms = &spec["nodeSelector"]["nodeSelectorTerms"];
    if spec["nodeSelector"].is_object() && items(terms).len() != 1 {
        let selector = path.field("nodeSelector");
        errors.null_or_invalid(&selector.field("nodeSelectorTerms"), terms, "must have exactly one node selector term");
    }
    match spec["perDeviceNodeSelection"].as_bool() {
        Some(true) => given.push("`perDeviceNodeSelection`"),
        Some(false) => {
            let place = path.field("perDeviceNodeSelection");
            errors.invalid(&place, &json!(false), "must be either unset or set to true");
        }
        None => {}
    }
    match given.as_slice() {
        [] => errors.required(path, ONE),
        [_] => {}
        many => {
            let shown = format!("{{{}}}", many.join(", "));
            errors.invalid_text(path, &shown, &format!("{ONE}, but multiple fields are set"));
        }
    }
}

fn validate_counter_sets(sets: &Value, path: &Path<'_>, errors: &mut Errors) {
    let sets = items(sets);
    if !devices::fits(sets, MAX_COUNTER_SETS, path, errors) {
        return;
    }
    for (at, set) in sets.iter().enumerate() {
        let path = path.index(at);
        validate_counters(text(set, "name"), "name", &set["counters"], &path, errors);
    }
    devices::refuse_doubles(sets.iter().map(|set| text(set, "name")), path, errors);
}

/// Counters, and the name of the set that they are in or taken from.
fn validate_counters(name: &str, field: &str, counters: &Value, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.field(field), "");
    } else {
        devices::validate_label(name, &path.field(field), errors);
    }
    let (place, count) = (path.field("counters"), entries(counters).count());
    if count == 0 {
        errors.required(&place, "");
    } else if count > MAX_COUNTERS {
        errors.too_many(&place, count, MAX_COUNTERS);
    } else {
        for (key, _) in entries(counters) {
            devices::validate_label(key, &place, errors);
        }
    }
}
