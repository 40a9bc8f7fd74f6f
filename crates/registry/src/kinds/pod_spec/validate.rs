//! The rules for a pod spec by itself.

use std::net::IpAddr;

use serde_json::Value;

use super::{containers, placement, volumes};
use crate::{
    field::{Errors, Path},
    kinds::common::validate_choice,
    meta, names,
    value::{items, text},
};

const MAX_DEADLINE_SECONDS: i64 = i32::MAX as i64;
const MAX_HOST_ALIASES: usize = 1024;

/// A workload's `spec.template`.
pub(crate) fn validate_template(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    // Kubernetes leaves `metadata` out of these paths.
    meta::validate_labels(&template["metadata"]["labels"], &path.field("labels"), errors);
    validate_spec(&template["spec"], &path.field("spec"), errors);
}

/// A pod spec.
pub(crate) fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let volume_names = volumes::validate(&spec["volumes"], &path.field("volumes"), errors);
    containers::validate(spec, &volume_names, path, errors);
    let policies = ["Always", "OnFailure", "Never"];
    required_choice(spec, "restartPolicy", &policies, path, errors);
    required_choice(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    meta::validate_labels(&spec["nodeSelector"], &path.field("nodeSelector"), errors);
    validate_names(spec, path, errors);
    if spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| !(1..=MAX_DEADLINE_SECONDS).contains(&s)) {
        let why = format!("must be between 1 and {MAX_DEADLINE_SECONDS}, inclusive");
        errors.invalid(&path.field("activeDeadlineSeconds"), &spec["activeDeadlineSeconds"], &why);
    }
    validate_dns(spec, path, errors);
    validate_security_context(&spec["securityContext"], &path.field("securityContext"), errors);
    placement::validate(spec, path, errors);
    let list = path.field("hostAliases");
    if items(&spec["hostAliases"]).len() > MAX_HOST_ALIASES {
        errors.too_many(&list, items(&spec["hostAliases"]).len(), MAX_HOST_ALIASES);
    }
    for (at, alias) in items(&spec["hostAliases"]).iter().enumerate() {
        validate_ip(&alias["ip"], &list.index(at).field("ip"), errors);
        for (name_at, name) in items(&alias["hostnames"]).iter().enumerate() {
            for why in names::dns_subdomain(name.as_str().unwrap_or_default()) {
                errors.invalid(&list.index(at).field("hostnames").index(name_at), name, &why);
            }
        }
    }
}

fn required_choice(spec: &Value, field: &str, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if text(spec, field).is_empty() {
        errors.required(&path.field(field), "");
    } else {
        validate_choice(&spec[field], known, &path.field(field), errors);
    }
}

fn validate_names(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rules: [(&str, names::Rule); 6] = [
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ];
    for (field, rule) in rules {
        let name = text(spec, field);
        if !name.is_empty() {
            for why in rule(name) {
                errors.invalid_text(&path.field(field), name, &why);
            }
        }
    }
}

fn validate_dns(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let config = &spec["dnsConfig"];
    let path = path.field("dnsConfig");
    if text(spec, "dnsPolicy") == "None" && items(&config["nameservers"]).is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.required(&path.field("nameservers"), why);
    }
    let list = path.field("nameservers");
    if items(&config["nameservers"]).len() > 3 {
        errors.invalid(&list, &config["nameservers"], "must not have more than 3 nameservers");
    }
    for (at, server) in items(&config["nameservers"]).iter().enumerate() {
        validate_ip(server, &list.index(at), errors);
    }
    let list = path.field("options");
    for (at, option) in items(&config["options"]).iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.required(&list.index(at), "must not be empty");
        }
    }
}

fn validate_ip(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let address = value.as_str().unwrap_or_default();
    if address.parse::<IpAddr>().is_err() {
        errors.invalid_text(path, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

fn validate_security_context(context: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        validate_id(&context[field], &path.field(field), errors);
    }
    let groups = path.field("supplementalGroups");
    for (at, group) in items(&context["supplementalGroups"]).iter().enumerate() {
        validate_id(group, &groups.index(at), errors);
    }
    validate_seccomp(&context["seccompProfile"], &path.field("seccompProfile"), errors);
    validate_choice(
        &context["fsGroupChangePolicy"],
        &["OnRootMismatch", "Always"],
        &path.field("fsGroupChangePolicy"),
        errors,
    );
}

/// Users and groups.
pub(super) fn validate_id(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if value.as_i64().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
        errors.invalid(path, value, "must be between 0 and 2147483647, inclusive");
    }
}

/// A seccomp profile names a file if and only if it is a local one.
pub(super) fn validate_seccomp(profile: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !profile.is_object() {
        return;
    }
    let file = text(profile, "localhostProfile");
    match text(profile, "type") {
        "" => errors.required(&path.field("type"), "type is required when seccompProfile is set"),
        "Localhost" if file.is_empty() => {
            errors.required(&path.field("localhostProfile"), "must be set when seccomp type is Localhost");
        }
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" => {
            if !file.is_empty() {
                let why = "can only be set when seccomp type is Localhost";
                errors.invalid_text(&path.field("localhostProfile"), file, why);
            }
        }
        _ => {
            errors.not_supported(&path.field("type"), &profile["type"], &["Localhost", "RuntimeDefault", "Unconfined"]);
        }
    }
}
