//! ResourceClaimTemplate.

use serde_json::Value;

use super::{common, devices};
use crate::{
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    value::object_mut,
};

pub(crate) struct ResourceClaimTemplate;

impl Strategy for ResourceClaimTemplate {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        object_mut(spec, "metadata");
        devices::default_claim(object_mut(spec, "spec"));
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        let metadata = path.field("metadata");
        meta::validate_labels(&spec["metadata"]["labels"], &metadata.field("labels"), errors);
        devices::validate_claim(&spec["spec"], &path.field("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        common::validate_immutable(&new["spec"], &old["spec"], &Path::root("spec"), errors);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }
}
