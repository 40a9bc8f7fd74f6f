//! The rules for a Service.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    kinds::common::{validate_choice, validate_port, validate_port_or_name},
    meta, names,
    value::{entries, items, text},
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MAX_AFFINITY_SECONDS: i64 = 86_400;

/// A Service by itself. Whether its addresses are free is `allocate`'s to say.
pub(super) fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::root("spec"));
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == "None";
    validate_choice(&spec["type"], &TYPES, &path.field("type"), errors);
    if items(&spec["ports"]).is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path.field("ports"), "");
    }
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        let why = format!("may not be set to 'None' for {kind} services");
        errors.invalid_text(&path.field("clusterIPs").index(0), "None", &why);
    }
    if kind == "ExternalName" {
        validate_external_name(spec, &path, errors);
    }
    validate_ports(spec, &path.field("ports"), errors);
    meta::validate_labels(&spec["selector"], &path.field("selector"), errors);
    validate_affinity(spec, &path, errors);
    let known = ["Cluster", "Local"];
    validate_choice(&spec["internalTrafficPolicy"], &known, &path.field("internalTrafficPolicy"), errors);
    validate_choice(&spec["externalTrafficPolicy"], &known, &path.field("externalTrafficPolicy"), errors);
    let reachable = matches!(kind, "NodePort" | "LoadBalancer") || !items(&spec["externalIPs"]).is_empty();
    if !text(spec, "externalTrafficPolicy").is_empty() && !reachable {
        let why = "may only be set for externally-accessible services";
        errors.invalid(&path.field("externalTrafficPolicy"), &spec["externalTrafficPolicy"], why);
    }
    validate_families(spec, &path, errors);
    validate_balancer(spec, &path, errors);
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    validate_choice(&spec["trafficDistribution"], &distributions, &path.field("trafficDistribution"), errors);
    let list = path.field("externalIPs");
    for (at, address) in items(&spec["externalIPs"]).iter().enumerate() {
        if address.as_str().unwrap_or_default().parse::<std::net::IpAddr>().is_err() {
            errors.invalid(&list.index(at), address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        }
    }
}

fn validate_external_name(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = text(spec, "externalName");
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.is_empty() {
        errors.required(&path.field("externalName"), "");
    } else {
        for why in names::dns_subdomain(bare) {
            errors.invalid_text(&path.field("externalName"), bare, &why);
        }
    }
    if !items(&spec["clusterIPs"]).is_empty() || !text(spec, "clusterIP").is_empty() {
        errors.forbidden(&path.field("clusterIPs"), "may not be set for ExternalName services");
    }
}

fn validate_ports(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let ports = items(&spec["ports"]);
    let mut seen_names = HashSet::new();
    let mut seen_ports = HashSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = path.index(at);
        let name = text(port, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                errors.required(&path.field("name"), "");
            }
        } else {
            for why in names::dns_label(name) {
                errors.invalid_text(&path.field("name"), name, &why);
            }
            if !seen_names.insert(name) {
                errors.duplicate(&path.field("name"), &port["name"]);
            }
        }
        validate_port(&port["port"], &path.field("port"), errors);
        validate_choice(&port["protocol"], &PROTOCOLS, &path.field("protocol"), errors);
        validate_port_or_name(&port["targetPort"], &path.field("targetPort"), errors);
        if !seen_ports.insert((port["port"].as_i64(), text(port, "protocol"))) {
            errors.duplicate(&path, port);
        }
        let takes_node_ports = matches!(text(spec, "type"), "NodePort" | "LoadBalancer");
        if port["nodePort"].as_i64().unwrap_or(0) != 0 && !takes_node_ports {
            let why = format!("may not be used when `type` is '{}'", text(spec, "type"));
            errors.forbidden(&path.field("nodePort"), &why);
        }
    }
}

fn validate_affinity(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_choice(&spec["sessionAffinity"], &["ClientIP", "None"], &path.field("sessionAffinity"), errors);
    let timeout = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if timeout.as_i64().is_some_and(|seconds| !(1..=MAX_AFFINITY_SECONDS).contains(&seconds)) {
        let config = path.field("sessionAffinityConfig");
        let client = config.field("clientIP");
        let why = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
        errors.invalid(&client.field("timeoutSeconds"), timeout, &why);
    }
}

/// What only a load balancer has.
fn validate_balancer(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let balanced = text(spec, "type") == "LoadBalancer";
    if !balanced {
        let why = "may only be used when `type` is 'LoadBalancer'";
        if !items(&spec["loadBalancerSourceRanges"]).is_empty() {
            errors.forbidden(&path.field("LoadBalancerSourceRanges"), why);
        }
        for field in ["loadBalancerClass", "allocateLoadBalancerNodePorts"] {
            if !spec[field].is_null() {
                errors.forbidden(&path.field(field), why);
            }
        }
    }
    let port = &spec["healthCheckNodePort"];
    if port.as_i64().unwrap_or(0) != 0 && !(balanced && text(spec, "externalTrafficPolicy") == "Local") {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&path.field("healthCheckNodePort"), port, why);
    }
    let ranges = path.field("LoadBalancerSourceRanges");
    for (at, range) in items(&spec["loadBalancerSourceRanges"]).iter().enumerate() {
        let text = range.as_str().unwrap_or_default().trim();
        let address = text.split_once('/').and_then(|(address, length)| {
            let most = if address.parse::<std::net::IpAddr>().ok()?.is_ipv4() { 32 } else { 128 };
            length.parse::<u8>().ok().filter(|length| *length <= most)
        });
        if address.is_none() {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.invalid(&ranges.index(at), range, why);
        }
    }
}

fn validate_families(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    validate_choice(&spec["ipFamilyPolicy"], &known, &path.field("ipFamilyPolicy"), errors);
    // Addresses of this cluster are of one family, but who writes endpoints by hand is not bound to it.
    if text(spec, "clusterIP") == "None" && entries(&spec["selector"]).next().is_none() {
        return;
    }
    if text(spec, "ipFamilyPolicy") == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.invalid(&path.field("ipFamilyPolicy"), &spec["ipFamilyPolicy"], why);
    }
    let list = path.field("ipFamilies");
    for (at, family) in items(&spec["ipFamilies"]).iter().enumerate() {
        match family.as_str() {
            Some("IPv4") => {}
            Some("IPv6") => {
                errors.invalid(&list.index(at), family, "not configured on this cluster");
            }
            _ => errors.not_supported(&list.index(at), family, &["IPv4", "IPv6"]),
        }
    }
    let (single, first) = (text(spec, "clusterIP"), items(&spec["clusterIPs"]).first().and_then(Value::as_str));
    if first.is_some_and(|first| first != single) {
        errors.invalid(&path.field("clusterIPs"), &spec["clusterIPs"], "first value must match `clusterIP`");
    }
}

/// A change of a Service.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (to, from) = (&new["spec"], &old["spec"]);
    let path = Path::root("spec");
    let stays = text(from, "type") != "ExternalName" && text(to, "type") != "ExternalName";
    let before = items(&from["clusterIPs"]).first();
    if stays && before.is_some() && items(&to["clusterIPs"]).first() != before {
        errors.invalid(&path.field("clusterIPs").index(0), &to["clusterIPs"], "may not change once set");
    }
    if text(to, "type") == "LoadBalancer" && text(from, "type") == "LoadBalancer" {
        let (class, before) = (&to["loadBalancerClass"], &from["loadBalancerClass"]);
        if class != before {
            errors.invalid(&path.field("loadBalancerClass"), class, "may not change once set");
        }
    }
}
