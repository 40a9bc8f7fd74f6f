//! Which cluster IP and node ports a Service gets: a decision over the ranges and what is in use.
//!
//! Each address and port is a key in the store beside the Service's own; the caller writes all of them in one
//! transaction that fails if a key was taken meanwhile, and then asks again.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use serde_json::{Value, json};

use crate::{
    Status,
    field::{Errors, Path},
    value::{items, object_mut, remove, set, text},
};

/// Keys of cluster IPs: this, then the address.
pub const SERVICE_IP_PREFIX: &str = "/registry/plinth/serviceips/";
/// Keys of node ports: this, then the number.
pub const NODE_PORT_PREFIX: &str = "/registry/plinth/nodeports/";
/// So many candidates are looked at before a range counts as full: more than any range of node ports, and a /12's
/// worth of addresses would mean a million Services.
const MAX_PROBES: u32 = 65_536;

/// What Services are given addresses and ports from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// The first address of the service network.
    pub network: Ipv4Addr,
    /// Its prefix length.
    pub prefix_length: u8,
    /// Node ports.
    pub node_ports: RangeInclusive<u16>,
}

/// Keys to take and to free together with the write of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// Keys that must not exist, and are to be made.
    pub take: Vec<String>,
    /// Keys to be deleted.
    pub free: Vec<String>,
}

impl Ranges {
    fn size(&self) -> u32 {
        u32::MAX.checked_shr(u32::from(self.prefix_length)).unwrap_or(0)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = address.to_bits().wrapping_sub(self.network.to_bits());
        (1..self.size()).contains(&offset)
    }

    fn cidr(&self) -> String {
        format!("{}/{}", self.network, self.prefix_length)
    }
}

/// The keys that a stored Service holds.
pub fn held(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let mut keys = vec![];
    if text(spec, "type") != "ExternalName" {
        let addresses = items(&spec["clusterIPs"]).iter().filter_map(Value::as_str);
        for address in addresses.filter(|a| !a.is_empty() && *a != "None") {
            keys.push(format!("{SERVICE_IP_PREFIX}{address}"));
        }
    }
    let ports = items(&spec["ports"]).iter().map(|port| &port["nodePort"]).chain([&spec["healthCheckNodePort"]]);
    for port in ports.filter_map(Value::as_i64).filter(|port| *port != 0) {
        let key = format!("{NODE_PORT_PREFIX}{port}");
        // One number may serve TCP and UDP of the same Service.
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Gives a prepared Service its addresses and ports. `old` is the Service before an update; `seed` makes the choice
/// random; `in_use` tells whether a key exists.
pub fn allocate_service(
    service: &mut Value,
    old: Option<&Value>,
    ranges: &Ranges,
    seed: u64,
    in_use: &dyn Fn(&str) -> bool,
) -> Result<Reservations, Status> {
    let before = old.map(held).unwrap_or_default();
    let name = text(&service["metadata"], "name").to_owned();
    let mut errors = Errors::default();
    let mut search = Search { ranges, seed, in_use, before: &before, taken: vec![] };
    if text(&service["spec"], "type") == "ExternalName" {
        let spec = object_mut(service, "spec");
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            remove(spec, field);
        }
    } else {
        search.cluster_ip(object_mut(service, "spec"), &mut errors)?;
        search.node_ports(object_mut(service, "spec"), &mut errors)?;
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "Service", &name, errors.into_vec()));
    }
    let after = held(service);
    Ok(Reservations {
        take: after.iter().filter(|key| !before.contains(key)).cloned().collect(),
        free: before.iter().filter(|key| !after.contains(key)).cloned().collect(),
    })
}

struct Search<'a> {
    ranges: &'a Ranges,
    seed: u64,
    in_use: &'a dyn Fn(&str) -> bool,
    /// What the Service holds already.
    before: &'a [String],
    /// What was chosen in this run.
    taken: Vec<String>,
}

impl Search<'_> {
    fn free(&self, key: &str) -> bool {
        let held = self.before.iter().chain(&self.taken).any(|k| k == key);
        !held && !(self.in_use)(key)
    }

    /// The first free offset of `size` from a random start, leaving out the range's first `reserved`.
    fn find(&self, size: u32, reserved: u32, key: impl Fn(u32) -> String) -> Option<u32> {
        let span = size.checked_sub(reserved).filter(|span| *span > 0)?;
        let start = u32::try_from(self.seed % u64::from(span)).ok()?;
        (0..span.min(MAX_PROBES)).map(|step| reserved + (start + step) % span).find(|offset| self.free(&key(*offset)))
    }

    fn cluster_ip(&mut self, spec: &mut Value, errors: &mut Errors) -> Result<(), Status> {
        let path = Path::root("spec");
        let given = match (text(spec, "clusterIP"), items(&spec["clusterIPs"]).first().and_then(Value::as_str)) {
            ("", Some(first)) => first.to_owned(),
            (given, _) => given.to_owned(),
        };
        let address = match given.as_str() {
            "None" => "None".to_owned(),
            "" => self.next_address()?,
            given => {
                let place = path.field("clusterIPs");
                match given.parse::<Ipv4Addr>() {
                    Ok(address) if self.ranges.contains(address) => {
                        let key = format!("{SERVICE_IP_PREFIX}{address}");
                        if !self.before.contains(&key) && (self.in_use)(&key) {
                            let why =
                                "failed to allocate IP ".to_owned() + given + ": provided IP is already allocated";
                            errors.invalid(&place, &json!([given]), &why);
                        }
                    }
                    Ok(_) => {
                        let why = format!(
                            "failed to allocate IP {given}: the provided IP ({given}) is not in the valid range. The range of valid IPs is {}",
                            self.ranges.cidr()
                        );
                        errors.invalid(&place, &json!([given]), &why);
                    }
                    Err(_) => errors.invalid(
                        &place.index(0),
                        &given.into(),
                        "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                    ),
                }
                given.to_owned()
            }
        };
        set(spec, "clusterIPs", json!([address]));
        set(spec, "clusterIP", address);
        Ok(())
    }

    fn next_address(&mut self) -> Result<String, Status> {
        let address = |offset: u32| Ipv4Addr::from_bits(self.ranges.network.to_bits().wrapping_add(offset));
        let size = self.ranges.size();
        // The lower part of the range is left to Services that ask for an address, as in Kubernetes (KEP-3070).
        let reserved = (size / 16).clamp(16, 256).min(size / 2);
        let key = |offset: u32| format!("{SERVICE_IP_PREFIX}{}", address(offset));
        let found = self.find(size, reserved.max(1), key).or_else(|| (1..reserved).find(|o| self.free(&key(*o))));
        let Some(offset) = found else {
            return Err(Status::internal_error("failed to allocate a serviceIP: range is full"));
        };
        self.taken.push(key(offset));
        Ok(address(offset).to_string())
    }

    fn node_ports(&mut self, spec: &mut Value, errors: &mut Errors) -> Result<(), Status> {
        let wanted = match text(spec, "type") {
            "NodePort" => true,
            "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
            _ => false,
        };
        let path = Path::root("spec");
        let local = text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local";
        if local && spec["healthCheckNodePort"].as_i64().unwrap_or(0) == 0 {
            let port = self.next_port()?;
            set(spec, "healthCheckNodePort", port);
        }
        // A number is shared by ports of this Service that differ in protocol only.
        let mut given: Vec<(i64, i64, String)> = vec![];
        let list = path.field("ports");
        let count = items(&spec["ports"]).len();
        for at in 0..count {
            let port = &mut spec["ports"][at];
            let number = port["nodePort"].as_i64().unwrap_or(0);
            let (front, protocol) = (port["port"].as_i64().unwrap_or(0), text(port, "protocol").to_owned());
            let place = list.index(at);
            let place = place.field("nodePort");
            if number != 0 {
                let shared = given.iter().any(|(n, _, p)| *n == number && *p != protocol);
                self.take_port(number, shared, &place, errors);
                given.push((number, front, protocol));
            } else if wanted {
                let twin = given.iter().find(|(_, f, p)| *f == front && *p != protocol).map(|(n, _, _)| *n);
                let number = match twin {
                    Some(number) => number,
                    None => self.next_port()?,
                };
                set(port, "nodePort", number);
                given.push((number, front, protocol));
            }
        }
        Ok(())
    }

    fn take_port(&mut self, number: i64, shared: bool, path: &Path<'_>, errors: &mut Errors) {
        let key = format!("{NODE_PORT_PREFIX}{number}");
        let range = &self.ranges.node_ports;
        if !u16::try_from(number).is_ok_and(|n| range.contains(&n)) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            );
            errors.invalid(path, &number.into(), &why);
        } else if !shared && !self.before.contains(&key) && !self.free(&key) {
            errors.invalid(path, &number.into(), "provided port is already allocated");
        } else {
            self.taken.push(key);
        }
    }

    fn next_port(&mut self) -> Result<i64, Status> {
        let (first, last) = (u32::from(*self.ranges.node_ports.start()), u32::from(*self.ranges.node_ports.end()));
        let key = |offset: u32| format!("{NODE_PORT_PREFIX}{}", first + offset);
        let Some(offset) = self.find((last + 1).saturating_sub(first), 0, key) else {
            return Err(Status::internal_error("failed to allocate a nodePort: range is full"));
        };
        self.taken.push(key(offset));
        Ok(i64::from(first + offset))
    }
}
