//! PersistentVolume, and the volume's spec where it stands inline.

mod sources;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, persistentvolumeclaim as claim, pod_spec, quantities};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    table::Column,
    value::{copy, default, entries, items, object_mut, remove, set, text},
};

pub(crate) use sources::validate_driver_name;

pub(crate) struct PersistentVolume;

const RECLAIM_POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const INLINE: &str = "may not be specified in the context of inline volumes";
const IMMUTABLE: &str = "spec.persistentvolumesource is immutable after creation\n";

/// Where a volume's spec stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is a PersistentVolume's.
    Own,
    /// It was made of a pod's volume, within an attachment.
    Inline,
}

impl Strategy for PersistentVolume {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        default(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
        sources::default(spec);
        default(object_mut(object, "status"), "phase", "Pending");
    }

    fn prepare_create(&self, context: &Context, object: &mut Value) {
        set(object, "status", json!({"phase": "Pending", "lastPhaseTransitionTime": context.timestamp()}));
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
    }

    fn prepare_status(&self, context: &Context, new: &mut Value, old: &Value) {
        const WHEN: &str = "lastPhaseTransitionTime";
        let (status, before) = (object_mut(new, "status"), &old["status"]);
        let changed = status["phase"] != before["phase"];
        if !changed && status[WHEN].is_null() {
            copy(status, before, WHEN);
        } else if changed && (status[WHEN].is_null() || status[WHEN] == before[WHEN]) {
            set(status, WHEN, context.timestamp());
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = &object["spec"];
        validate_spec(spec, Place::Own, &Path::root("spec"), errors);
        let options = &object["metadata"]["annotations"][MOUNT_OPTIONS];
        if options.is_string() && !sources::takes_mount_options(spec) {
            let place = format!("metadata.annotations.{MOUNT_OPTIONS}");
            errors.forbidden(&place, "may not specify mount options for this volume type");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (to, from) = (&new["spec"], &old["spec"]);
        let mut source = sources::source(to);
        // A secret for growing the volume may be named later.
        if from["csi"].is_object()
            && from["csi"]["controllerExpandSecretRef"].is_null()
            && let Some(csi) = source.get_mut("csi")
        {
            remove(csi, "controllerExpandSecretRef");
        }
        if source != sources::source(from) {
            errors.forbidden(&"spec.persistentvolumesource", IMMUTABLE);
        }
        common::validate_immutable(&to["volumeMode"], &from["volumeMode"], &Path::root("volumeMode"), errors);
        if from["nodeAffinity"].is_object() && to["nodeAffinity"] != from["nodeAffinity"] {
            let why = "field is immutable, except for updating from beta label to GA";
            errors.null_or_invalid(&"nodeAffinity", &to["nodeAffinity"], why);
        }
        if from["volumeAttributesClassName"].is_string() && to["volumeAttributesClassName"].is_null() {
            errors.forbidden(&"spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden");
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
                Column::text("Capacity", "The volume's resources and capacity."),
                Column::text("Access Modes", "All ways in which the volume can be mounted."),
                Column::text("Reclaim Policy", "What becomes of the volume when its claim is gone."),
                Column::text("Status", "Whether the volume is available, bound to a claim, or released by one."),
                Column::text("Claim", "The claim that the volume is bound to."),
                Column::text("StorageClass", "StorageClass of the pv"),
                Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
                Column::text("Reason", "A word that says why the volume failed."),
                Column::AGE,
                Column::text("VolumeMode", "Whether the volume has a file system or is a block device.").wide(),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, bound) = (&object["spec"], &object["spec"]["claimRef"]);
        let bound = match bound {
            Value::Null => String::new(),
            bound => format!("{}/{}", text(bound, "namespace"), text(bound, "name")),
        };
        vec![
            common::name(object),
            claim::storage(&spec["capacity"]).into(),
            claim::access_modes(&spec["accessModes"]).into(),
            text(spec, "persistentVolumeReclaimPolicy").into(),
            claim::phase(object).into(),
            bound.into(),
            claim::class(object).into(),
            claim::or_unset(&spec["volumeAttributesClassName"]),
            text(&object["status"], "reason").into(),
            common::age(object, now),
            claim::or_unset(&spec["volumeMode"]),
        ]
    }
}

/// A volume's spec by itself.
pub(crate) fn validate_spec(spec: &Value, place: Place, path: &Path<'_>, errors: &mut Errors) {
    if place == Place::Inline {
        validate_inline(spec, path, errors);
    }
    let modes = path.field("accessModes");
    if items(&spec["accessModes"]).is_empty() {
        errors.required(&modes, "");
    }
    claim::validate_modes(&spec["accessModes"], &modes, errors);
    if place == Place::Own {
        validate_own(spec, path, errors);
    }
    sources::validate(spec, path, errors);
    let policy = path.field("persistentVolumeReclaimPolicy");
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" && sources::is_root(&spec["hostPath"]) {
        errors.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
    if place == Place::Own {
        claim::validate_class(text(spec, "storageClassName"), &path.field("storageClassName"), errors);
        claim::validate_volume_mode(spec, path, errors);
        validate_attributes_class(spec, path, errors);
    }
}

fn validate_own(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let place = path.field("capacity");
    let capacity: Vec<(&str, &Value)> = entries(&spec["capacity"]).collect();
    if capacity.is_empty() {
        errors.required(&place, "");
    }
    if !matches!(capacity.as_slice(), [("storage", _)]) {
        let shown = if capacity.is_empty() { &Value::Null } else { &spec["capacity"] };
        errors.null_or_not_supported(&place, shown, &["storage"]);
    }
    for (name, amount) in capacity {
        quantities::validate_capacity(amount, &place.key(name), errors);
        quantities::validate_positive(amount, &place.key(name), errors);
    }
    let policy = path.field("persistentVolumeReclaimPolicy");
    common::validate_choice(&spec["persistentVolumeReclaimPolicy"], &RECLAIM_POLICIES, &policy, errors);
    if spec["nodeAffinity"].is_object() {
        let place = path.field("nodeAffinity");
        let required = &spec["nodeAffinity"]["required"];
        if required.is_null() {
            errors.required(&place.field("required"), "must specify required node constraints");
        }
        pod_spec::validate_node_selector(required, &place.field("required"), errors);
    }
}

fn validate_inline(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["claimRef", "capacity"] {
        if spec[field].is_object() {
            errors.forbidden(&path.field(field), INLINE);
        }
    }
    if spec["csi"].is_null() {
        errors.required(&path.field("csi"), "has to be specified in the context of inline volumes");
    }
    if !matches!(text(spec, "persistentVolumeReclaimPolicy"), "" | "Retain") {
        let place = path.field("persistentVolumeReclaimPolicy");
        errors.forbidden(&place, "may only be Retain in the context of inline volumes");
    }
    if spec["nodeAffinity"].is_object() {
        errors.forbidden(&path.field("nodeAffinity"), INLINE);
    }
    if !text(spec, "storageClassName").is_empty() {
        errors.forbidden(&path.field("storageClassName"), INLINE);
    }
    if !matches!(text(spec, "volumeMode"), "" | "Filesystem") {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(&path.field("volumeMode"), why);
    }
}

fn validate_attributes_class(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(class) = spec["volumeAttributesClassName"].as_str() else { return };
    let place = path.field("volumeAttributesClassName");
    if class.is_empty() {
        errors.required(&place, "an empty string is disallowed");
    }
    claim::validate_class(class, &place, errors);
    if spec["csi"].is_null() {
        errors.required(&path.field("csi"), "has to be specified when using volumeAttributesClassName");
    }
}
