//! What the kinds about devices share: requests, selectors, configurations, names.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::persistentvolume::validate_driver_name;
use crate::{
    field::{Errors, Path},
    names,
    value::{default, default_zero, items, items_mut, text},
};

pub(super) const MAX_REQUESTS: usize = 32;
const MAX_CONSTRAINTS: usize = 32;
pub(super) const MAX_CONFIGS: usize = 32;
const MAX_SELECTORS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_EXPRESSION_BYTES: usize = 10 * 1024;
const MAX_PARAMETER_BYTES: usize = 10 * 1024;
const MAX_POOL_BYTES: usize = 253;
pub(super) const MAX_ID_BYTES: usize = 32;
pub(super) const MAX_CONDITIONS: usize = 4;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// The requests of a claim by name, each with its alternatives.
pub(super) type Requests<'c> = HashMap<&'c str, Vec<&'c str>>;

/// Completes a claim's spec.
pub(super) fn default_claim(spec: &mut Value) {
    let devices = crate::value::object_mut(spec, "devices");
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            default_request(exactly);
        }
        items_mut(request, "firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    default(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        default_zero(request, "count", 1);
    }
}

/// The names by which a claim's own fields and its status refer to requests.
pub(super) fn requests(spec: &Value) -> Requests<'_> {
    let requests = items(&spec["devices"]["requests"]).iter();
    requests
        .map(|request| {
            let alternatives = items(&request["firstAvailable"]).iter().map(|sub| text(sub, "name"));
            (text(request, "name"), alternatives.collect())
        })
        .collect()
}

/// A claim's spec by itself.
pub(super) fn validate_claim(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (devices, path) = (&spec["devices"], path.field("devices"));
    let known = requests(spec);
    let (list, given) = (path.field("requests"), items(&devices["requests"]));
    if fits(given, MAX_REQUESTS, &list, errors) {
        for (at, request) in given.iter().enumerate() {
            validate_request(request, &list.index(at), errors);
        }
        refuse_doubles(given.iter().map(|request| text(request, "name")), &list, errors);
    }
    let (list, given) = (path.field("constraints"), items(&devices["constraints"]));
    if fits(given, MAX_CONSTRAINTS, &list, errors) {
        for (at, constraint) in given.iter().enumerate() {
            validate_constraint(constraint, &known, &list.index(at), errors);
        }
    }
    let (list, given) = (path.field("config"), items(&devices["config"]));
    if fits(given, MAX_CONFIGS, &list, errors) {
        for (at, config) in given.iter().enumerate() {
            let path = list.index(at);
            validate_names(&config["requests"], &known, &path.field("requests"), errors);
            validate_config(config, &path, errors);
        }
    }
}

/// Whether a list is short enough to be looked at. Says so if it is not.
pub(super) fn fits(list: &[Value], max: usize, path: &Path<'_>, errors: &mut Errors) -> bool {
    if list.len() > max {
        errors.too_many(path, list.len(), max);
    }
    list.len() <= max
}

/// No two items may have the same key.
pub(super) fn refuse_doubles<'k>(keys: impl Iterator<Item = &'k str>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, key) in keys.enumerate() {
        if !seen.insert(key) {
            errors.duplicate(&path.index(at), &key.into());
        }
    }
}

fn validate_request(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    validate_label(text(request, "name"), &path.field("name"), errors);
    let (exactly, alternatives) = (&request["exactly"], items(&request["firstAvailable"]));
    match (exactly.is_object(), alternatives.is_empty()) {
        (false, true) => errors.required(path, ONE),
        (true, false) => {
            errors.null_or_invalid(path, &Value::Null, &format!("{ONE}, but multiple fields are set"));
        }
        (true, true) => validate_exact(exactly, &path.field("exactly"), errors),
        (false, false) => {
            let list = path.field("firstAvailable");
            if fits(alternatives, MAX_ALTERNATIVES, &list, errors) {
                for (at, sub) in alternatives.iter().enumerate() {
                    validate_label(text(sub, "name"), &list.index(at).field("name"), errors);
                    validate_exact(sub, &list.index(at), errors);
                }
                refuse_doubles(alternatives.iter().map(|sub| text(sub, "name")), &list, errors);
            }
        }
    }
}

fn validate_exact(request: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (class, place) = (text(request, "deviceClassName"), path.field("deviceClassName"));
    if class.is_empty() {
        errors.required(&place, "");
    } else {
        for why in names::dns_subdomain(class) {
            errors.invalid_text(&place, class, &why);
        }
    }
    validate_selectors(&request["selectors"], &path.field("selectors"), errors);
    let (count, place) = (request["count"].as_i64().unwrap_or(0), path.field("count"));
    match text(request, "allocationMode") {
        "All" if count != 0 => {
            errors.invalid(&place, &count.into(), "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => errors.invalid(&place, &count.into(), "must be greater than zero"),
        "All" | "ExactCount" => {}
        _ => {
            let place = path.field("allocationMode");
            errors.not_supported(&place, &request["allocationMode"], &["All", "ExactCount"]);
        }
    }
    let list = path.field("tolerations");
    for (at, toleration) in items(&request["tolerations"]).iter().enumerate() {
        validate_toleration(toleration, &list.index(at), errors);
    }
}

/// Which devices, as expressions. They are not compiled here: the scheduler tells of those that it cannot read.
pub(super) fn validate_selectors(selectors: &Value, path: &Path<'_>, errors: &mut Errors) {
    let selectors = items(selectors);
    if !fits(selectors, MAX_SELECTORS, path, errors) {
        return;
    }
    for (at, selector) in selectors.iter().enumerate() {
        let path = path.index(at);
        let cel = path.field("cel");
        let place = cel.field("expression");
        if selector["cel"].is_null() {
            errors.required(&cel, "");
        } else if text(&selector["cel"], "expression").is_empty() {
            errors.required(&place, "");
        } else if text(&selector["cel"], "expression").len() > MAX_EXPRESSION_BYTES {
            errors.too_long(&place, MAX_EXPRESSION_BYTES);
        }
    }
}

fn validate_toleration(toleration: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (key, value) = (text(toleration, "key"), text(toleration, "value"));
    if !key.is_empty() {
        for why in names::qualified_name(key) {
            errors.invalid_text(&path.field("key"), key, &why);
        }
    }
    match text(toleration, "operator") {
        "Exists" if !value.is_empty() => {
            errors.invalid_text(&path.field("value"), value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => {
            for why in names::label_value(value) {
                errors.invalid_text(&path.field("value"), value, &why);
            }
        }
        "" => errors.required(&path.field("operator"), ""),
        _ => errors.not_supported(&path.field("operator"), &toleration["operator"], &["Equal", "Exists"]),
    }
    let effect = text(toleration, "effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.not_supported(&path.field("effect"), &toleration["effect"], &EFFECTS);
    }
}

/// A taint on a device.
pub(super) fn validate_taint(taint: &Value, path: &Path<'_>, errors: &mut Errors) {
    for why in names::qualified_name(text(taint, "key")) {
        errors.invalid_text(&path.field("key"), text(taint, "key"), &why);
    }
    for why in names::label_value(text(taint, "value")) {
        errors.invalid_text(&path.field("value"), text(taint, "value"), &why);
    }
    match text(taint, "effect") {
        "" => errors.required(&path.field("effect"), ""),
        effect if EFFECTS.contains(&effect) => {}
        _ => errors.not_supported(&path.field("effect"), &taint["effect"], &EFFECTS),
    }
}

fn validate_constraint(constraint: &Value, known: &Requests<'_>, path: &Path<'_>, errors: &mut Errors) {
    validate_names(&constraint["requests"], known, &path.field("requests"), errors);
    let fields = ["matchAttribute", "distinctAttribute"];
    let Some(field) = fields.into_iter().find(|field| constraint[*field].is_string()) else {
        // Kubernetes' own words, although none is set.
        let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
        errors.required(path, why);
        return;
    };
    let (name, place) = (text(constraint, field), path.field(field));
    validate_qualified(name, &place, errors);
    if !name.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid_text(&place, name, why);
    }
}

/// A list of names of requests.
pub(super) fn validate_names(list: &Value, known: &Requests<'_>, path: &Path<'_>, errors: &mut Errors) {
    let list = items(list);
    if !fits(list, MAX_REQUESTS, path, errors) {
        return;
    }
    for (at, name) in list.iter().enumerate() {
        validate_request_name(name.as_str().unwrap_or_default(), known, &path.index(at), errors);
    }
    refuse_doubles(list.iter().map(|name| name.as_str().unwrap_or_default()), path, errors);
}

/// The name of a request, or of a request and one of its alternatives.
pub(super) fn validate_request_name(name: &str, known: &Requests<'_>, path: &Path<'_>, errors: &mut Errors) {
    const UNKNOWN: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() <= 2 {
        parts.iter().for_each(|part| validate_label(part, path, errors));
    }
    let found = match parts.as_slice() {
        [request] => known.contains_key(request),
        [request, sub] => known.get(request).is_some_and(|subs| subs.contains(sub)),
        _ => false,
    };
    if !found {
        errors.invalid_text(path, name, UNKNOWN);
    }
}

/// What a driver is told beside the request.
pub(super) fn validate_config(config: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (opaque, path) = (&config["opaque"], path.field("opaque"));
    if !opaque.is_object() {
        errors.required(&path, "");
        return;
    }
    validate_driver_name(text(opaque, "driver"), &path.field("driver"), errors);
    validate_raw(&opaque["parameters"], MAX_PARAMETER_BYTES, &path.field("parameters"), errors);
}

/// An object of somebody else's.
pub(super) fn validate_raw(raw: &Value, max_bytes: usize, path: &Path<'_>, errors: &mut Errors) {
    if raw.is_null() {
        errors.required(path, "");
    } else if raw.to_string().len() > max_bytes {
        errors.too_long(path, max_bytes);
    } else if !raw.is_object() {
        errors.invalid_text(path, "<value omitted>", "must be a valid JSON object");
    }
}

/// A label, as most names here are.
pub(super) fn validate_label(name: &str, path: &Path<'_>, errors: &mut Errors) {
    for why in names::dns_label(name) {
        errors.invalid_text(path, name, &why);
    }
}

/// The name of a pool: subdomains joined by slashes.
pub(super) fn validate_pool(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > MAX_POOL_BYTES {
        errors.too_long(path, MAX_POOL_BYTES);
    }
    for part in name.split('/') {
        for why in names::dns_subdomain(part) {
            errors.invalid_text(path, part, &why);
        }
    }
}

/// The name of an attribute or a capacity: a C identifier, with or without its driver's domain.
pub(super) fn validate_qualified(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [id] => validate_identifier(id, path, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.invalid_text(path, "", "the domain must not be empty");
            } else {
                validate_driver_name(domain, path, errors);
            }
            if id.is_empty() {
                errors.invalid_text(path, "", "the name must not be empty");
            } else {
                validate_identifier(id, path, errors);
            }
        }
        _ => {}
    }
}

fn validate_identifier(id: &str, path: &Path<'_>, errors: &mut Errors) {
    const IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
    let bytes = id.as_bytes();
    let first = bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
    if id.len() > MAX_ID_BYTES {
        errors.too_long(path, MAX_ID_BYTES);
    }
    if !first || !bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') {
        errors.invalid_text(path, id, IDENTIFIER);
    }
}

/// The conditions that a device waits for, and those that say that it will not come.
pub(super) fn validate_binding(device: &Value, path: &Path<'_>, errors: &mut Errors) {
    let lists = ["bindingConditions", "bindingFailureConditions"];
    for field in lists {
        let (list, path) = (items(&device[field]), path.field(field));
        if !fits(list, MAX_CONDITIONS, &path, errors) {
            continue;
        }
        for (at, name) in list.iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            for why in names::qualified_name(name) {
                errors.invalid_text(&path.index(at), name, &why);
            }
        }
        refuse_doubles(list.iter().map(|name| name.as_str().unwrap_or_default()), &path, errors);
    }
    let [good, bad] = lists.map(|field| items(&device[field]));
    let place = path.field("bindingFailureConditions");
    for (at, name) in bad.iter().enumerate().filter(|(_, name)| good.contains(name)) {
        let why = "bindingFailureConditions must not overlap with bindingConditions";
        errors.invalid(&place.index(at), name, why);
    }
    match (good.is_empty(), bad.is_empty()) {
        (true, false) => {
            let why = "bindingConditions are required to use bindingFailureConditions";
            errors.null_or_invalid(&path.field("bindingConditions"), &Value::Null, why);
        }
        (false, true) => {
            errors.null_or_invalid(
                &place,
                &Value::Null,
                "bindingFailureConditions are required to use bindingConditions",
            );
        }
        _ => {}
    }
}
