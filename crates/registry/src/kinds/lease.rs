//! Lease.

use jiff::Timestamp;
use serde_json::Value;

use super::common;
use crate::{
    field::{Errors, Path},
    kinds::Strategy,
    table::Column,
    value::text,
};

pub(crate) struct Lease;

impl Strategy for Lease {
    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
            errors.invalid(
                &path.field("leaseDurationSeconds"),
                &spec["leaseDurationSeconds"],
                "must be greater than 0",
            );
        }
        common::validate_non_negative(&spec["leaseTransitions"], &path.field("leaseTransitions"), errors);
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    // Two holders that overwrite each other blindly would both believe to lead.
    fn requires_resource_version(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text(
                    "Holder",
                    "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
                ),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![common::name(object), text(&object["spec"], "holderIdentity").into(), common::age(object, now)]
    }
}
