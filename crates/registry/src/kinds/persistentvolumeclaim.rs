//! PersistentVolumeClaim, and the claim's spec wherever else it stands.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, quantities};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::{copy, default, entries, items, object_mut, remove, set, text},
};

pub(crate) struct PersistentVolumeClaim;

/// Where the storage class stood before it was a field.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];
const IMMUTABLE: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";

impl Strategy for PersistentVolumeClaim {
    fn default(&self, object: &mut Value) {
        default_spec(object_mut(object, "spec"));
        default(object_mut(object, "status"), "phase", "Pending");
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({"phase": "Pending"}));
        normalize_sources(object_mut(object, "spec"), &Value::Null);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        normalize_sources(object_mut(new, "spec"), &old["spec"]);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_spec(&object["spec"], &Path::root("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_change(new, old, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let (status, path) = (&new["status"], Path::root("status"));
        let place = path.field("capacity");
        for (name, amount) in entries(&status["capacity"]) {
            quantities::validate_capacity(amount, &place.key(name), errors);
        }
        let place = path.field("allocatedResourceStatuses");
        for (name, state) in entries(&status["allocatedResourceStatuses"]) {
            validate_resource_name(name, &place, errors);
            if !RESIZE_STATES.contains(&state.as_str().unwrap_or_default()) {
                let mut known = RESIZE_STATES;
                known.sort_unstable();
                errors.not_supported(&place, &name.into(), &known);
            }
        }
        let place = path.field("allocatedResources");
        for (name, amount) in entries(&status["allocatedResources"]) {
            validate_resource_name(name, &place, errors);
            quantities::validate_capacity(amount, &place.key(name), errors);
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["name"]
    }

    fn field(&self, object: &Value, _field: &str) -> String {
        text(&object["metadata"], "name").to_owned()
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Status", "The current phase of the claim."),
                Column::text("Volume", "The name of the volume that backs the claim."),
                Column::text("Capacity", "The resources of the volume that backs the claim."),
                Column::text("Access Modes", "The access modes of the volume that backs the claim."),
                Column::text("StorageClass", "StorageClass of the pvc"),
                Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
                Column::AGE,
                Column::text("VolumeMode", "What the claim wants: a file system or a block device.").wide(),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let volume = text(spec, "volumeName");
        let (capacity, modes) = match volume {
            "" => (String::new(), String::new()),
            _ => (storage(&status["capacity"]), access_modes(&status["accessModes"])),
        };
        vec![
            common::name(object),
            phase(object).into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            class(object).into(),
            or_unset(&spec["volumeAttributesClassName"]),
            common::age(object, now),
            or_unset(&spec["volumeMode"]),
        ]
    }
}

/// The phase's cell.
pub(super) fn phase(object: &Value) -> &str {
    let going = !text(&object["metadata"], "deletionTimestamp").is_empty();
    if going { "Terminating" } else { text(&object["status"], "phase") }
}

/// The amount of storage as a cell.
pub(super) fn storage(resources: &Value) -> String {
    match text(resources, "storage") {
        "" => "0".to_owned(),
        amount => amount.to_owned(),
    }
}

/// A pointer's cell.
pub(super) fn or_unset(value: &Value) -> Value {
    value.as_str().unwrap_or("<unset>").into()
}

/// The storage class: the annotation's, or else the field's.
pub(super) fn class(object: &Value) -> &str {
    match object["metadata"]["annotations"][CLASS_ANNOTATION].as_str() {
        Some(class) => class,
        None => text(&object["spec"], "storageClassName"),
    }
}

/// Access modes in their short form and their own order: `RWO,ROX`.
pub(super) fn access_modes(modes: &Value) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let given = short.iter().filter(|(mode, _)| items(modes).iter().any(|m| m == mode));
    given.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// Completes a claim's spec.
pub(crate) fn default_spec(spec: &mut Value) {
    default(spec, "volumeMode", "Filesystem");
    // Go writes this struct even when it is empty.
    object_mut(spec, "resources");
}

/// `dataSource` and `dataSourceRef` are the same fact, unless a namespace says more. What `dataSource` cannot name is
/// dropped from it, as it was when there was no other field.
fn normalize_sources(spec: &mut Value, old: &Value) {
    let in_use = old["dataSource"].is_object() || old["dataSourceRef"].is_object();
    if spec["dataSourceRef"].is_object() && !text(&spec["dataSourceRef"], "namespace").is_empty() {
        // Sources in other namespaces are not served.
        if !old["dataSourceRef"].is_object() {
            remove(spec, "dataSourceRef");
        }
    }
    if !in_use && !spec["dataSourceRef"].is_object() {
        let source = &spec["dataSource"];
        let known = [("PersistentVolumeClaim", ""), ("VolumeSnapshot", "snapshot.storage.k8s.io")];
        if !known.contains(&(text(source, "kind"), text(source, "apiGroup"))) {
            remove(spec, "dataSource");
        }
    }
    match (spec["dataSource"].is_object(), spec["dataSourceRef"].is_object()) {
        (true, false) => {
            let source = spec["dataSource"].clone();
            set(spec, "dataSourceRef", source);
        }
        (false, true) if text(&spec["dataSourceRef"], "namespace").is_empty() => {
            let mut source = spec["dataSourceRef"].clone();
            remove(&mut source, "namespace");
            set(spec, "dataSource", source);
        }
        _ => {}
    }
}

/// Which access modes there are, and which go together.
pub(super) fn validate_modes(modes: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (mut alone, mut others) = (false, false);
    for mode in items(modes) {
        let word = mode.as_str().unwrap_or_default();
        if !MODES.contains(&word) {
            errors.not_supported(path, mode, &MODES);
        } else if word == "ReadWriteOncePod" {
            alone = true;
        } else {
            others = true;
        }
    }
    if alone && others {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The rule for the volume mode.
pub(super) fn validate_volume_mode(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    common::validate_choice(&spec["volumeMode"], &VOLUME_MODES, &path.field("volumeMode"), errors);
}

/// The rules for the name of a class.
pub(super) fn validate_class(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if !name.is_empty() {
        for why in names::dns_subdomain(name) {
            errors.invalid_text(path, name, &why);
        }
    }
}

/// A claim's spec by itself.
pub(crate) fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let place = path.field("accessModes");
    if items(&spec["accessModes"]).is_empty() {
        errors.required(&place, "at least 1 access mode is required");
    }
    common::validate_selector(&spec["selector"], &path.field("selector"), errors);
    validate_modes(&spec["accessModes"], &place, errors);
    let resources = path.field("resources");
    let (wanted, place) = (&spec["resources"]["requests"]["storage"], resources.key("storage"));
    if wanted.is_null() {
        errors.required(&place, "");
    }
    quantities::validate_positive(wanted, &place, errors);
    validate_class(text(spec, "storageClassName"), &path.field("storageClassName"), errors);
    validate_volume_mode(spec, path, errors);
    for field in ["dataSource", "dataSourceRef"] {
        validate_source(&spec[field], &path.field(field), errors);
    }
    let (older, newer) = (&spec["dataSource"], &spec["dataSourceRef"]);
    let same = ["kind", "name", "apiGroup"].iter().all(|field| text(older, field) == text(newer, field));
    // Kubernetes shows the path where the value should stand, and a path shows as nothing.
    let shown = json!({});
    if older.is_object() && !text(newer, "namespace").is_empty() {
        errors.invalid(path, &shown, "may not be specified when dataSourceRef.namespace is specified");
    } else if older.is_object() && newer.is_object() && !same {
        errors.invalid(path, &shown, "must match dataSourceRef");
    }
    validate_class(text(spec, "volumeAttributesClassName"), &path.field("volumeAttributesClassName"), errors);
}

fn validate_source(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !source.is_object() {
        return;
    }
    for field in ["name", "kind"] {
        if text(source, field).is_empty() {
            errors.required(&path.field(field), "");
        }
    }
    let group = text(source, "apiGroup");
    if group.is_empty() && text(source, "kind") != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid_text(path, text(source, "kind"), why);
    }
    validate_class(group, &path.field("apiGroup"), errors);
    let namespace = text(source, "namespace");
    if !namespace.is_empty() {
        for why in names::dns_label(namespace) {
            errors.invalid_text(&path.field("namespace"), namespace, &why);
        }
    }
}

fn validate_resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let problems = names::qualified_name(name);
    for why in &problems {
        errors.invalid_text(path, name, why);
    }
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if problems.is_empty() && native && name != "storage" {
        errors.not_supported(path, &name.into(), &["storage"]);
    }
}

/// Little of a claim may change: its volume once, its class where it had none, and what a bound one asks for.
fn validate_change(new: &Value, old: &Value, errors: &mut Errors) {
    let (to, from) = (&new["spec"], &old["spec"]);
    let mut expected = from.clone();
    if text(from, "volumeName").is_empty() {
        copy(&mut expected, to, "volumeName");
    }
    let annotation = |object: &Value| object["metadata"]["annotations"][CLASS_ANNOTATION].as_str().map(str::to_owned);
    let (was, is) = (annotation(old), annotation(new));
    let given = to["storageClassName"].as_str().map(str::to_owned);
    let moved = from["storageClassName"].is_null() && given.is_some();
    let upgraded = moved && was.is_some() && given == was && (is.is_none() || is == was);
    if !upgraded && was != is {
        let place = format!("metadata.annotations.{CLASS_ANNOTATION}");
        errors.invalid_text(&place, &is.unwrap_or_default(), "field is immutable");
    }
    if upgraded || (moved && (was.is_none() || given == was)) {
        copy(&mut expected, to, "storageClassName");
    }
    if text(&new["status"], "phase") == "Bound" {
        if to["resources"]["requests"].is_object() {
            let requests = object_mut(object_mut(&mut expected, "resources"), "requests");
            copy(requests, &to["resources"]["requests"], "storage");
        }
        copy(&mut expected, to, "volumeAttributesClassName");
    }
    let path = Path::root("spec");
    if expected != *to {
        errors.forbidden(&path, IMMUTABLE);
    }
    let request = |spec: &Value| spec["resources"]["requests"]["storage"].clone();
    let (before, after) = (request(from), request(to));
    let shrinks = quantities::compare(&after, &before) == Some(Ordering::Less);
    let reached = quantities::compare(&after, &new["status"]["capacity"]["storage"]) != Some(Ordering::Greater);
    if shrinks && reached {
        errors.forbidden(&"spec.resources.requests.storage", "field can not be less than status.capacity");
    }
    common::validate_immutable(&to["volumeMode"], &from["volumeMode"], &Path::root("volumeMode"), errors);
    let applied = !old["status"]["currentVolumeAttributesClassName"].is_null();
    let class = path.field("volumeAttributesClassName");
    if applied && to["volumeAttributesClassName"] != from["volumeAttributesClassName"] {
        if to["volumeAttributesClassName"].is_null() {
            let why = "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil";
            errors.forbidden(&class, why);
        } else if text(to, "volumeAttributesClassName").is_empty() {
            let why = "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil";
            errors.forbidden(&class, why);
        }
    }
}
