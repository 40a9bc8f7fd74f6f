//! What the cluster's names mean, kept by delta from Services, EndpointSlices and Namespaces. Pure.
//!
//! The records are those of the Kubernetes DNS specification (schema version 1.1.0).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use client::Key;
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};

/// How a slice names its service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The names of a cluster.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: HashSet<String>,
    services: HashMap<Key, Entry>,
    /// The endpoints of each service, by slice.
    slices: HashMap<Key, BTreeMap<String, Vec<Target>>>,
    cluster_ips: HashMap<IpAddr, Key>,
    /// Endpoints with a host name of their own, by address: `<host name>.<service>.<namespace>.svc`.
    hostnames: HashMap<IpAddr, BTreeSet<(Key, String)>>,
}

/// What a service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    ClusterIp { ips: Vec<IpAddr>, ports: Vec<Port> },
    Headless,
    External { name: String },
}

/// A named port, for SRV records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    pub number: u16,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub ip: IpAddr,
    /// Its own label under the service: the pod's host name, or the address with dashes.
    pub label: String,
    pub has_hostname: bool,
    pub ports: Vec<Port>,
}

impl Index {
    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        match exists {
            true => self.namespaces.insert(name.to_owned()),
            false => self.namespaces.remove(name),
        };
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// Sets or (`None`) removes a service.
    pub fn set_service(&mut self, key: &Key, service: Option<&Service>) {
        if let Some(Entry::ClusterIp { ips, .. }) = self.services.remove(key) {
            // The address may have been given to another service in the meantime.
            for ip in ips.iter().filter(|ip| self.cluster_ips.get(ip) == Some(key)).copied().collect::<Vec<_>>() {
                self.cluster_ips.remove(&ip);
            }
        }
        let Some(entry) = service.and_then(entry_of) else { return };
        if let Entry::ClusterIp { ips, .. } = &entry {
            self.cluster_ips.extend(ips.iter().map(|ip| (*ip, key.clone())));
        }
        self.services.insert(key.clone(), entry);
    }

    /// Takes a slice from what it was to what it is.
    pub fn set_slice(&mut self, key: &Key, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>) {
        if let Some(service) = old.and_then(service_of) {
            let slices = self.slices.entry(service.clone()).or_default();
            for target in slices.remove(&key.name).unwrap_or_default() {
                self.forget_hostname(&service, &target);
            }
            if self.slices.get(&service).is_some_and(BTreeMap::is_empty) {
                self.slices.remove(&service);
            }
        }
        let Some((slice, service)) = new.and_then(|slice| Some((slice, service_of(slice)?))) else { return };
        let targets = targets_of(slice);
        for target in targets.iter().filter(|target| target.has_hostname) {
            self.hostnames.entry(target.ip).or_default().insert((service.clone(), target.label.clone()));
        }
        self.slices.entry(service).or_default().insert(key.name.clone(), targets);
    }

    pub fn service(&self, key: &Key) -> Option<&Entry> {
        self.services.get(key)
    }

    /// The endpoints of a service over all slices, each once.
    pub fn targets(&self, key: &Key) -> Vec<&Target> {
        let mut seen = HashSet::new();
        let all = self.slices.get(key).into_iter().flat_map(BTreeMap::values).flatten();
        all.filter(|target| seen.insert((target.ip, &target.label, &target.ports))).collect()
    }

    /// The names that an address has: a service, or endpoints with host names (label and service).
    pub fn names_of(&self, ip: IpAddr) -> Vec<(Option<&str>, &Key)> {
        if let Some(service) = self.cluster_ips.get(&ip) {
            return vec![(None, service)];
        }
        let names = self.hostnames.get(&ip).into_iter().flatten();
        names.map(|(service, label)| (Some(label.as_str()), service)).collect()
    }

    fn forget_hostname(&mut self, service: &Key, target: &Target) {
        // Another slice of the service may still have it, while an endpoint moves between slices.
        let kept = self.slices.get(service).into_iter().flat_map(BTreeMap::values).flatten();
        if kept.into_iter().any(|other| other.ip == target.ip && other.label == target.label) {
            return;
        }
        if let Some(names) = self.hostnames.get_mut(&target.ip) {
            names.remove(&(service.clone(), target.label.clone()));
            if names.is_empty() {
                self.hostnames.remove(&target.ip);
            }
        }
    }
}

fn entry_of(service: &Service) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(Entry::External { name: spec.external_name.clone()? });
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(Entry::Headless);
    }
    let listed = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
    let ips: BTreeSet<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    if ips.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|port| port_of(port.name.as_deref(), port.protocol.as_deref(), port.port)).collect();
    Some(Entry::ClusterIp { ips: ips.into_iter().collect(), ports })
}

fn targets_of(slice: &EndpointSlice) -> Vec<Target> {
    let ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| port_of(port.name.as_deref(), port.protocol.as_deref(), port.port?))
        .collect();
    let mut targets = Vec::new();
    for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
        for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
            targets.push(Target {
                ip,
                label: hostname.map_or_else(|| dashed(ip), str::to_lowercase),
                has_hostname: hostname.is_some(),
                ports: ports.clone(),
            });
        }
    }
    targets
}

/// Not ready ones are published by the endpoints controller as ready where the service asks for them.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(Key::new(slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

fn port_of(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().to_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_lowercase(),
        number: u16::try_from(number).ok()?,
    })
}

/// `10-42-0-5`, as pods are named in the zone `pod`.
pub fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// The address that a label such as `10-42-0-5` spells.
pub fn undashed(label: &str) -> Option<IpAddr> {
    let four = label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    four.or_else(|| label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}
