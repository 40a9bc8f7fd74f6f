//! What the maps should hold for a Service and its EndpointSlices. Pure: objects in, groups out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use client::Key;
use datapath_abi::{Backend, Frontend};
use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::{Endpoint, EndpointSlice},
};

/// `timeoutSeconds` where `sessionAffinity: ClientIP` names none.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The frontends that share one set of backends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId {
    pub service: Key,
    /// The service port's name; empty when it has none.
    pub port: String,
    pub protocol: u16,
    pub scope: Scope,
}

/// From where a frontend is meant to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Cluster IPs.
    Internal,
    /// Node ports, external IPs and load balancer addresses.
    External,
}

/// One set of frontends and backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub frontends: BTreeSet<Frontend>,
    /// For clients on this node.
    pub backends: BTreeSet<Backend>,
    /// For clients that arrive from other hosts; the same unless `externalTrafficPolicy: Local` narrows it.
    pub outside: BTreeSet<Backend>,
    /// 0: clients do not stick.
    pub affinity_seconds: u32,
}

pub fn frontend(address: Ipv4Addr, port: u16, protocol: u16) -> Frontend {
    Frontend { address: u32::from_ne_bytes(address.octets()), port: port.to_be(), protocol }
}

pub fn backend(address: Ipv4Addr, port: u16) -> Backend {
    Backend { address: u32::from_ne_bytes(address.octets()), port: port.to_be(), unused: 0 }
}

/// An address of the maps in its usual form.
pub fn address(network_order: u32) -> Ipv4Addr {
    Ipv4Addr::from(network_order.to_ne_bytes())
}

/// The groups of one service. `slices` are the service's own; `node` is the name of this node.
pub fn groups<'a>(
    key: &Key,
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    node: &str,
) -> BTreeMap<PortId, Group> {
    let mut result = BTreeMap::new();
    let Some(spec) = &service.spec else { return result };
    let cluster_ips = cluster_ips(service);
    if cluster_ips.is_empty() {
        return result;
    }
    let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let affinity_seconds = affinity_seconds(service);
    let external_ips = external_ips(service);
    for port in spec.ports.iter().flatten() {
        let Some((number, protocol)) = port_number(port.port).zip(protocol_number(port.protocol.as_deref())) else {
            continue;
        };
        let endpoints = endpoints(port, slices.clone());
        let cluster_wide = choose(&endpoints, None);
        let id = |scope| PortId { service: key.clone(), port: port.name.clone().unwrap_or_default(), protocol, scope };
        let backends =
            if is_local(&spec.internal_traffic_policy) { choose(&endpoints, Some(node)) } else { cluster_wide.clone() };
        let frontends = cluster_ips.iter().map(|ip| frontend(*ip, number, protocol)).collect();
        let outside = BTreeSet::new();
        result.insert(id(Scope::Internal), Group { frontends, backends, outside, affinity_seconds });

        let mut frontends: BTreeSet<_> = external_ips.iter().map(|ip| frontend(*ip, number, protocol)).collect();
        if matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")) {
            let node_port = port.node_port.and_then(port_number);
            frontends.extend(node_port.map(|port| frontend(Ipv4Addr::UNSPECIFIED, port, protocol)));
        }
        if !frontends.is_empty() {
            // A client on the node counts as inside, so the policy for external traffic does not narrow its choice.
            let local = is_local(&spec.external_traffic_policy);
            let outside = if local { choose(&endpoints, Some(node)) } else { cluster_wide.clone() };
            let group = Group { frontends, backends: cluster_wide, outside, affinity_seconds };
            result.insert(id(Scope::External), group);
        }
    }
    result
}

struct Candidate<'a> {
    backend: Backend,
    node: Option<&'a str>,
    ready: bool,
    /// Shutting down, but still answering.
    lingering: bool,
}

/// The endpoints behind a service port, over all slices.
fn endpoints<'a>(port: &ServicePort, slices: impl Iterator<Item = &'a EndpointSlice>) -> Vec<Candidate<'a>> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let mut found = Vec::new();
    for slice in slices.filter(|slice| slice.address_type == "IPv4") {
        let number = slice.ports.iter().flatten().find(|candidate| {
            candidate.name.as_deref().unwrap_or_default() == name
                && candidate.protocol.as_deref().unwrap_or("TCP") == protocol
        });
        let Some(number) = number.and_then(|port| port.port).and_then(port_number) else { continue };
        found.extend(slice.endpoints.iter().flatten().filter_map(|endpoint| candidate(endpoint, number)));
    }
    found
}

fn candidate(endpoint: &Endpoint, port: u16) -> Option<Candidate<'_>> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    // Addresses beyond the first are alternatives for the same endpoint.
    let ip: Ipv4Addr = endpoint.addresses.first()?.parse().ok()?;
    Some(Candidate {
        backend: backend(ip, port),
        node: endpoint.node_name.as_deref(),
        ready,
        lingering: serving && terminating,
    })
}

/// The ready ones; when there is none, those that are terminating and still serve.
fn choose(candidates: &[Candidate<'_>], node: Option<&str>) -> BTreeSet<Backend> {
    let near = || candidates.iter().filter(|candidate| node.is_none() || candidate.node == node);
    let ready: BTreeSet<Backend> = near().filter(|candidate| candidate.ready).map(|c| c.backend).collect();
    if !ready.is_empty() {
        return ready;
    }
    near().filter(|candidate| candidate.lingering).map(|c| c.backend).collect()
}

fn cluster_ips(service: &Service) -> Vec<Ipv4Addr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let first = spec.cluster_ip.iter();
    // "None" and "" do not parse: a headless service has nothing to balance.
    let ips: BTreeSet<Ipv4Addr> =
        first.chain(spec.cluster_ips.iter().flatten()).filter_map(|ip| ip.parse().ok()).collect();
    ips.into_iter().collect()
}

fn external_ips(service: &Service) -> BTreeSet<Ipv4Addr> {
    let spec = service.spec.as_ref();
    let listed = spec.and_then(|spec| spec.external_ips.as_ref()).into_iter().flatten().cloned();
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten()
        // With the mode `Proxy` the balancer wants to see the traffic itself.
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.clone());
    listed.chain(ingress).filter_map(|ip| ip.parse().ok()).collect()
}

fn affinity_seconds(service: &Service) -> u32 {
    let Some(spec) = &service.spec else { return 0 };
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return 0;
    }
    let configured = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    configured
        .and_then(|client_ip| client_ip.timeout_seconds)
        .and_then(|seconds| u32::try_from(seconds).ok())
        .unwrap_or(DEFAULT_AFFINITY_SECONDS)
        .max(1)
}

fn port_number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn protocol_number(protocol: Option<&str>) -> Option<u16> {
    match protocol.unwrap_or("TCP") {
        "TCP" => Some(6),
        "UDP" => Some(17),
        "SCTP" => Some(132),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec})).unwrap()
    }

    fn slice(endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1"}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }))
        .unwrap()
    }

    fn show(group: &Group) -> String {
        let frontends: Vec<_> = group
            .frontends
            .iter()
            .map(|f| format!("{}:{}/{}", address(f.address), u16::from_be(f.port), f.protocol))
            .collect();
        let list = |set: &BTreeSet<Backend>| {
            let mut ends: Vec<_> =
                set.iter().map(|b| format!("{}:{}", address(b.address), u16::from_be(b.port))).collect();
            ends.sort();
            ends.join(",")
        };
        format!(
            "{} -> {} | {} | {}",
            frontends.join(","),
            list(&group.backends),
            list(&group.outside),
            group.affinity_seconds
        )
    }

    fn check(spec: Value, endpoints: Value, expected: &[&str]) {
        let slices = [slice(endpoints)];
        let found = groups(&Key::new("default", "web"), &service(spec), slices.iter(), "here");
        assert_eq!(found.values().map(show).collect::<Vec<_>>(), expected);
    }

    fn cluster_ip() -> Value {
        json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]})
    }

    #[test]
    fn only_ready_endpoints_count() {
        check(
            cluster_ip(),
            json!([
                {"addresses": ["10.42.0.2"]},
                {"addresses": ["10.42.0.3"], "conditions": {"ready": false}},
                {"addresses": ["10.42.0.4"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            ]),
            &["10.43.0.9:80/6 -> 10.42.0.2:8080 |  | 0"],
        );
    }

    #[test]
    fn terminating_ones_serve_when_none_is_ready() {
        check(
            cluster_ip(),
            json!([
                {"addresses": ["10.42.0.3"], "conditions": {"ready": false, "serving": false, "terminating": true}},
                {"addresses": ["10.42.0.4"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            ]),
            &["10.43.0.9:80/6 -> 10.42.0.4:8080 |  | 0"],
        );
    }

    #[test]
    fn node_ports_and_policies() {
        check(
            json!({
                "type": "NodePort", "clusterIP": "10.43.0.9", "externalIPs": ["192.0.2.7"],
                "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
                "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
            }),
            json!([
                {"addresses": ["10.42.0.2"], "nodeName": "here"},
                {"addresses": ["10.42.1.2"], "nodeName": "there"},
            ]),
            &[
                "10.43.0.9:80/6 -> 10.42.0.2:8080,10.42.1.2:8080 |  | 10800",
                "0.0.0.0:30080/6,192.0.2.7:80/6 -> 10.42.0.2:8080,10.42.1.2:8080 | 10.42.0.2:8080 | 10800",
            ],
        );
    }

    #[test]
    fn headless_and_external_names_have_no_frontend() {
        let endpoints = json!([{"addresses": ["10.42.0.2"]}]);
        check(json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}), endpoints.clone(), &[]);
        check(json!({"type": "ExternalName", "externalName": "example.org"}), endpoints, &[]);
    }

    #[test]
    fn a_port_without_its_name_in_the_slice_has_no_backend() {
        check(
            json!({"clusterIP": "10.43.0.9", "ports": [{"name": "metrics", "port": 90}]}),
            json!([{"addresses": ["10.42.0.2"]}]),
            &["10.43.0.9:90/6 ->  |  | 0"],
        );
    }
}
