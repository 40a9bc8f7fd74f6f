//! A pod's `/etc/resolv.conf`, by its DNS policy.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

/// Kubernetes' limits; what is past them is left out.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// The lines of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads a resolv.conf.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                Some("search") => resolver.searches = words.map(str::to_owned).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    /// Writes a resolv.conf.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// The pod's resolver: `host` is the node's own, `cluster` the cluster's servers and domain.
pub fn resolver(pod: &Pod, host: &Resolver, servers: &[IpAddr], domain: &str) -> Resolver {
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !host_network,
        _ => false,
    };
    let mut resolver = match policy {
        "None" => Resolver::default(),
        _ if cluster && !servers.is_empty() => {
            let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
            searches.extend(host.searches.iter().cloned());
            Resolver {
                servers: servers.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".into()],
            }
        }
        _ => host.clone(),
    };
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        append_new(&mut resolver.servers, config.nameservers.iter().flatten().cloned());
        append_new(&mut resolver.searches, config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            let text = match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            };
            resolver.options.retain(|known| known.split(':').next() != Some(name));
            resolver.options.push(text);
        }
    }
    resolver.servers.truncate(MAX_SERVERS);
    resolver.searches.truncate(MAX_SEARCHES);
    resolver
}

fn append_new(list: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn policies() {
        let host = Resolver::parse("# comment\nsearch lan\nnameserver 9.9.9.9\noptions edns0\n");
        let check = |spec: Value, expected: &str| {
            let pod = json!({ "metadata": { "namespace": "shop" }, "spec": spec });
            let mut pod: Value = pod;
            pod["spec"]["containers"] = json!([]);
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let servers = ["10.43.0.10".parse().unwrap()];
            assert_eq!(resolver(&pod, &host, &servers, "cluster.local").text(), expected);
        };
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.43.0.10\n";
        check(json!({}), &format!("{cluster}options ndots:5\n"));
        check(json!({ "dnsPolicy": "Default" }), "search lan\nnameserver 9.9.9.9\noptions edns0\n");
        check(json!({ "hostNetwork": true }), "search lan\nnameserver 9.9.9.9\noptions edns0\n");
        check(
            json!({ "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" }),
            &format!("{cluster}options ndots:5\n"),
        );
        check(
            json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": ["1.2.3.4"], "searches": ["x.y"],
                "options": [{ "name": "ndots", "value": "2" }, { "name": "rotate" }] } }),
            "search x.y\nnameserver 1.2.3.4\noptions ndots:2 rotate\n",
        );
        check(
            json!({ "dnsConfig": { "options": [{ "name": "ndots", "value": "1" }] } }),
            &format!("{cluster}options ndots:1\n"),
        );
    }
}
