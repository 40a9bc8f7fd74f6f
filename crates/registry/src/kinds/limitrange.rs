//! LimitRange: how much the containers, pods and claims of a namespace may ask for, and what they get that do not say. What
//! becomes of pods and claims beside it stands in `admission::limits`.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use kube_schema::quantity::{self, MAX_MILLI_VALUE, Quantity};
use serde_json::Value;

use super::{common, resource_names};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::{entries, items, items_mut, object_mut, set, text},
};

pub(crate) struct LimitRange;

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];

impl Strategy for LimitRange {
    fn default(&self, object: &mut Value) {
        let containers = |item: &&mut Value| text(item, "type") == "Container";
        for item in items_mut(object_mut(object, "spec"), "limits").filter(containers) {
            // Each of these is asked after the one before it has been completed.
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                take_missing(item, from, to);
            }
        }
    }

    fn prepare_create(&self, context: &Context, object: &mut Value) {
        let metadata = object_mut(object, "metadata");
        if text(metadata, "name").is_empty() {
            set(metadata, "name", context.uid());
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = Path::root("spec");
        let list = spec.field("limits");
        let mut seen = HashSet::new();
        for (at, item) in items(&object["spec"]["limits"]).iter().enumerate() {
            let (path, kind) = (list.index(at), text(item, "type"));
            validate_type(kind, &path.field("type"), errors);
            if !seen.insert(kind) {
                errors.duplicate(&path.field("type"), &kind.into());
            }
            validate_item(item, &path, errors);
        }
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        &[Column::NAME, Column::CREATED]
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![common::name(object), object["metadata"]["creationTimestamp"].clone()]
    }
}

/// Copies the amounts that one map has and the other has not.
fn take_missing(item: &mut Value, from: &str, to: &str) {
    let missing = |(name, _): &(&str, &Value)| item[to][*name].is_null();
    let missing: Vec<(String, Value)> =
        entries(&item[from]).filter(missing).map(|(name, amount)| (name.to_owned(), amount.clone())).collect();
    for (name, amount) in missing {
        set(object_mut(item, to), &name, amount);
    }
}

fn validate_type(kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let problems = names::qualified_name(kind);
    for why in &problems {
        errors.invalid_text(path, kind, why);
    }
    if problems.is_empty() && !kind.contains('/') && !TYPES.contains(&kind) {
        errors.invalid_text(path, kind, "must be a standard limit type or fully qualified");
    }
}

/// One item by itself: which resources it may speak of, and that what it says of each goes together.
fn validate_item(item: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = text(item, "type");
    let of_container = matches!(kind, "Container" | "Pod");
    let mut spoken_of = BTreeSet::new();
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let place = path.field(field);
        if kind == "Pod" && field.starts_with("default") {
            if entries(&item[field]).next().is_some() {
                errors.forbidden(&place, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        if field == "maxLimitRequestRatio" {
            require_storage(item, path, errors);
        }
        for (name, _) in entries(&item[field]) {
            match of_container {
                true => resource_names::validate_of_container(name, &place.key(name), errors),
                false => resource_names::validate(name, &place.key(name), errors),
            }
            spoken_of.insert(name);
        }
    }
    for name in spoken_of {
        Said::of(item, name).validate(name, path, errors);
    }
}

fn require_storage(item: &Value, path: &Path<'_>, errors: &mut Errors) {
    let bounded = ["min", "max"].iter().any(|bound| !item[*bound]["storage"].is_null());
    if text(item, "type") == "PersistentVolumeClaim" && !bounded {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.field("limits"), why);
    }
}

/// What an item says of one resource.
struct Said {
    min: Option<Quantity>,
    max: Option<Quantity>,
    default: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl Said {
    fn of(item: &Value, name: &str) -> Self {
        let amount = |field: &str| item[field][name].as_str().and_then(|text| quantity::parse(text).ok());
        // A pod has no defaults, and is refused if it says some.
        let default = |field: &str| amount(field).filter(|_| text(item, "type") != "Pod");
        Said {
            min: amount("min"),
            max: amount("max"),
            default: default("default"),
            request: default("defaultRequest"),
            ratio: amount("maxLimitRequestRatio"),
        }
    }

    fn validate(&self, name: &str, path: &Path<'_>, errors: &mut Errors) {
        // The lesser, the greater, and the field and the amount that are told when it is the other way round.
        let pairs = [
            (&self.min, "min value", &self.max, "max value", "min", &self.min),
            (&self.min, "min value", &self.request, "default request value", "defaultRequest", &self.request),
            (&self.request, "default request value", &self.max, "max value", "defaultRequest", &self.request),
            (
                &self.request,
                "default request value",
                &self.default,
                "default limit value",
                "defaultRequest",
                &self.request,
            ),
            (&self.min, "min value", &self.default, "default value", "default", &self.min),
            (&self.default, "default value", &self.max, "max value", "default", &self.max),
        ];
        for (less, less_name, more, more_name, field, told) in pairs {
            if let (Some(less), Some(more), Some(told)) = (less, more, told)
                && less > more
            {
                let why = format!("{less_name} {less} is greater than {more_name} {more}");
                errors.invalid(&path.field(field).key(name), &told.to_string().into(), &why);
            }
        }
        self.validate_ratio(name, path, errors);
        if let (Some(default), Some(request)) = (self.default, self.request)
            && !resource_names::may_be_overcommitted(name)
            && default != request
        {
            let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
            errors.invalid(&path.field("defaultRequest").key(name), &request.to_string().into(), &why);
        }
    }

    fn validate_ratio(&self, name: &str, path: &Path<'_>, errors: &mut Errors) {
        let Some(ratio) = self.ratio else { return };
        let field = path.field("maxLimitRequestRatio");
        let (place, told) = (field.key(name), ratio.to_string().into());
        if ratio < Quantity::from_value(1, quantity::Format::DecimalSi) {
            errors.invalid(&place, &told, &format!("ratio {ratio} is less than 1"));
        }
        let (Some(min), Some(max)) = (self.min, self.max) else { return };
        let fine = [ratio, min, max].iter().all(|amount| amount.value() < MAX_MILLI_VALUE);
        let read = |amount: Quantity| (if fine { amount.milli_value() } else { amount.value() }) as f64;
        let given = if fine { read(ratio) / 1000.0 } else { read(ratio) };
        let possible = read(max) / read(min);
        if given > possible {
            let why = format!("ratio {ratio} is greater than max/min = {possible:.6}");
            errors.invalid(&place, &told, &why);
        }
    }
}
