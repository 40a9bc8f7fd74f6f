//! StorageClass.

use jiff::Timestamp;
use serde_json::Value;

use super::common;
use crate::{
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::{default, entries, items, text},
};

pub(crate) struct StorageClass;

const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 * 1024;

/// Whether claims that name no class get this one.
pub(crate) fn is_default(class: &Value) -> bool {
    DEFAULT_CLASS.iter().any(|annotation| class["metadata"]["annotations"][*annotation] == "true")
}

impl Strategy for StorageClass {
    fn default(&self, object: &mut Value) {
        default(object, "reclaimPolicy", "Delete");
        default(object, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (provisioner, path) = (text(object, "provisioner").to_lowercase(), Path::root("provisioner"));
        if provisioner.is_empty() {
            errors.required(&path, "");
        } else {
            for why in names::qualified_name(&provisioner) {
                errors.invalid_text(&path, &provisioner, &why);
            }
        }
        validate_parameters(&object["parameters"], errors);
        common::validate_choice(&object["reclaimPolicy"], &["Delete", "Retain"], &Path::root("reclaimPolicy"), errors);
        let known = ["Immediate", "WaitForFirstConsumer"];
        common::validate_choice(&object["volumeBindingMode"], &known, &Path::root("volumeBindingMode"), errors);
        validate_topologies(&object["allowedTopologies"], &Path::root("allowedTopologies"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let fields = ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"];
        for field in fields.into_iter().filter(|field| new[*field] != old[*field]) {
            errors.null_or_invalid(&field, &new[field], "field is immutable");
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Provisioner", "The type of the provisioner."),
                Column::text("ReclaimPolicy", "What becomes of volumes of this class when their claims are gone."),
                Column::text("VolumeBindingMode", "When claims of this class are provisioned and bound."),
                Column::text("AllowVolumeExpansion", "Whether volumes of this class may grow."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = text(&object["metadata"], "name");
        let name = if is_default(object) { format!("{name} (default)") } else { name.to_owned() };
        vec![
            name.into(),
            text(object, "provisioner").into(),
            object["reclaimPolicy"].as_str().unwrap_or("Delete").into(),
            object["volumeBindingMode"].as_str().unwrap_or("Immediate").into(),
            (object["allowVolumeExpansion"] == true).into(),
            common::age(object, now),
        ]
    }
}

fn validate_parameters(parameters: &Value, errors: &mut Errors) {
    let path = Path::root("parameters");
    let total: usize = entries(parameters).map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if entries(parameters).count() > MAX_PARAMETERS {
        errors.too_long(&path, MAX_PARAMETERS);
        return;
    }
    if entries(parameters).any(|(key, _)| key.is_empty()) {
        errors.invalid_text(&path, "", "field can not be empty.");
    }
    if total > MAX_PARAMETER_BYTES {
        errors.too_long(&path, MAX_PARAMETER_BYTES);
    }
}

fn validate_topologies(topologies: &Value, path: &Path<'_>, errors: &mut Errors) {
    let terms = items(topologies);
    for (at, term) in terms.iter().enumerate() {
        let path = path.index(at);
        let list = path.field("matchLabelExpressions");
        let mut keys: Vec<&str> = vec![];
        for (at, requirement) in items(&term["matchLabelExpressions"]).iter().enumerate() {
            let path = list.index(at);
            let (key, values) = (text(requirement, "key"), items(&requirement["values"]));
            if values.is_empty() {
                errors.required(&path.field("values"), "");
            }
            for (at, value) in values.iter().enumerate().filter(|(at, value)| values[..*at].contains(value)) {
                errors.duplicate(&path.field("values").index(at), value);
            }
            for why in names::qualified_name(key) {
                errors.invalid_text(&path.field("key"), key, &why);
            }
            if keys.contains(&key) {
                errors.duplicate(&path.field("key"), &requirement["key"]);
            }
            keys.push(key);
        }
        if terms[..at].contains(term) {
            errors.duplicate(&list, &"".into());
        }
    }
}
