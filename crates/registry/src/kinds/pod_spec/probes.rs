//! The rules for probes and lifecycle hooks.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    kinds::common::{validate_choice, validate_non_negative, validate_port, validate_port_or_name},
    value::text,
};

const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// A container's probes and hooks. `grace` is the pod's termination grace period.
pub(super) fn validate(container: &Value, grace: i64, path: &Path<'_>, errors: &mut Errors) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[name];
        if probe.is_object() {
            validate_probe(probe, name, &path.field(name), errors);
        }
    }
    let lifecycle = path.field("lifecycle");
    for hook in ["postStart", "preStop"] {
        let handler = &container["lifecycle"][hook];
        if handler.is_object() {
            validate_handler(handler, &HOOK_HANDLERS, grace, &lifecycle.field(hook), errors);
        }
    }
}

fn validate_probe(probe: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    validate_handler(probe, &PROBE_HANDLERS, 0, path, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        validate_non_negative(&probe[field], &path.field(field), errors);
    }
    if name != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|n| n != 1) {
        errors.invalid(&path.field("successThreshold"), &probe["successThreshold"], "must be 1");
    }
    let grace = &probe["terminationGracePeriodSeconds"];
    if name == "readinessProbe" && !grace.is_null() {
        let why = "must not be set for readinessProbes";
        errors.invalid(&path.field("terminationGracePeriodSeconds"), grace, why);
    } else if grace.as_i64().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(&path.field("terminationGracePeriodSeconds"), grace, "must be greater than 0");
    }
}

fn validate_handler(handler: &Value, known: &[&str], grace: i64, path: &Path<'_>, errors: &mut Errors) {
    let mut given = 0;
    for name in known.iter().filter(|name| handler[**name].is_object()) {
        given += 1;
        let path = path.field(name);
        if given > 1 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        validate_action(name, &handler[*name], grace, &path, errors);
    }
    if given == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn validate_action(name: &str, action: &Value, grace: i64, path: &Path<'_>, errors: &mut Errors) {
    match name {
        "exec" if action["command"].as_array().is_none_or(Vec::is_empty) => {
            errors.required(&path.field("command"), "");
        }
        "httpGet" => {
            if text(action, "path").is_empty() {
                errors.required(&path.field("path"), "");
            }
            validate_port_or_name(&action["port"], &path.field("port"), errors);
            validate_choice(&action["scheme"], &["HTTP", "HTTPS"], &path.field("scheme"), errors);
        }
        "tcpSocket" => validate_port_or_name(&action["port"], &path.field("port"), errors),
        "grpc" => validate_port(&action["port"], &path.field("port"), errors),
        "sleep" => {
            let seconds = action["seconds"].as_i64().unwrap_or(0);
            if seconds < 0 || seconds > grace {
                let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.invalid(path, &seconds.into(), &why);
            }
        }
        _ => {}
    }
}
