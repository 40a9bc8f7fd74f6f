//! VolumeAttachment: a volume's way to a node.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common,
    persistentvolume::{self, Place, validate_driver_name},
};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::{copy, default, entries, object_mut, set, text},
};

pub(crate) struct VolumeAttachment;

const MAX_METADATA_BYTES: usize = 256 * 1024;
const MAX_MESSAGE_BYTES: usize = 1024;

impl Strategy for VolumeAttachment {
    fn default(&self, object: &mut Value) {
        default(object_mut(object, "status"), "attached", false);
        object_mut(object_mut(object, "spec"), "source");
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({"attached": false}));
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        validate_driver_name(text(spec, "attacher"), &path.field("attacher"), errors);
        validate_source(&spec["source"], &path.field("source"), errors);
        for why in names::dns_subdomain(text(spec, "nodeName")) {
            errors.invalid_text(&path.field("nodeName"), text(spec, "nodeName"), &why);
        }
        validate_attachment_status(&object["status"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        common::validate_immutable(&new["spec"], &old["spec"], &Path::root("spec"), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate(new, errors);
    }

    fn status_keeps(&self) -> &'static [&'static str] {
        common::ALL_METADATA
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
                Column { format: "name", ..Column::text("Attacher", "The driver that attaches the volume.") },
                Column::text("PV", "The volume to be attached."),
                Column::text("Node", "The node that it is attached to."),
                Column::boolean("Attached", "Whether the volume is attached."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        vec![
            common::name(object),
            text(spec, "attacher").into(),
            text(&spec["source"], "persistentVolumeName").into(),
            text(spec, "nodeName").into(),
            (object["status"]["attached"] == true).into(),
            common::age(object, now),
        ]
    }
}

fn validate_source(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let (inline, name) = (&source["inlineVolumeSpec"], &source["persistentVolumeName"]);
    match (inline.is_object(), name.as_str()) {
        (false, None) => errors.required(path, ONE),
        (true, Some(_)) => errors.forbidden(path, ONE),
        (false, Some(name)) => {
            if name.is_empty() {
                errors.required(&path.field("persistentVolumeName"), "must specify non empty persistentVolumeName");
            }
            for why in names::dns_subdomain(name) {
                errors.invalid_text(&path.field("persistentVolumeName"), name, &why);
            }
        }
        (true, None) => {
            persistentvolume::validate_spec(inline, Place::Inline, &path.field("inlineVolumeSpec"), errors);
        }
    }
}

fn validate_attachment_status(status: &Value, errors: &mut Errors) {
    let path = Path::root("status");
    let size =
        entries(&status["attachmentMetadata"]).map(|(key, value)| key.len() + value.as_str().map_or(0, str::len));
    if size.sum::<usize>() > MAX_METADATA_BYTES {
        errors.too_long(&path.field("attachmentMetadata"), MAX_METADATA_BYTES);
    }
    for field in ["attachError", "detachError"] {
        let (error, path) = (&status[field], path.field(field));
        if text(error, "message").len() > MAX_MESSAGE_BYTES {
            // Kubernetes tells the other bound here.
            errors.too_long(&path.field("message"), MAX_METADATA_BYTES);
        }
        if error["errorCode"].as_i64().is_some_and(|code| code < 0) {
            errors.invalid(
                &path.field("errorCode"),
                &error["errorCode"],
                "must be between 0 and 2147483647, inclusive",
            );
        }
    }
}
