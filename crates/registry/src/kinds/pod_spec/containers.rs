//! The rules for containers.

use std::collections::HashSet;

use kube_schema::quantity;
use serde_json::Value;

use super::{probes, validate};
use crate::{
    field::{Errors, Path},
    kinds::common::{validate_choice, validate_port},
    names,
    value::{entries, items, text},
};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// All containers of a pod spec. `volumes` are the names that mounts may use.
pub(super) fn validate(spec: &Value, volumes: &HashSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    let list = path.field("containers");
    if items(&spec["containers"]).is_empty() {
        errors.required(&list, "");
    }
    let grace = spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let claims: Vec<&str> = items(&spec["resourceClaims"]).iter().map(|claim| text(claim, "name")).collect();
    let mut seen = HashSet::new();
    let mut host_ports = HashSet::new();
    for (at, container) in items(&spec["containers"]).iter().enumerate() {
        let path = list.index(at);
        validate_container(container, volumes, &claims, &mut seen, &path, errors);
        probes::validate(container, grace, &path, errors);
        validate_host_ports(container, spec["hostNetwork"] == true, &mut host_ports, &path, errors);
    }
    let list = path.field("initContainers");
    for (at, container) in items(&spec["initContainers"]).iter().enumerate() {
        let path = list.index(at);
        validate_container(container, volumes, &claims, &mut seen, &path, errors);
        validate_choice(
            &container["restartPolicy"],
            &["Always", "Never", "OnFailure"],
            &path.field("restartPolicy"),
            errors,
        );
        let sidecar = text(container, "restartPolicy") == "Always";
        if sidecar {
            probes::validate(container, grace, &path, errors);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if !container[field].is_null() {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    errors.forbidden(&path.field(field), why);
                }
            }
        }
    }
    if !items(&spec["ephemeralContainers"]).is_empty() {
        let why = "cannot be set on create";
        errors.forbidden(&path.field("ephemeralContainers"), why);
    }
}

fn validate_container<'c>(
    container: &'c Value,
    volumes: &HashSet<&str>,
    claims: &[&str],
    seen: &mut HashSet<&'c str>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let name = text(container, "name");
    if name.is_empty() {
        errors.required(&path.field("name"), "");
    } else if !seen.insert(name) {
        errors.duplicate(&path.field("name"), &container["name"]);
    } else {
        for why in names::dns_label(name) {
            errors.invalid_text(&path.field("name"), name, &why);
        }
    }
    let image = text(container, "image");
    if image.is_empty() {
        errors.required(&path.field("image"), "");
    } else if image.trim() != image {
        errors.invalid_text(&path.field("image"), image, "must not have leading or trailing whitespace");
    }
    let known = ["Always", "IfNotPresent", "Never"];
    validate_choice(&container["imagePullPolicy"], &known, &path.field("imagePullPolicy"), errors);
    let known = ["File", "FallbackToLogsOnError"];
    validate_choice(&container["terminationMessagePolicy"], &known, &path.field("terminationMessagePolicy"), errors);
    validate_ports(&container["ports"], &path.field("ports"), errors);
    validate_env(&container["env"], &path.field("env"), errors);
    validate_env_from(&container["envFrom"], &path.field("envFrom"), errors);
    validate_mounts(&container["volumeMounts"], volumes, &path.field("volumeMounts"), errors);
    validate_resources(&container["resources"], &path.field("resources"), errors);
    let resources = path.field("resources");
    validate_claims(&container["resources"]["claims"], claims, &resources.field("claims"), errors);
    validate_security(&container["securityContext"], &path.field("securityContext"), errors);
}

fn validate_ports<'p>(ports: &'p Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen: HashSet<&'p str> = HashSet::new();
    for (at, port) in items(ports).iter().enumerate() {
        let path = path.index(at);
        let name = text(port, "name");
        if !name.is_empty() {
            for why in names::port_name(name) {
                errors.invalid_text(&path.field("name"), name, &why);
            }
            if !seen.insert(name) {
                errors.duplicate(&path.field("name"), &port["name"]);
            }
        }
        if port["containerPort"].as_i64().unwrap_or(0) == 0 {
            errors.required(&path.field("containerPort"), "");
        } else {
            validate_port(&port["containerPort"], &path.field("containerPort"), errors);
        }
        if port["hostPort"].as_i64().unwrap_or(0) != 0 {
            validate_port(&port["hostPort"], &path.field("hostPort"), errors);
        }
        if text(port, "protocol").is_empty() {
            errors.required(&path.field("protocol"), "");
        } else {
            validate_choice(&port["protocol"], &PROTOCOLS, &path.field("protocol"), errors);
        }
    }
}

fn validate_host_ports<'p>(
    container: &'p Value,
    host_network: bool,
    taken: &mut HashSet<(&'p str, &'p str, i64)>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let list = path.field("ports");
    for (at, port) in items(&container["ports"]).iter().enumerate() {
        let host = port["hostPort"].as_i64().unwrap_or(0);
        if host == 0 {
            continue;
        }
        let path = list.index(at);
        if host_network && port["containerPort"].as_i64() != Some(host) {
            errors.invalid(
                &path.field("hostPort"),
                &port["hostPort"],
                "must match `containerPort` when `hostNetwork` is true",
            );
        }
        if !taken.insert((text(port, "hostIP"), text(port, "protocol"), host)) {
            let key = format!("{}/{}/{host}", text(port, "protocol"), text(port, "hostIP"));
            errors.duplicate(&path.field("hostPort"), &key.into());
        }
    }
}

fn validate_env(env: &Value, path: &Path<'_>, errors: &mut Errors) {
    const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    for (at, variable) in items(env).iter().enumerate() {
        let path = path.index(at);
        let name = text(variable, "name");
        if name.is_empty() {
            errors.required(&path.field("name"), "");
        } else {
            for why in names::env_name(name) {
                errors.invalid_text(&path.field("name"), name, &why);
            }
        }
        let source = &variable["valueFrom"];
        if !source.is_object() {
            continue;
        }
        let path = path.field("valueFrom");
        if !text(variable, "value").is_empty() {
            errors.invalid(&path, &"".into(), "may not be specified when `value` is not empty");
        }
        match SOURCES.iter().filter(|s| source[**s].is_object()).count() {
            0 => errors.invalid(
                &path,
                &"".into(),
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ),
            1 => validate_env_source(source, &path, errors),
            _ => errors.invalid(&path, &"".into(), "may not have more than one field specified at a time"),
        }
    }
}

fn validate_env_source(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["configMapKeyRef", "secretKeyRef"] {
        let reference = &source[field];
        if reference.is_object() {
            let path = path.field(field);
            if text(reference, "key").is_empty() {
                errors.required(&path.field("key"), "");
            }
        }
    }
    let resource = &source["resourceFieldRef"];
    if resource.is_object() {
        let known = [
            "limits.cpu",
            "limits.ephemeral-storage",
            "limits.memory",
            "requests.cpu",
            "requests.ephemeral-storage",
            "requests.memory",
        ];
        let (path, name) = (path.field("resourceFieldRef"), text(resource, "resource"));
        let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
        if name.is_empty() {
            errors.required(&path.field("resource"), "");
        } else if !known.contains(&name) && !huge {
            errors.not_supported(&path.field("resource"), &name.into(), &known);
        }
    }
    let path_text = text(&source["fieldRef"], "fieldPath");
    if source["fieldRef"].is_object() {
        let path = path.field("fieldRef").to_string() + ".fieldPath";
        const KNOWN: [&str; 9] = [
            "metadata.name",
            "metadata.namespace",
            "metadata.uid",
            "spec.nodeName",
            "spec.serviceAccountName",
            "status.hostIP",
            "status.hostIPs",
            "status.podIP",
            "status.podIPs",
        ];
        let subscript = ["metadata.labels['", "metadata.annotations['"].iter().any(|p| path_text.starts_with(p))
            && path_text.ends_with("']");
        if path_text.is_empty() {
            errors.required(&path, "");
        } else if !KNOWN.contains(&path_text) && !subscript {
            errors.not_supported(&path, &path_text.into(), &KNOWN);
        }
    }
}

fn validate_env_from(sources: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (at, source) in items(sources).iter().enumerate() {
        let path = path.index(at);
        let given = ["configMapRef", "secretRef"].iter().filter(|s| source[**s].is_object()).count();
        if given == 0 {
            errors.invalid(&path, &"".into(), "must specify one of: `configMapRef` or `secretRef`");
        } else if given > 1 {
            errors.invalid(&path, &"".into(), "may not have more than one field specified at a time");
        }
        for field in ["configMapRef", "secretRef"] {
            if source[field].is_object() && text(&source[field], "name").is_empty() {
                errors.required(&path.field(field).field("name"), "");
            }
        }
    }
}

fn validate_mounts(mounts: &Value, volumes: &HashSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    let mut points = HashSet::new();
    for (at, mount) in items(mounts).iter().enumerate() {
        let path = path.index(at);
        let (name, point) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&path.field("name"), "");
        } else if !volumes.contains(name) {
            errors.not_found(&path.field("name"), &mount["name"]);
        }
        if point.is_empty() {
            errors.required(&path.field("mountPath"), "");
        } else if !points.insert(point) {
            errors.invalid_text(&path.field("mountPath"), point, "must be unique");
        }
        for field in ["subPath", "subPathExpr"] {
            let below = text(mount, field);
            if below.starts_with('/') {
                errors.invalid_text(&path.field(field), below, "must be a relative path");
            } else if below.split('/').any(|step| step == "..") {
                errors.invalid_text(&path.field(field), below, "must not contain '..'");
            }
        }
        if !text(mount, "subPath").is_empty() && !text(mount, "subPathExpr").is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&path.field("subPathExpr"), &mount["subPathExpr"], why);
        }
    }
}

fn validate_resources(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let amount = |value: &Value| quantity::parse(value.as_str().unwrap_or_default()).ok();
    for list in ["limits", "requests"] {
        let path = path.field(list);
        for (name, value) in entries(&resources[list]) {
            for why in names::qualified_name(name) {
                errors.invalid_text(&path.key(name), name, &why);
            }
            if amount(value).is_some_and(|q| q.signum() < 0) {
                errors.invalid(&path.key(name), value, "must be greater than or equal to 0");
            }
            let plain = ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
            if !name.contains('/') && !plain {
                errors.invalid_text(&path.key(name), name, "must be a standard resource type or fully qualified");
            }
        }
    }
    for (name, request) in entries(&resources["requests"]) {
        let limit = amount(&resources["limits"][name]);
        if let (Some(limit), Some(wanted)) = (limit, amount(request))
            && wanted > limit
        {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&path.field("requests"), request, &why);
        }
    }
}

/// The claims of the pod that the container uses, whole or one request of each.
fn validate_claims(used: &Value, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = vec![];
    for (at, claim) in items(used).iter().enumerate() {
        let (path, name, request) = (path.index(at), text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let overlaps = |(other, part): &(&str, &str)| {
            *other == name && (part.is_empty() || request.is_empty() || *part == request)
        };
        if seen.iter().any(overlaps) {
            errors.duplicate(&path, &name.into());
        }
        if !request.is_empty() {
            for why in names::dns_label(request) {
                errors.invalid_text(&path.field("request"), request, &why);
            }
        }
        seen.push((name, request));
        if !known.contains(&name) {
            let mut sorted = known.to_vec();
            sorted.sort_unstable();
            let why = match sorted.as_slice() {
                [] => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                names => format!("must be one of the names in pod.spec.resourceClaims: {}", names.join(", ")),
            };
            errors.not_found_among(&path, &name.into(), &why);
        }
    }
}

fn validate_security(context: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup"] {
        validate::validate_id(&context[field], &path.field(field), errors);
    }
    validate::validate_seccomp(&context["seccompProfile"], &path.field("seccompProfile"), errors);
    validate_choice(&context["procMount"], &["Default", "Unmasked"], &path.field("procMount"), errors);
    if context["allowPrivilegeEscalation"] == false && context["privileged"] == true {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.invalid(path, context, why);
    }
}
