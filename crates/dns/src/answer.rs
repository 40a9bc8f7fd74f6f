//! From a question to the records that answer it, or to the decision that somebody else knows. Pure.

use std::net::IpAddr;

use client::Key;
use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
    },
};
use ipnet::IpNet;

use crate::index::{Entry, Index, Port, Target, undashed};

/// CoreDNS's default for cluster names.
pub const TTL: u32 = 5;
/// The version of the DNS specification that the records follow.
const SCHEMA: &str = "1.1.0";

/// What this server is the authority for.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Usually `cluster.local.`
    name: Name,
    /// The address that clients send their queries to, if it is known.
    address: Option<IpAddr>,
    /// Ranges whose reverse names are the cluster's.
    reverse: Vec<IpNet>,
}

/// What to tell the client.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub code: Code,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// The answer ends in a name outside: its addresses are to be added.
    pub chase: Option<Name>,
}

/// The outcomes that an authority has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Code {
    #[default]
    NoError,
    NxDomain,
}

impl From<Code> for ResponseCode {
    fn from(code: Code) -> Self {
        match code {
            Code::NoError => ResponseCode::NoError,
            Code::NxDomain => ResponseCode::NXDomain,
        }
    }
}

/// A name that does not exist.
struct Missing;

type Found = Result<Vec<RData>, Missing>;

impl Zone {
    /// `None` when the name is not a domain name.
    pub fn new(name: &str, address: Option<IpAddr>, reverse: Vec<IpNet>) -> Option<Self> {
        let mut name = Name::from_ascii(name).ok()?.to_lowercase();
        name.set_fqdn(true);
        Some(Zone { name, address, reverse })
    }

    /// The name in the form in which metrics label it.
    pub fn label(&self) -> String {
        self.name.to_ascii()
    }

    /// Whether this server is the authority for `name`.
    pub fn contains(&self, name: &Name) -> bool {
        self.name.zone_of(name) || self.reverse_ip(name).is_some()
    }

    /// Answers a question about a name that the zone contains.
    pub fn answer(&self, index: &Index, name: &Name, kind: RecordType) -> Answer {
        let mut answer = Answer::default();
        let found = match self.reverse_ip(name) {
            Some(ip) => self.reverse(index, ip, kind),
            None => self.forward(index, name, kind, &mut answer),
        };
        match found {
            Ok(records) if records.is_empty() => answer.authorities.push(self.soa_record()),
            Ok(records) => {
                answer.answers = records.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
            }
            Err(Missing) => {
                answer.code = Code::NxDomain;
                answer.authorities.push(self.soa_record());
            }
        }
        answer
    }

    fn forward(&self, index: &Index, name: &Name, kind: RecordType, answer: &mut Answer) -> Found {
        let own = name.iter().count().saturating_sub(self.name.iter().count());
        let labels: Vec<String> =
            name.iter().take(own).map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
        // Read from the right, as the tree of names grows.
        let path: Vec<&str> = labels.iter().rev().map(String::as_str).collect();
        match path.as_slice() {
            [] => Ok(self.apex(kind)),
            ["dns-version"] => Ok(only(kind, RecordType::TXT, RData::TXT(TXT::new(vec![SCHEMA.to_owned()])))),
            ["dns"] | ["svc"] | ["pod"] => Ok(Vec::new()),
            ["dns", "ns"] => {
                Ok(self.address.map(address_data).filter(|d| d.record_type() == kind).into_iter().collect())
            }
            ["svc" | "pod", namespace] => index.has_namespace(namespace).then(Vec::new).ok_or(Missing),
            ["pod", namespace, label] => match undashed(label).filter(|_| index.has_namespace(namespace)) {
                Some(ip) => Ok(addresses([ip], kind)),
                None => Err(Missing),
            },
            ["svc", namespace, service, rest @ ..] => {
                self.service(index, &Key::new(*namespace, *service), rest, kind, answer)
            }
            _ => Err(Missing),
        }
    }

    fn service(&self, index: &Index, key: &Key, rest: &[&str], kind: RecordType, answer: &mut Answer) -> Found {
        match (index.service(key).ok_or(Missing)?, rest) {
            (Entry::External { name }, []) => {
                let target = Name::from_ascii(name).map_err(|_| Missing).map(|mut target| {
                    target.set_fqdn(true);
                    target
                })?;
                if matches!(kind, RecordType::A | RecordType::AAAA) {
                    answer.chase = Some(target.clone());
                }
                Ok(vec![RData::CNAME(CNAME(target))])
            }
            (Entry::ClusterIp { ips, ports }, []) => match kind {
                RecordType::SRV => Ok(self.service_srv(key, ips, ports.iter().collect(), answer)),
                _ => Ok(addresses(ips.iter().copied(), kind)),
            },
            (Entry::ClusterIp { ips, ports }, ["_tcp" | "_udp" | "_sctp", port @ ..]) => {
                let protocol = rest[0].trim_start_matches('_');
                let matching: Vec<&Port> =
                    ports.iter().filter(|p| p.protocol == protocol && selects(port, p)).collect();
                if matching.is_empty() {
                    return Err(Missing);
                }
                match (kind, port) {
                    (RecordType::SRV, [_]) => Ok(self.service_srv(key, ips, matching, answer)),
                    _ => Ok(Vec::new()),
                }
            }
            (Entry::Headless, rest) => self.headless(index, key, rest, kind, answer),
            _ => Err(Missing),
        }
    }

    fn headless(&self, index: &Index, key: &Key, rest: &[&str], kind: RecordType, answer: &mut Answer) -> Found {
        let mut targets = index.targets(key);
        let mut named: Option<(&str, &[&str])> = None;
        match rest {
            [] => {}
            ["_tcp" | "_udp" | "_sctp", port @ ..] if port.len() <= 1 => {
                let protocol = rest[0].trim_start_matches('_');
                targets.retain(|target| target.ports.iter().any(|p| p.protocol == protocol && selects(port, p)));
                named = Some((protocol, port));
            }
            [label] => targets.retain(|target| target.label == *label),
            _ => return Err(Missing),
        }
        if targets.is_empty() {
            return Err(Missing);
        }
        match (kind, named) {
            (RecordType::SRV, None) => Ok(self.target_srv(key, &targets, |_| true, answer)),
            (RecordType::SRV, Some((protocol, port @ [_]))) => {
                Ok(self.target_srv(key, &targets, |p| p.protocol == protocol && selects(port, p), answer))
            }
            (_, Some(_)) => Ok(Vec::new()),
            (_, None) => {
                let mut ips: Vec<IpAddr> = targets.iter().map(|target| target.ip).collect();
                ips.sort();
                ips.dedup();
                Ok(addresses(ips, kind))
            }
        }
    }

    fn service_srv(&self, key: &Key, ips: &[IpAddr], ports: Vec<&Port>, answer: &mut Answer) -> Vec<RData> {
        let Some(name) = self.name_of(key, None) else { return Vec::new() };
        answer.additionals.extend(ips.iter().map(|ip| Record::from_rdata(name.clone(), TTL, address_data(*ip))));
        let weight = weight(ports.len());
        ports.iter().map(|port| RData::SRV(SRV::new(0, weight, port.number, name.clone()))).collect()
    }

    fn target_srv(
        &self,
        key: &Key,
        targets: &[&Target],
        wanted: impl Fn(&Port) -> bool,
        answer: &mut Answer,
    ) -> Vec<RData> {
        let count = targets.iter().flat_map(|target| &target.ports).filter(|port| wanted(port)).count();
        let mut records = Vec::new();
        for target in targets {
            let Some(name) = self.name_of(key, Some(&target.label)) else { continue };
            let ports = target.ports.iter().filter(|port| wanted(port));
            records.extend(ports.map(|port| RData::SRV(SRV::new(0, weight(count), port.number, name.clone()))));
            answer.additionals.push(Record::from_rdata(name, TTL, address_data(target.ip)));
        }
        records
    }

    fn reverse(&self, index: &Index, ip: IpAddr, kind: RecordType) -> Found {
        let names = index.names_of(ip);
        if names.is_empty() {
            return Err(Missing);
        }
        if kind != RecordType::PTR {
            return Ok(Vec::new());
        }
        let names = names.into_iter().filter_map(|(label, service)| self.name_of(service, label));
        Ok(names.map(|name| RData::PTR(PTR(name))).collect())
    }

    /// The address that a reverse name spells, when the cluster owns it.
    fn reverse_ip(&self, name: &Name) -> Option<IpAddr> {
        let last = name.iter().next_back()?;
        if !last.eq_ignore_ascii_case(b"arpa") {
            return None;
        }
        let range = name.parse_arpa_name().ok()?;
        let full = range.prefix_len() == range.max_prefix_len();
        full.then(|| range.addr()).filter(|ip| self.reverse.iter().any(|range| range.contains(ip)))
    }

    fn apex(&self, kind: RecordType) -> Vec<RData> {
        match kind {
            RecordType::SOA => vec![self.soa()],
            RecordType::NS => self.ns_name().map(|name| RData::NS(NS(name))).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn soa_record(&self) -> Record {
        Record::from_rdata(self.name.clone(), TTL, self.soa())
    }

    /// The serial stands still: nobody transfers this zone.
    fn soa(&self) -> RData {
        let primary = self.ns_name().unwrap_or_else(|| self.name.clone());
        let mail = self.name.prepend_label("hostmaster").unwrap_or_else(|_| self.name.clone());
        RData::SOA(SOA::new(primary, mail, 1, 7200, 1800, 86_400, TTL))
    }

    fn ns_name(&self) -> Option<Name> {
        self.name.prepend_label("dns").and_then(|name| name.prepend_label("ns")).ok()
    }

    fn name_of(&self, service: &Key, label: Option<&str>) -> Option<Name> {
        let name = self.name.prepend_label("svc").ok()?;
        let name = name.prepend_label(service.namespace.as_str()).ok()?.prepend_label(service.name.as_str()).ok()?;
        match label {
            Some(label) => name.prepend_label(label).ok(),
            None => Some(name),
        }
    }
}

/// Whether `_name` (or nothing, which selects all) means this port.
fn selects(label: &[&str], port: &Port) -> bool {
    match label {
        [] => true,
        [label] => label.strip_prefix('_') == Some(port.name.as_str()),
        _ => false,
    }
}

/// Targets share 100, as CoreDNS shares it.
fn weight(count: usize) -> u16 {
    (100 / u16::try_from(count).unwrap_or(u16::MAX).max(1)).max(1)
}

fn addresses(ips: impl IntoIterator<Item = IpAddr>, kind: RecordType) -> Vec<RData> {
    ips.into_iter().map(address_data).filter(|data| data.record_type() == kind).collect()
}

fn address_data(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn only(kind: RecordType, of: RecordType, data: RData) -> Vec<RData> {
    if kind == of { vec![data] } else { Vec::new() }
}

#[cfg(test)]
mod tests;
