//! Service. Its addresses and ports are given out in `allocate`, after what stands here.

mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common;
use crate::{
    Context,
    field::Errors,
    kinds::Strategy,
    names::{self, Rule},
    table::Column,
    value::{copy, default, default_zero, entries, items, items_mut, object_mut, remove, set, text},
};

pub(crate) struct Service;

/// How long a client sticks to its endpoint: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

impl Strategy for Service {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        default(spec, "type", "ClusterIP");
        default(spec, "sessionAffinity", "None");
        if text(spec, "sessionAffinity") == "None" {
            remove(spec, "sessionAffinityConfig");
        } else {
            let client = object_mut(object_mut(spec, "sessionAffinityConfig"), "clientIP");
            default_zero(client, "timeoutSeconds", AFFINITY_SECONDS);
        }
        for port in items_mut(spec, "ports") {
            default(port, "protocol", "TCP");
            if matches!(&port["targetPort"], Value::Null) || port["targetPort"] == 0 || port["targetPort"] == "" {
                copy_port(port);
            }
        }
        let kind = text(spec, "type").to_owned();
        let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer") || !items(&spec["externalIPs"]).is_empty();
        if outside && kind != "ExternalName" {
            default(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind != "ExternalName" {
            default(spec, "internalTrafficPolicy", "Cluster");
            // Whoever writes the endpoints of such a service by hand may choose either family.
            let by_hand = text(spec, "clusterIP") == "None" && entries(&spec["selector"]).next().is_none();
            let families = if by_hand && spec["ipFamilyPolicy"].is_null() && spec["ipFamilies"].is_null() {
                set(spec, "ipFamilyPolicy", "RequireDualStack");
                json!(["IPv4", "IPv6"])
            } else {
                json!(["IPv4"])
            };
            default(spec, "ipFamilyPolicy", "SingleStack");
            default(spec, "ipFamilies", families);
        }
        if kind == "LoadBalancer" {
            default(spec, "allocateLoadBalancerNodePorts", true);
        }
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({"loadBalancer": {}}));
        normalize_cluster_ips(object_mut(object, "spec"), None);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        let (spec, from) = (object_mut(new, "spec"), &old["spec"]);
        normalize_cluster_ips(spec, Some(from));
        drop_what_the_type_lost(spec, from);
        keep_what_was_given(spec, from);
    }

    fn prepare_status(&self, _context: &Context, new: &mut Value, _old: &Value) {
        let balancer = object_mut(object_mut(new, "status"), "loadBalancer");
        for ingress in items_mut(balancer, "ingress") {
            if !text(ingress, "ip").is_empty() {
                default(ingress, "ipMode", "VIP");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate::validate(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate::validate_update(new, old, errors);
    }

    fn name_rule(&self) -> Rule {
        names::dns_label
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Type", "type determines how the Service is exposed."),
                Column::text(
                    "Cluster-IP",
                    "clusterIP is the IP address of the service and is usually assigned randomly.",
                ),
                Column::text(
                    "External-IP",
                    "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.",
                ),
                Column::text("Port(s)", "The list of ports that are exposed by this service."),
                Column::AGE,
                Column::text(
                    "Selector",
                    "Route service traffic to pods with label keys and values matching this selector.",
                )
                .wide(),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let own = items(&spec["clusterIPs"]).first().and_then(Value::as_str).unwrap_or(text(spec, "clusterIP"));
        vec![
            common::name(object),
            text(spec, "type").into(),
            common::or_none(own),
            external_ip(object).into(),
            common::or_none(&ports(spec)),
            common::age(object, now),
            common::map_text(&spec["selector"]).into(),
        ]
    }
}

fn copy_port(port: &mut Value) {
    let number = port["port"].clone();
    set(port, "targetPort", number);
}

fn needs_cluster_ip(spec: &Value) -> bool {
    text(spec, "type") != "ExternalName"
}

fn needs_node_ports(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// Keeps the older field and the first item of the newer list the same, whichever a client sets.
fn normalize_cluster_ips(spec: &mut Value, old: Option<&Value>) {
    let single = text(spec, "clusterIP").to_owned();
    let first = items(&spec["clusterIPs"]).first().and_then(Value::as_str).map(str::to_owned);
    let Some(old) = old else {
        match (single.as_str(), first) {
            ("", Some(first)) => set(spec, "clusterIP", first),
            (_, None) if !single.is_empty() => set(spec, "clusterIPs", json!([single])),
            _ => {}
        }
        return;
    };
    let changed = single != text(old, "clusterIP");
    let list_changed = spec["clusterIPs"] != old["clusterIPs"];
    match (changed, list_changed) {
        (true, false) if single.is_empty() => {
            remove(spec, "clusterIPs");
        }
        (true, false) => set(spec, "clusterIPs", json!([single])),
        (true, true) if !single.is_empty() && first.is_none() => set(spec, "clusterIPs", json!([single])),
        (false, true) => match first {
            Some(first) => set(spec, "clusterIP", first),
            // An old client does not know the list; leaving it out changes nothing.
            None if !single.is_empty() => set(spec, "clusterIPs", json!([single])),
            None => {}
        },
        _ => {}
    }
}

/// Fields that only the old type has, and that the client left as they were, go with the type.
fn drop_what_the_type_lost(spec: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && !needs_cluster_ip(spec) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if spec[field] == old[field] {
                remove(spec, field);
            }
        }
    }
    if needs_node_ports(old) && !needs_node_ports(spec) {
        let same = items(&spec["ports"])
            .iter()
            .all(|port| items(&old["ports"]).iter().any(|from| from["nodePort"] == port["nodePort"]));
        if same {
            for port in items_mut(spec, "ports") {
                remove(port, "nodePort");
            }
        }
    }
    let outside = |spec: &Value| {
        matches!(text(spec, "type"), "NodePort" | "LoadBalancer") || !items(&spec["externalIPs"]).is_empty()
    };
    if outside(old) && !outside(spec) && spec["externalTrafficPolicy"] == old["externalTrafficPolicy"] {
        remove(spec, "externalTrafficPolicy");
    }
    if text(old, "type") == "LoadBalancer" && text(spec, "type") != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"] {
            if spec[field] == old[field] {
                remove(spec, field);
            }
        }
    }
}

/// What the cluster chose stays when a client's PUT leaves it out.
fn keep_what_was_given(spec: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(spec) && text(spec, "clusterIP").is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            copy(spec, old, field);
        }
    }
    if needs_node_ports(old) && needs_node_ports(spec) {
        let used: Vec<Value> = items(&spec["ports"]).iter().map(|port| port["nodePort"].clone()).collect();
        for port in items_mut(spec, "ports") {
            let same = |from: &&Value| from["port"] == port["port"] && from["protocol"] == port["protocol"];
            let given = items(&old["ports"]).iter().find(same).map(|from| from["nodePort"].clone());
            match given {
                Some(number) if port["nodePort"].as_i64().unwrap_or(0) == 0 && !used.contains(&number) => {
                    set(port, "nodePort", number);
                }
                _ => {}
            }
        }
    }
    if text(spec, "type") == "LoadBalancer" && spec["healthCheckNodePort"].as_i64().unwrap_or(0) == 0 {
        copy(spec, old, "healthCheckNodePort");
    }
}

fn external_ip(object: &Value) -> String {
    let spec = &object["spec"];
    let join = |list: Vec<&str>, none: &str| if list.is_empty() { none.to_owned() } else { list.join(",") };
    let own: Vec<&str> = items(&spec["externalIPs"]).iter().filter_map(Value::as_str).collect();
    match text(spec, "type") {
        "ExternalName" => text(spec, "externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = items(&object["status"]["loadBalancer"]["ingress"]).iter();
            let given = ingress.map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") });
            join(given.chain(own).collect(), "<pending>")
        }
        _ => join(own, "<none>"),
    }
}

fn ports(spec: &Value) -> String {
    let show = |port: &Value| {
        let (number, protocol) = (port["port"].as_i64().unwrap_or(0), text(port, "protocol"));
        match port["nodePort"].as_i64().unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    };
    items(&spec["ports"]).iter().map(show).collect::<Vec<_>>().join(",")
}
