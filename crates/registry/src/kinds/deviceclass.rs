//! DeviceClass.

use serde_json::Value;

use super::{devices, resource_names};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    value::{items, object_mut, set},
};

pub(crate) struct DeviceClass;

impl Strategy for DeviceClass {
    fn default(&self, object: &mut Value) {
        object_mut(object, "spec");
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object_mut(object, "metadata"), "generation", 1);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        meta::bump_generation(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        devices::validate_selectors(&spec["selectors"], &path.field("selectors"), errors);
        let (list, configs) = (path.field("config"), items(&spec["config"]));
        if devices::fits(configs, devices::MAX_CONFIGS, &list, errors) {
            for (at, config) in configs.iter().enumerate() {
                devices::validate_config(config, &list.index(at), errors);
            }
        }
        if let Some(name) = spec["extendedResourceName"].as_str()
            && !resource_names::is_extended(name)
        {
            errors.invalid_text(&path.field("extendedResourceName"), name, "must be a valid extended resource name");
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }
}
