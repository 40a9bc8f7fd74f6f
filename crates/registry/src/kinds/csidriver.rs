//! CSIDriver.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common;
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    table::Column,
    value::{default, items, object_mut, remove, text},
};

pub(crate) struct CsiDriver;

const MIN_TOKEN_SECONDS: i64 = 600;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;
const MIN_UPDATE_SECONDS: i64 = 10;

impl Strategy for CsiDriver {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        default(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default(spec, field, false);
        }
        default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        default(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        drop_unserved(object);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        drop_unserved(new);
        meta::bump_generation(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        common::validate_choice(&spec["fsGroupPolicy"], &policies, &path.field("fsGroupPolicy"), errors);
        validate_tokens(&spec["tokenRequests"], &path.field("tokenRequests"), errors);
        for mode in items(&spec["volumeLifecycleModes"]) {
            let place = path.field("volumeLifecycleModes");
            common::validate_choice(mode, &["Persistent", "Ephemeral"], &place, errors);
        }
        let period = &spec["nodeAllocatableUpdatePeriodSeconds"];
        if period.as_i64().is_some_and(|seconds| seconds < MIN_UPDATE_SECONDS) {
            let why = "must be greater than or equal to 10 seconds";
            errors.invalid(&path.field("nodeAllocatableUpdatePeriodSeconds"), period, why);
        }
        let in_secrets = &spec["serviceAccountTokenInSecrets"];
        if in_secrets.is_boolean() && items(&spec["tokenRequests"]).is_empty() {
            let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.invalid(&path.field("serviceAccountTokenInSecrets"), in_secrets, why);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::root("spec");
        // Kubernetes names the first place so.
        for (field, place) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            common::validate_immutable(&new["spec"][field], &old["spec"][field], &path.field(place), errors);
        }
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
                Column::boolean(
                    "AttachRequired",
                    "Whether volumes must be attached to a node before they are mounted.",
                ),
                Column::boolean("PodInfoOnMount", "Whether the driver is told about the pod when it mounts a volume."),
                Column::boolean(
                    "StorageCapacity",
                    "Whether the scheduler looks at the capacity that the driver reports.",
                ),
                Column::text("TokenRequests", "For whom the driver gets tokens of the pods' service accounts."),
                Column::boolean("RequiresRepublish", "Whether the driver wants to be asked again and again."),
                Column::text("Modes", "The kinds of volumes that the driver serves."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let modes: Vec<&str> = items(&spec["volumeLifecycleModes"]).iter().filter_map(Value::as_str).collect();
        let tokens: Vec<&str> = items(&spec["tokenRequests"]).iter().map(|request| text(request, "audience")).collect();
        let tokens = if spec["tokenRequests"].is_array() { tokens.join(",") } else { "<unset>".to_owned() };
        vec![
            common::name(object),
            (spec["attachRequired"] != false).into(),
            (spec["podInfoOnMount"] == true).into(),
            (spec["storageCapacity"] == true).into(),
            tokens.into(),
            (spec["requiresRepublish"] == true).into(),
            common::or_none(&modes.join(",")),
            common::age(object, now),
        ]
    }
}

/// A field whose feature is off in Kubernetes as it is delivered.
fn drop_unserved(object: &mut Value) {
    remove(object_mut(object, "spec"), "preventPodSchedulingIfMissing");
}

fn validate_tokens(requests: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut audiences = HashSet::new();
    for (at, request) in items(requests).iter().enumerate() {
        let path = path.index(at);
        let audience = text(request, "audience");
        if !audiences.insert(audience) {
            errors.duplicate(&path.field("audience"), &audience.into());
            continue;
        }
        let (seconds, place) = (&request["expirationSeconds"], path.field("expirationSeconds"));
        match seconds.as_i64() {
            Some(..MIN_TOKEN_SECONDS) => {
                errors.invalid(&place, seconds, "may not specify a duration less than 10 minutes");
            }
            Some(given) if given > MAX_TOKEN_SECONDS => {
                errors.invalid(&place, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
}
