//! The environment variables by which a container finds the services of its namespace.

use k8s_openapi::api::core::v1::Service;

/// The variables of `services` for a pod in `namespace`: always those of `default/kubernetes`, and with `links` those
/// of its own namespace. Headless services have none.
pub fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut wanted: Vec<(bool, &Service)> = services
        .filter_map(|service| {
            let meta = &service.metadata;
            let (ns, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
            let master = ns == "default" && name == "kubernetes";
            (master || (links && ns == namespace)).then_some((!master, service))
        })
        .collect();
    wanted.sort_by(|a, b| (a.0, &a.1.metadata.name).cmp(&(b.0, &b.1.metadata.name)));
    wanted.into_iter().flat_map(|(_, service)| of_service(service)).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ip = match spec.cluster_ip.as_deref() {
        Some(ip) if !ip.is_empty() && ip != "None" => ip,
        _ => return Vec::new(),
    };
    let Some(ports) = spec.ports.as_deref().filter(|ports| !ports.is_empty()) else { return Vec::new() };
    let name = upper(service.metadata.name.as_deref().unwrap_or_default());
    let mut all = vec![
        (format!("{name}_SERVICE_HOST"), ip.to_owned()),
        (format!("{name}_SERVICE_PORT"), ports[0].port.to_string()),
    ];
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            all.push((format!("{name}_SERVICE_PORT_{}", upper(port_name)), port.port.to_string()));
        }
    }
    let shown = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{shown}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            all.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        all.push((prefix.clone(), url));
        all.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{prefix}_PORT"), port.port.to_string()));
        all.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    all
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_of_services() {
        let service = |namespace: &str, name: &str, ip: &str| -> Service {
            serde_json::from_value(json!({
                "metadata": { "namespace": namespace, "name": name },
                "spec": { "clusterIP": ip, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] },
            }))
            .unwrap()
        };
        let services = [
            service("shop", "my-web", "10.43.0.9"),
            service("default", "kubernetes", "10.43.0.1"),
            service("other", "db", "10.43.0.7"),
            service("shop", "headless", "None"),
        ];
        let names = |links| -> Vec<String> {
            variables(services.iter(), "shop", links)
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        assert_eq!(names(false).len(), 8);
        assert_eq!(names(false)[0], "KUBERNETES_SERVICE_HOST=10.43.0.1");
        assert_eq!(
            names(true)[8..],
            [
                "MY_WEB_SERVICE_HOST=10.43.0.9",
                "MY_WEB_SERVICE_PORT=80",
                "MY_WEB_SERVICE_PORT_HTTP=80",
                "MY_WEB_PORT=tcp://10.43.0.9:80",
                "MY_WEB_PORT_80_TCP=tcp://10.43.0.9:80",
                "MY_WEB_PORT_80_TCP_PROTO=tcp",
                "MY_WEB_PORT_80_TCP_PORT=80",
                "MY_WEB_PORT_80_TCP_ADDR=10.43.0.9",
            ]
        );
    }
}
