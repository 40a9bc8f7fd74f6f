//! CSIStorageCapacity: how much a class of storage has left where.

use jiff::Timestamp;
use serde_json::Value;

use super::{common, quantities};
use crate::{
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::text,
};

pub(crate) struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate(&self, object: &Value, errors: &mut Errors) {
        common::validate_selector(&object["nodeTopology"], &Path::root("nodeTopology"), errors);
        let class = text(object, "storageClassName");
        for why in names::dns_subdomain(class) {
            errors.invalid_text(&"storageClassName", class, &why);
        }
        quantities::validate_non_negative(&object["capacity"], &Path::root("capacity"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for field in ["nodeTopology", "storageClassName"].into_iter().filter(|field| new[*field] != old[*field]) {
            errors.null_or_invalid(&field, &new[field], "field is immutable");
        }
    }

    fn requires_resource_version(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        // Kubernetes has columns for this kind and does not use them.
        &[Column::NAME, Column::CREATED]
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![common::name(object), object["metadata"]["creationTimestamp"].clone()]
    }
}
