//! ConfigMap.

use jiff::Timestamp;
use serde_json::Value;

use super::common;
use crate::{
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::entries,
};

pub(crate) struct ConfigMap;

/// All of an object's data together, before base64.
pub(super) const MAX_DATA_BYTES: usize = 1024 * 1024;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (data, binary) = (&object["data"], &object["binaryData"]);
        let (data_path, binary_path) = (Path::root("data"), Path::root("binaryData"));
        let mut total = 0;
        for (key, value) in entries(data) {
            validate_key(key, &data_path, errors);
            if !binary[key].is_null() {
                errors.invalid_text(&data_path.key(key), key, "duplicate of key present in binaryData");
            }
            total += value.as_str().map_or(0, str::len);
        }
        for (key, value) in entries(binary) {
            validate_key(key, &binary_path, errors);
            total += value.as_str().map_or(0, |text| text.len() / 4 * 3);
        }
        if total > MAX_DATA_BYTES {
            errors.too_long(&"[]", MAX_DATA_BYTES);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if old["immutable"] != true {
            return;
        }
        if new["immutable"] != true {
            errors.forbidden(&"immutable", "field is immutable when `immutable` is set");
        }
        for field in ["data", "binaryData"] {
            if new[field] != old[field] {
                errors.forbidden(&field, "field is immutable when `immutable` is set");
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::text("Data", "Data contains the configuration data."), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = entries(&object["data"]).count() + entries(&object["binaryData"]).count();
        vec![common::name(object), count.into(), common::age(object, now)]
    }
}

/// The rule for a key, which becomes a file's name.
pub(super) fn validate_key(key: &str, path: &Path<'_>, errors: &mut Errors) {
    for why in names::config_key(key) {
        errors.invalid_text(&path.key(key), key, &why);
    }
}
