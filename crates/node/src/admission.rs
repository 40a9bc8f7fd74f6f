//! Pods that this node refuses to run, whoever has bound them to it.

use k8s_openapi::api::core::v1::Pod;

/// The namespaced kernel parameters that Kubernetes calls safe.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Why the pod is refused: the reason and message of its status.
pub fn refuse(pod: &Pod) -> Option<(String, String)> {
    let spec = pod.spec.as_ref()?;
    let sysctls = spec.security_context.iter().flat_map(|security| security.sysctls.iter().flatten());
    for sysctl in sysctls {
        let name = sysctl.name.replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            return Some(("SysctlForbidden".into(), format!("forbidden sysctl: {name:?} not allowlisted")));
        }
    }
    if let Some(os) = spec.os.as_ref().filter(|os| os.name != "linux") {
        let message = format!("Failed to admit pod as the OS field doesn't match node OS: {}", os.name);
        return Some(("PodOSNotSupported".into(), message));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_safe_sysctls_are_admitted() {
        let check = |name: &str, refused: bool| {
            let pod = json!({ "spec": { "containers": [], "securityContext": {
                "sysctls": [{ "name": name, "value": "1" }] } } });
            assert_eq!(refuse(&serde_json::from_value(pod).unwrap()).is_some(), refused, "{name}");
        };
        check("net.ipv4.ip_unprivileged_port_start", false);
        check("net/ipv4/tcp_syncookies", false);
        check("kernel.msgmax", true);
    }
}
