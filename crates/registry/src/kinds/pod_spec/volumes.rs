//! The rules for volumes.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    kinds::{common::validate_choice, persistentvolumeclaim as claim},
    names,
    value::{items, text},
};

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const MIN_TOKEN_SECONDS: i64 = 600;

/// Checks the volumes of a pod spec and returns their names.
pub(super) fn validate<'v>(volumes: &'v Value, path: &Path<'_>, errors: &mut Errors) -> HashSet<&'v str> {
    let mut seen = HashSet::new();
    for (at, volume) in items(volumes).iter().enumerate() {
        let path = path.index(at);
        let name = text(volume, "name");
        if name.is_empty() {
            errors.required(&path.field("name"), "");
        } else {
            for why in names::dns_label(name) {
                errors.invalid_text(&path.field("name"), name, &why);
            }
            if !seen.insert(name) {
                errors.duplicate(&path.field("name"), &volume["name"]);
            }
        }
        let sources: Vec<&str> = volume
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys())
            .map(String::as_str)
            .filter(|k| *k != "name")
            .collect();
        for (at, source) in sources.iter().enumerate() {
            if at == 0 {
                validate_source(source, &volume[*source], &path.field(source), errors);
            } else {
                errors.forbidden(&path.field(source), "may not specify more than 1 volume type");
            }
        }
    }
    seen
}

fn validate_source(name: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    match name {
        "hostPath" => {
            let place = text(source, "path");
            if place.is_empty() {
                errors.required(&path.field("path"), "");
            } else if place.split('/').any(|step| step == "..") {
                errors.invalid_text(&path.field("path"), place, "must not contain '..'");
            }
            validate_choice(&source["type"], &HOST_PATH_TYPES, &path.field("type"), errors);
        }
        "secret" => {
            if text(source, "secretName").is_empty() {
                errors.required(&path.field("secretName"), "");
            }
            validate_files(source, path, errors);
        }
        "configMap" => {
            if text(source, "name").is_empty() {
                errors.required(&path.field("name"), "");
            }
            validate_files(source, path, errors);
        }
        "persistentVolumeClaim" if text(source, "claimName").is_empty() => {
            errors.required(&path.field("claimName"), "");
        }
        "emptyDir" if text(source, "sizeLimit").starts_with('-') => {
            errors.forbidden(&path.field("sizeLimit"), "SizeLimit field must be a valid resource quantity");
        }
        "ephemeral" => {
            let (template, path) = (&source["volumeClaimTemplate"], path.field("volumeClaimTemplate"));
            if template.is_object() {
                claim::validate_spec(&template["spec"], &path.field("spec"), errors);
            } else {
                errors.required(&path, "");
            }
        }
        "image" if text(source, "reference").is_empty() => errors.required(&path.field("reference"), ""),
        "downwardAPI" => validate_mode(&source["defaultMode"], &path.field("defaultMode"), errors),
        "projected" => {
            validate_mode(&source["defaultMode"], &path.field("defaultMode"), errors);
            let list = path.field("sources");
            for (at, part) in items(&source["sources"]).iter().enumerate() {
                validate_projection(part, &list.index(at), errors);
            }
        }
        _ => {}
    }
}

fn validate_files(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_mode(&source["defaultMode"], &path.field("defaultMode"), errors);
    let list = path.field("items");
    for (at, item) in items(&source["items"]).iter().enumerate() {
        let path = list.index(at);
        if text(item, "key").is_empty() {
            errors.required(&path.field("key"), "");
        }
        validate_relative(text(item, "path"), &path.field("path"), errors);
        validate_mode(&item["mode"], &path.field("mode"), errors);
    }
}

fn validate_relative(target: &str, path: &Path<'_>, errors: &mut Errors) {
    if target.is_empty() {
        errors.required(path, "");
    } else if target.starts_with('/') {
        errors.invalid_text(path, target, "must be a relative path");
    } else if target.split('/').any(|step| step == "..") {
        errors.invalid_text(path, target, "must not contain '..'");
    } else if target.starts_with("..") {
        errors.invalid_text(path, target, "must not start with '..'");
    }
}

fn validate_mode(mode: &Value, path: &Path<'_>, errors: &mut Errors) {
    if mode.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn validate_projection(part: &Value, path: &Path<'_>, errors: &mut Errors) {
    if part.as_object().is_some_and(|sources| sources.len() > 1) {
        errors.forbidden(path, "may not specify more than 1 volume type per source");
    }
    for field in ["secret", "configMap"] {
        if part[field].is_object() {
            let path = path.field(field);
            if text(&part[field], "name").is_empty() {
                errors.required(&path.field("name"), "");
            }
            validate_files(&part[field], &path, errors);
        }
    }
    let token = &part["serviceAccountToken"];
    if token.is_object() {
        let path = path.field("serviceAccountToken");
        if token["expirationSeconds"].as_i64().is_some_and(|s| s < MIN_TOKEN_SECONDS) {
            let why = "may not specify a duration less than 10 minutes";
            errors.invalid(&path.field("expirationSeconds"), &token["expirationSeconds"], why);
        }
        validate_relative(text(token, "path"), &path.field("path"), errors);
    }
}
