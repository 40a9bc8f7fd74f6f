//! Workload: the groups of pods that an application is made of, as templates.

use serde_json::Value;

use super::podgroup::{drop_unserved, validate_name, validate_policy};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    names,
    value::{items, items_mut, object_mut, text},
};

pub(crate) struct Workload;

const MAX_TEMPLATES: usize = 8;

impl Strategy for Workload {
    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        items_mut(object_mut(object, "spec"), "podGroupTemplates").for_each(drop_unserved);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, _old: &Value) {
        items_mut(object_mut(new, "spec"), "podGroupTemplates").for_each(drop_unserved);
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        let (owner, place) = (&spec["controllerRef"], path.field("controllerRef"));
        if owner.is_object() {
            let group = text(owner, "apiGroup");
            if !group.is_empty() {
                validate_name(group, names::dns_subdomain, &place.field("apiGroup"), errors);
            }
            for field in ["kind", "name"] {
                validate_name(text(owner, field), names::path_segment, &place.field(field), errors);
            }
        }
        let (templates, list) = (items(&spec["podGroupTemplates"]), path.field("podGroupTemplates"));
        if templates.is_empty() {
            errors.required(&list, "");
        } else if templates.len() > MAX_TEMPLATES {
            errors.too_many(&list, templates.len(), MAX_TEMPLATES);
            return;
        }
        for (at, template) in templates.iter().enumerate() {
            let path = list.index(at);
            if templates[..at].iter().any(|other| other["name"] == template["name"]) {
                errors.duplicate(&path, template);
            }
            validate_name(text(template, "name"), names::dns_label, &path.field("name"), errors);
            validate_policy(&template["schedulingPolicy"], &path.field("schedulingPolicy"), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::root("spec");
        for field in ["controllerRef", "podGroupTemplates"] {
            if new["spec"][field] != old["spec"][field] {
                errors.null_or_invalid(&path.field(field), &Value::Null, "field is immutable");
            }
        }
    }
}
