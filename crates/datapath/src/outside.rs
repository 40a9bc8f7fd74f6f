//! Packet rules for traffic that crosses the node: pods that reach out, and clients of other hosts that come in by
//! node port or external IP. They stand in an nftables table of our own.
//!
//! A service port has a chain that picks a backend; a map leads to it. A change rewrites the chains and map elements of
//! what changed, in one transaction. The text is made by pure functions; [`run`] hands it to `nft`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, Write as _},
    process::{Command, Stdio},
};

use datapath_abi::{Backend, Frontend};
use ipnet::Ipv4Net;

use crate::plan::{Group, PortId, Scope, address};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`nft` is not installed: apt-get install nftables")]
    NotInstalled,
    #[error("run nft")]
    Run(#[source] io::Error),
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// The rules as they stand.
#[derive(Debug, Default)]
pub struct Rules {
    chains: BTreeMap<PortId, Chain>,
    last_id: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    id: u32,
    frontends: BTreeSet<Frontend>,
    backends: BTreeSet<Backend>,
    affinity_seconds: u32,
}

/// The table without any service: pods reach the outside under the node's address.
pub fn base(table: &str, bridge: &str, pod_cidr: Ipv4Net, cluster_cidr: Ipv4Net) -> String {
    format!(
        "add table ip {table}\ndelete table ip {table}\nadd table ip {table}\n\
         table ip {table} {{\n\
         \tmap frontends {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         \tmap node_ports {{ type inet_proto . inet_service : verdict; }}\n\
         \tchain prerouting {{\n\
         \t\ttype nat hook prerouting priority dstnat; policy accept;\n\
         \t\tip daddr . meta l4proto . th dport vmap @frontends\n\
         \t\tfib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @node_ports\n\
         \t}}\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\tip saddr {pod_cidr} ip daddr != {cluster_cidr} oifname != \"{bridge}\" masquerade\n\
         \t}}\n\
         }}\n"
    )
}

impl Rules {
    /// Takes the changes in and returns the script that makes them, empty when nothing concerns the outside.
    pub fn apply(&mut self, table: &str, changes: &[(PortId, Option<Group>)]) -> String {
        let mut script = String::new();
        for (id, group) in changes.iter().filter(|(id, _)| id.scope == Scope::External) {
            let old = self.chains.get(id).cloned();
            let new = group.as_ref().filter(|group| !group.outside.is_empty()).map(|group| Chain {
                id: old.as_ref().map_or_else(|| self.next_id(), |chain| chain.id),
                frontends: group.frontends.clone(),
                backends: group.outside.clone(),
                affinity_seconds: group.affinity_seconds,
            });
            if old == new {
                continue;
            }
            difference(&mut script, table, old.as_ref(), new.as_ref());
            match new {
                Some(chain) => drop(self.chains.insert(id.clone(), chain)),
                None => drop(self.chains.remove(id)),
            }
        }
        script
    }

    /// The script that writes every chain into an empty table.
    pub fn everything(&self, table: &str) -> String {
        let mut script = String::new();
        for chain in self.chains.values() {
            difference(&mut script, table, None, Some(chain));
        }
        script
    }

    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }
}

fn difference(script: &mut String, table: &str, old: Option<&Chain>, new: Option<&Chain>) {
    let none = BTreeSet::new();
    let frontends = |chain: Option<&Chain>| chain.map_or(&none, |chain| &chain.frontends).clone();
    let (before, after) = (frontends(old), frontends(new));
    for gone in before.difference(&after) {
        let _ = writeln!(script, "delete element ip {table} {}", element(gone, None));
    }
    if let Some(chain) = new {
        let name = chain_name(chain.id);
        let _ = writeln!(script, "add chain ip {table} {name}\nflush chain ip {table} {name}");
        for rule in rules(chain) {
            let _ = writeln!(script, "add rule ip {table} {name} {rule}");
        }
        for added in after.difference(&before) {
            let _ = writeln!(script, "add element ip {table} {}", element(added, Some(&name)));
        }
    } else if let Some(chain) = old {
        let _ = writeln!(script, "delete chain ip {table} {}", chain_name(chain.id));
    }
}

fn chain_name(id: u32) -> String {
    format!("service_{id}")
}

fn element(frontend: &Frontend, chain: Option<&str>) -> String {
    let port = u16::from_be(frontend.port);
    let verdict = chain.map(|chain| format!(" : goto {chain}")).unwrap_or_default();
    match address(frontend.address) {
        ip if ip.is_unspecified() => format!("node_ports {{ {} . {port}{verdict} }}", frontend.protocol),
        ip => format!("frontends {{ {ip} . {} . {port}{verdict} }}", frontend.protocol),
    }
}

/// Picks a backend: by chance, or by the client's address when clients stick. (A change of the set may move clients.)
fn rules(chain: &Chain) -> Vec<String> {
    let protocols: BTreeSet<u16> = chain.frontends.iter().map(|frontend| frontend.protocol).collect();
    let count = chain.backends.len();
    let picker = match chain.affinity_seconds {
        0 => format!("numgen random mod {count}"),
        _ => format!("jhash ip saddr mod {count}"),
    };
    let backends: Vec<String> = chain
        .backends
        .iter()
        .enumerate()
        .map(|(n, backend)| format!("{n} : {} . {}", address(backend.address), u16::from_be(backend.port)))
        .collect();
    let map = backends.join(", ");
    protocols
        .into_iter()
        .map(|protocol| format!("meta l4proto {protocol} dnat ip to {picker} map {{ {map} }}"))
        .collect()
}

/// Runs a script as one transaction. Blocking.
pub fn run(script: &str) -> Result<(), Error> {
    let child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NotInstalled,
        _ => Error::Run(error),
    })?;
    let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    // An early exit of nft shows in its status and message.
    let _ = stdin.write_all(script.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(Error::Run)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Whether the table stands. Blocking.
pub fn present(table: &str) -> bool {
    let mut command = Command::new("nft");
    command.args(["list", "table", "ip", table]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Removes the table. Blocking.
pub fn cleanup(table: &str) -> Result<(), Error> {
    match run(&format!("add table ip {table}\ndelete table ip {table}\n")) {
        Err(Error::NotInstalled) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::plan::{backend, frontend};

    fn group(backends: &[u8]) -> Group {
        let outside: BTreeSet<_> = backends.iter().map(|n| backend(Ipv4Addr::new(10, 42, 0, *n), 8080)).collect();
        Group {
            frontends: [frontend(Ipv4Addr::UNSPECIFIED, 30080, 6), frontend(Ipv4Addr::new(192, 0, 2, 7), 80, 6)].into(),
            backends: outside.clone(),
            outside,
            affinity_seconds: 0,
        }
    }

    #[test]
    fn a_change_touches_its_own_chain_only() {
        let mut rules = Rules::default();
        let id = PortId {
            service: client::Key::new("default", "web"),
            port: String::new(),
            protocol: 6,
            scope: Scope::External,
        };
        let mut step = |group: Option<Group>| rules.apply("t", &[(id.clone(), group)]);
        assert_eq!(step(Some(group(&[]))), "");
        assert_eq!(
            step(Some(group(&[2]))),
            "add chain ip t service_1\nflush chain ip t service_1\n\
             add rule ip t service_1 meta l4proto 6 dnat ip to numgen random mod 1 map { 0 : 10.42.0.2 . 8080 }\n\
             add element ip t node_ports { 6 . 30080 : goto service_1 }\n\
             add element ip t frontends { 192.0.2.7 . 6 . 80 : goto service_1 }\n"
        );
        assert_eq!(step(Some(group(&[2]))), "");
        assert_eq!(
            step(Some(group(&[2, 3]))),
            "add chain ip t service_1\nflush chain ip t service_1\n\
             add rule ip t service_1 meta l4proto 6 dnat ip to numgen random mod 2 \
             map { 0 : 10.42.0.2 . 8080, 1 : 10.42.0.3 . 8080 }\n"
        );
        assert_eq!(
            step(None),
            "delete element ip t node_ports { 6 . 30080 }\ndelete element ip t frontends { 192.0.2.7 . 6 . 80 }\n\
             delete chain ip t service_1\n"
        );
    }
}
