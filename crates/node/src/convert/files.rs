//! A pod's own `/etc/hosts`, and its names.

use k8s_openapi::api::core::v1::{HostAlias, Pod};

/// Longest host name the kernel takes (`HOST_NAME_MAX` is 64 with its end; kubelet cuts at 63).
const MAX_HOSTNAME: usize = 63;

/// The pod's host name and its domain (empty without a subdomain).
pub fn names(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(name) = spec.and_then(|spec| spec.hostname_override.clone()) {
        return (name, String::new());
    }
    let asked = spec.and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let name = asked.unwrap_or_else(|| pod.metadata.name.clone().unwrap_or_default());
    let short: String = name.chars().take(MAX_HOSTNAME).collect();
    let short = short.trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).filter(|name| !name.is_empty());
    let domain = subdomain.map(|sub| format!("{sub}.{namespace}.svc.{cluster_domain}")).unwrap_or_default();
    (short, domain)
}

/// The host name as the UTS namespace has it: with the domain when the pod asks for that.
pub fn uts_name(pod: &Pod, cluster_domain: &str) -> String {
    let (name, domain) = names(pod, cluster_domain);
    let fqdn = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false);
    if fqdn && !domain.is_empty() { format!("{name}.{domain}") } else { name }
}

/// `/etc/hosts` of a pod with its own network.
pub fn hosts(pod: &Pod, ips: &[String], cluster_domain: &str) -> String {
    let (name, domain) = names(pod, cluster_domain);
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        match domain.as_str() {
            "" => text.push_str(&format!("{ip}\t{name}\n")),
            domain => text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n")),
        }
    }
    text.push_str(&aliases(pod));
    text
}

/// `/etc/hosts` of a pod on the host's network: the host's own and the pod's aliases.
pub fn host_hosts(pod: &Pod, host_file: &str) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host_file}{}", aliases(pod))
}

fn aliases(pod: &Pod) -> String {
    let aliases: &[HostAlias] = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let lines: String = aliases
        .iter()
        .map(|alias| format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t")))
        .collect();
    format!("\n# Entries added by HostAliases.\n{lines}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hosts_and_names() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web-0", "namespace": "shop" },
            "spec": { "containers": [], "subdomain": "web", "setHostnameAsFQDN": true,
                "hostAliases": [{ "ip": "1.2.3.4", "hostnames": ["a", "b"] }] },
        }))
        .unwrap();
        assert_eq!(uts_name(&pod, "cluster.local"), "web-0.web.shop.svc.cluster.local");
        let text = hosts(&pod, &["10.42.0.5".to_owned()], "cluster.local");
        assert!(text.contains("10.42.0.5\tweb-0.web.shop.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
