//! PriorityClass.

use jiff::Timestamp;
use serde_json::Value;

use super::common;
use crate::{
    Context, admission,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    table::Column,
    value::{default, object_mut, set, text},
};

pub(crate) struct PriorityClass;

impl Strategy for PriorityClass {
    fn default(&self, object: &mut Value) {
        default(object, "value", 0);
        default(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object_mut(object, "metadata"), "generation", 1);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        meta::bump_generation(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let value = object["value"].as_i64().unwrap_or(0);
        admission::validate_priority_class(text(&object["metadata"], "name"), value, errors);
        let known = ["PreemptLowerPriority", "Never"];
        common::validate_choice(&object["preemptionPolicy"], &known, &Path::root("preemptionPolicy"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if new["value"] != old["value"] {
            errors.forbidden(&"value", "may not be changed in an update.");
        }
        common::validate_immutable(
            &new["preemptionPolicy"],
            &old["preemptionPolicy"],
            &Path::root("preemptionPolicy"),
            errors,
        );
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer(
                    "Value",
                    "value represents the integer value of this priority class. This is the actual priority that pods receive when they have the name of this class in their pod spec.",
                ),
                Column {
                    kind: "boolean",
                    ..Column::text(
                        "Global-Default",
                        "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class.",
                    )
                },
                Column::AGE,
                Column::text(
                    "PreemptionPolicy",
                    "preemptionPolicy is the Policy for preempting pods with lower priority.",
                ),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let default = object["globalDefault"] == true;
        vec![
            common::name(object),
            common::number(&object["value"]),
            default.into(),
            common::age(object, now),
            text(object, "preemptionPolicy").into(),
        ]
    }
}
