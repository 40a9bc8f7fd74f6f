//! What follows from the flags and the machine: names, addresses and ranges, checked before anything is touched.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Context, bail};
use ipnet::Ipv4Net;

use crate::cli::UpArgs;

/// Pods of this node get a range of this size out of the cluster's.
const NODE_PREFIX: u8 = 24;
/// The service address that is the cluster's DNS, counted from the range's start, as k3s and kubeadm have it.
const DNS_HOST: u32 = 10;
/// Where the DNS server listens on the gateway; the service's port is 53. A port of its own keeps clear of resolvers that
/// hold 53 on every address.
const DNS_PORT: u16 = 10053;

pub struct Settings {
    pub node_name: String,
    pub node_ip: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
    /// The pod network's gateway: this machine as pods see it.
    pub gateway: Ipv4Addr,
    /// The first service address: the API as pods see it.
    pub api_service_ip: Ipv4Addr,
    pub dns_service_ip: Ipv4Addr,
    pub dns_listen: SocketAddr,
    pub api_listen: Vec<SocketAddr>,
    /// What the service `kubernetes` leads to.
    pub api_advertise: SocketAddr,
    /// For the kubeconfig.
    pub api_url: String,
    pub etcd_listen: Option<SocketAddr>,
}

impl Settings {
    pub fn derive(args: &UpArgs) -> anyhow::Result<Self> {
        check_ranges(args)?;
        let pod_cidr = pod_cidr(args.cluster_cidr)?;
        let gateway = address(pod_cidr, 1).context("--cluster-cidr is too small")?;
        let api_service_ip = address(args.service_cidr, 1).context("--service-cidr is too small")?;
        let dns_service_ip = match args.cluster_dns {
            Some(ip) if args.service_cidr.contains(&ip) => ip,
            Some(ip) => bail!("--cluster-dns {ip} is not within --service-cidr {}", args.service_cidr),
            None => address(args.service_cidr, DNS_HOST).context("--service-cidr is too small")?,
        };
        let node_ip = args.node_ip.map_or_else(uplink_address, Ok)?;
        let port = args.https_listen_port;
        let asked = args.bind_address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let mut api_listen: Vec<SocketAddr> = vec![(asked, port).into()];
        // Pods reach the API through their gateway, where there are pods.
        if !args.disable_agent && !asked.is_unspecified() && asked != IpAddr::V4(gateway) {
            api_listen.push((gateway, port).into());
        }
        let advertised = if args.disable_agent { node_ip } else { gateway };
        let local = if asked.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { asked };
        let etcd_listen = match args.etcd_listen_address.as_str() {
            "none" | "" => None,
            text => Some(text.parse().with_context(|| {
                format!("--etcd-listen-address {text:?} is not an address with a port, nor `none`")
            })?),
        };
        Ok(Settings {
            node_name: node_name(args.node_name.as_deref())?,
            node_ip,
            pod_cidr,
            gateway,
            api_service_ip,
            dns_service_ip,
            dns_listen: (gateway, DNS_PORT).into(),
            api_listen,
            api_advertise: (args.advertise_address.unwrap_or(advertised), port).into(),
            api_url: format!("https://{}", SocketAddr::from((local, port))),
            etcd_listen,
        })
    }

    /// The names in the API server's certificate.
    pub fn api_names(&self, args: &UpArgs) -> Vec<String> {
        let mut names: Vec<String> =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
        names.push(format!("kubernetes.default.svc.{}", args.cluster_domain));
        names.push(self.node_name.clone());
        let mut addresses: Vec<IpAddr> =
            vec![Ipv4Addr::LOCALHOST.into(), self.node_ip.into(), self.gateway.into(), self.api_service_ip.into()];
        addresses.extend(args.bind_address.filter(|ip| !ip.is_unspecified()));
        addresses.extend(args.advertise_address.map(IpAddr::from));
        names.extend(addresses.iter().map(IpAddr::to_string));
        names.extend(args.tls_san.iter().cloned());
        names
    }
}

fn check_ranges(args: &UpArgs) -> anyhow::Result<()> {
    let (pods, services) = (args.cluster_cidr, args.service_cidr);
    if pods.contains(&services.network()) || services.contains(&pods.network()) {
        bail!("--cluster-cidr {pods} and --service-cidr {services} overlap");
    }
    if !(12..=24).contains(&services.prefix_len()) {
        bail!("--service-cidr {services}: the prefix must be between /12 and /24");
    }
    Ok(())
}

/// This node's part of the pods' range.
fn pod_cidr(cluster: Ipv4Net) -> anyhow::Result<Ipv4Net> {
    if !(8..=28).contains(&cluster.prefix_len()) {
        bail!("--cluster-cidr {cluster}: the prefix must be between /8 and /28");
    }
    Ok(Ipv4Net::new(cluster.network(), cluster.prefix_len().max(NODE_PREFIX))?)
}

fn address(net: Ipv4Net, host: u32) -> Option<Ipv4Addr> {
    let ip = Ipv4Addr::from(u32::from(net.network()).checked_add(host)?);
    (net.contains(&ip) && ip != net.broadcast()).then_some(ip)
}

fn node_name(given: Option<&str>) -> anyhow::Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => {
            let path = "/proc/sys/kernel/hostname";
            fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?.trim().to_lowercase()
        }
    };
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() || name.len() > 253 || !name.chars().all(ok) || !name.starts_with(edge) || !name.ends_with(edge)
    {
        bail!("{name:?} cannot name a node (a lowercase RFC 1123 subdomain can); give one with --node-name");
    }
    Ok(name)
}

/// The address of the interface with the default route.
fn uplink_address() -> anyhow::Result<Ipv4Addr> {
    let routes = fs::read_to_string("/proc/net/route").context("cannot read /proc/net/route")?;
    let interface = routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| name.to_owned())
    });
    let addresses = nix::ifaddrs::getifaddrs().context("cannot list this machine's addresses")?;
    let mut fallback = None;
    for entry in addresses {
        let Some(ip) = entry.address.and_then(|address| Some(address.as_sockaddr_in()?.ip())) else { continue };
        if interface.as_deref() == Some(entry.interface_name.as_str()) {
            return Ok(ip);
        }
        if !ip.is_loopback() && !entry.interface_name.starts_with("plinth") {
            fallback.get_or_insert(ip);
        }
    }
    // Without any network the cluster still works within the machine.
    Ok(fallback.unwrap_or(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn derive(flags: &[&str]) -> Result<Settings, String> {
        let args = ["plinth", "up", "--node-ip", "192.0.2.7", "--node-name", "a"].iter().chain(flags);
        let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
        let Command::Up(args) = cli.command else { unreachable!() };
        Settings::derive(&args).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn addresses_follow_from_the_ranges() {
        let settings = derive(&[]).unwrap();
        assert_eq!(settings.gateway.to_string(), "10.42.0.1");
        assert_eq!(settings.pod_cidr.to_string(), "10.42.0.0/24");
        assert_eq!(settings.dns_service_ip.to_string(), "10.43.0.10");
        assert!(derive(&["--etcd-listen-address", "none"]).unwrap().etcd_listen.is_none());
    }

    #[test]
    fn the_api_listens_where_it_is_asked_for() {
        let check = |flags: &[&str], listen: &[&str], advertise: &str| {
            let settings = derive(flags).unwrap();
            let found: Vec<String> = settings.api_listen.iter().map(ToString::to_string).collect();
            assert_eq!(found, listen, "{flags:?}");
            assert_eq!(settings.api_advertise.to_string(), advertise, "{flags:?}");
        };
        check(&[], &["127.0.0.1:6443", "10.42.0.1:6443"], "10.42.0.1:6443");
        check(&["--bind-address", "0.0.0.0"], &["0.0.0.0:6443"], "10.42.0.1:6443");
        check(&["--bind-address", "10.42.0.1"], &["10.42.0.1:6443"], "10.42.0.1:6443");
        check(&["--disable-agent"], &["127.0.0.1:6443"], "192.0.2.7:6443");
        check(&["--disable-agent", "--bind-address", "192.0.2.7"], &["192.0.2.7:6443"], "192.0.2.7:6443");
    }

    #[test]
    fn bad_values_are_named() {
        for (flags, expected) in [
            (&["--cluster-dns", "10.9.9.9"][..], "--cluster-dns 10.9.9.9 is not within --service-cidr 10.43.0.0/16"),
            (&["--service-cidr", "10.42.0.0/20"], "overlap"),
            (&["--service-cidr", "10.43.0.0/30"], "--service-cidr 10.43.0.0/30: the prefix"),
            (&["--node-name", "Big_One"], "\"Big_One\" cannot name a node"),
            (&["--etcd-listen-address", "x"], "--etcd-listen-address \"x\" is not an address"),
        ] {
            let error = derive(flags).err().unwrap_or_default();
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }
}
