//! One device of a slice: where it is, what it is like, what it can hold.

use kube_schema::quantity::{self, Quantity};
use serde_json::{Value, json};

use super::validate_counters;
use crate::{
    field::{Errors, Path},
    kinds::{devices, pod_spec},
    names,
    value::{entries, items, text},
};

const MAX_FACTS: usize = 32;
const MAX_VALUE_BYTES: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_COUNTER_SETS: usize = 2;
const MAX_OPTIONS: usize = 10;

pub(super) fn validate(device: &Value, per_device: bool, path: &Path<'_>, errors: &mut Errors) {
    devices::validate_label(text(device, "name"), &path.field("name"), errors);
    let facts = entries(&device["attributes"]).count() + entries(&device["capacity"]).count();
    if facts > MAX_FACTS {
        let why = format!("the total number of attributes and capacities must not exceed {MAX_FACTS}");
        errors.invalid(path, &facts.into(), &why);
    }
    let place = path.field("attributes");
    for (name, attribute) in entries(&device["attributes"]) {
        devices::validate_qualified(name, &place, errors);
        validate_attribute(attribute, &place.key(name), errors);
    }
    let place = path.field("capacity");
    for (name, capacity) in entries(&device["capacity"]) {
        devices::validate_qualified(name, &place, errors);
        validate_capacity(capacity, device["allowMultipleAllocations"] == true, &place.key(name), errors);
    }
    let (taints, place) = (items(&device["taints"]), path.field("taints"));
    if devices::fits(taints, MAX_TAINTS, &place, errors) {
        for (at, taint) in taints.iter().enumerate() {
            devices::validate_taint(taint, &place.index(at), errors);
        }
    }
    let (used, place) = (items(&device["consumesCounters"]), path.field("consumesCounters"));
    if devices::fits(used, MAX_COUNTER_SETS, &place, errors) {
        for (at, set) in used.iter().enumerate() {
            validate_counters(text(set, "counterSet"), "counterSet", &set["counters"], &place.index(at), errors);
        }
        devices::refuse_doubles(used.iter().map(|set| text(set, "counterSet")), &place, errors);
    }
    validate_place(device, per_device, path, errors);
    devices::validate_binding(device, path, errors);
}

/// A device says where it is if its slice leaves that to it, and only then.
fn validate_place(device: &Value, per_device: bool, path: &Path<'_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !per_device {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| !device[*field].is_null()) {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.null_or_invalid(path, &Value::Null, why);
        }
        return;
    }
    match validate_nodes(device, "must not be empty", path, errors).as_slice() {
        [] => errors.required(path, ONE),
        [_] => {}
        many => errors.invalid_text(path, &format!("{{{}}}", many.join(", ")), ONE),
    }
}

/// The ways in which a slice or a device says where it is. `empty` is what is wrong with a node without a name.
pub(super) fn validate_nodes(owner: &Value, empty: &str, path: &Path<'_>, errors: &mut Errors) -> Vec<&'static str> {
    let mut given = vec![];
    match owner["nodeName"].as_str() {
        Some("") => errors.invalid_text(&path.field("nodeName"), "", empty),
        Some(name) => {
            given.push("`nodeName`");
            for why in names::dns_subdomain(name) {
                errors.invalid_text(&path.field("nodeName"), name, &why);
            }
        }
        None => {}
    }
    if owner["nodeSelector"].is_object() {
        given.push("`nodeSelector`");
        pod_spec::validate_node_selector(&owner["nodeSelector"], &path.field("nodeSelector"), errors);
    }
    match owner["allNodes"].as_bool() {
        Some(true) => given.push("`allNodes`"),
        Some(false) => errors.invalid(&path.field("allNodes"), &json!(false), "must be either unset or set to true"),
        None => {}
    }
    given
}

fn validate_attribute(attribute: &Value, path: &Path<'_>, errors: &mut Errors) {
    let given = ["bool", "int", "string", "version"].iter().filter(|field| !attribute[**field].is_null()).count();
    for field in ["string", "version"] {
        if text(attribute, field).len() > MAX_VALUE_BYTES {
            errors.too_long(&path.field(field), MAX_VALUE_BYTES);
        }
    }
    if let Some(version) = attribute["version"].as_str()
        && !is_semantic_version(version)
    {
        let why = "must be a string compatible with semver.org spec 2.0.0";
        errors.invalid_text(&path.field("version"), version, why);
    }
    match given {
        0 => errors.invalid_text(path, "", "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(path, attribute, "exactly one value must be specified"),
    }
}

/// `1.2.3-alpha.1+build` (semver.org).
fn is_semantic_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part.len() == 1 || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.into_iter().all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn validate_capacity(capacity: &Value, shared: bool, path: &Path<'_>, errors: &mut Errors) {
    let (policy, path) = (&capacity["requestPolicy"], path.field("requestPolicy"));
    if !policy.is_object() {
        return;
    }
    if !shared {
        errors.forbidden(&path, "allowMultipleAllocations must be true");
        return;
    }
    let (values, range) = (items(&policy["validValues"]), &policy["validRange"]);
    let usual = amount(&policy["default"]);
    let Some(max) = amount(&capacity["value"]) else { return };
    match (values.is_empty(), range.is_object(), usual) {
        (false, true, _) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.forbidden(&path, why);
        }
        (false, false, None) => errors.required(&path.field("default"), "required when validValues is defined"),
        (true, true, None) => errors.required(&path.field("default"), "required when validRange is defined"),
        (false, false, Some(usual)) => validate_values(values, usual, max, &path.field("validValues"), errors),
        (true, true, Some(usual)) => validate_range(range, usual, max, &path.field("validRange"), errors),
        (true, false, _) => {}
    }
}

fn amount(value: &Value) -> Option<Quantity> {
    quantity::parse(value.as_str()?).ok()
}

fn validate_values(values: &[Value], usual: Quantity, max: Quantity, path: &Path<'_>, errors: &mut Errors) {
    for (at, pair) in values.windows(2).enumerate() {
        if amount(&pair[0]) > amount(&pair[1]) {
            errors.invalid(&path.index(at + 1), &pair[1], "values must be sorted in ascending order");
        }
    }
    if devices::fits(values, MAX_OPTIONS, path, errors) {
        for (at, value) in values.iter().enumerate().filter(|(_, value)| amount(value) > Some(max)) {
            errors.invalid(&path.index(at), value, &format!("option is larger than capacity value: {max}"));
        }
        devices::refuse_doubles(values.iter().map(|value| value.as_str().unwrap_or_default()), path, errors);
    }
    if !values.iter().any(|value| amount(value) == Some(usual)) {
        let why = "default value is not valid according to the requestPolicy";
        errors.invalid_text(path, &usual.to_string(), why);
    }
}

fn validate_range(range: &Value, usual: Quantity, capacity: Quantity, path: &Path<'_>, errors: &mut Errors) {
    let Some(min) = amount(&range["min"]) else {
        errors.required(&path.field("min"), "required when validRange is defined");
        return;
    };
    let mut refuse = |field: &str, value: Quantity, why: String| {
        errors.invalid_text(&path.field(field), &value.to_string(), &why);
    };
    if min > capacity {
        refuse("min", min, format!("min is larger than capacity value: {capacity}"));
    }
    if usual < min {
        refuse("min", usual, format!("default is less than min: {min}"));
    }
    let max = amount(&range["max"]);
    if let Some(max) = max {
        if min > max {
            refuse("max", min, format!("min is larger than max: {max}"));
        }
        if max > capacity {
            refuse("max", max, format!("max is larger than capacity value: {capacity}"));
        }
        if usual > max {
            refuse("max", usual, format!("default is more than max: {max}"));
        }
    }
    let Some(step) = amount(&range["step"]) else { return };
    let next = min.plus(&step);
    if next > capacity {
        refuse("step", step, format!("one step {next} is larger than capacity value: {capacity}"));
    }
    for value in [Some(usual), max].into_iter().flatten() {
        let above = value.value().saturating_sub(min.value());
        if above.checked_rem(step.value()) != Some(0) {
            refuse("step", value, format!("value is not a multiple of a given step ({step}) from ({min})"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semantic_versions() {
        for (text, expected) in [
            ("1.2.3", true),
            ("0.0.1-alpha.1+build.05", true),
            ("1.2", false),
            ("01.2.3", false),
            ("1.2.3-", false),
            ("1.2.3-01", false),
            ("1.2.3+", false),
            ("v1.2.3", false),
        ] {
            assert_eq!(is_semantic_version(text), expected, "{text}");
        }
    }
}
