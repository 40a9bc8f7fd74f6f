//! Questions and answers as data, after the examples of the Kubernetes DNS specification.

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};

use super::*;

fn index() -> Index {
    let mut index = Index::default();
    for namespace in ["default", "kube-system"] {
        index.set_namespace(namespace, true);
    }
    let mut service = |name: &str, spec: Value| {
        let object: Service = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        index.set_service(&Key::new("default", name), Some(&object));
    };
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    service("web", json!({"clusterIP": "10.43.0.9", "ports": ports}));
    service("db", json!({"clusterIP": "None"}));
    service("idle", json!({"clusterIP": "None"}));
    service("out", json!({"type": "ExternalName", "externalName": "www.example.org"}));
    let slice = slice(json!([
        {"addresses": ["10.42.0.2"], "hostname": "db-0"},
        {"addresses": ["10.42.0.3"]},
        {"addresses": ["10.42.0.4"], "conditions": {"ready": false}},
    ]));
    index.set_slice(&Key::new("default", "db-1"), None, Some(&slice));
    index
}

fn slice(endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "pg", "port": 5432}],
    }))
    .unwrap()
}

fn zone() -> Zone {
    let reverse = vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()];
    Zone::new("cluster.local", Some("10.43.0.10".parse().unwrap()), reverse).unwrap()
}

fn show(index: &Index, question: &str) -> String {
    let (kind, name) = question.split_once(' ').unwrap();
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    if !zone().contains(&name) {
        return "elsewhere".to_owned();
    }
    let answer = zone().answer(index, &name, kind.parse().unwrap());
    let records = |list: &[Record]| list.iter().map(|r| r.data.to_string()).collect::<Vec<_>>().join(", ");
    let mut text = match (answer.code, answer.answers.is_empty()) {
        (Code::NxDomain, _) => "nxdomain".to_owned(),
        (_, true) => "nodata".to_owned(),
        _ => records(&answer.answers),
    };
    assert_eq!(answer.answers.is_empty(), answer.authorities.len() == 1, "SOA goes with no answer only");
    if !answer.additionals.is_empty() {
        text += &format!(" + {}", records(&answer.additionals));
    }
    text + &answer.chase.map(|name| format!(" … {name}")).unwrap_or_default()
}

#[test]
fn questions_and_answers() {
    let index = index();
    let mut wrong = Vec::new();
    for (question, expected) in [
        ("A web.default.svc.cluster.local", "10.43.0.9"),
        ("A WEB.Default.svc.CLUSTER.local", "10.43.0.9"),
        ("AAAA web.default.svc.cluster.local", "nodata"),
        ("A nothing.default.svc.cluster.local", "nxdomain"),
        ("A web.elsewhere.svc.cluster.local", "nxdomain"),
        ("A default.svc.cluster.local", "nodata"),
        ("A elsewhere.svc.cluster.local", "nxdomain"),
        ("A svc.cluster.local", "nodata"),
        ("A x.web.default.svc.cluster.local", "nxdomain"),
        ("SRV _http._tcp.web.default.svc.cluster.local", "0 100 80 web.default.svc.cluster.local. + 10.43.0.9"),
        ("SRV _dns._udp.web.default.svc.cluster.local", "0 100 53 web.default.svc.cluster.local. + 10.43.0.9"),
        ("A _http._tcp.web.default.svc.cluster.local", "nodata"),
        ("SRV _tcp.web.default.svc.cluster.local", "nodata"),
        ("SRV _http._udp.web.default.svc.cluster.local", "nxdomain"),
        ("A db.default.svc.cluster.local", "10.42.0.2, 10.42.0.3"),
        ("A db-0.db.default.svc.cluster.local", "10.42.0.2"),
        ("A 10-42-0-3.db.default.svc.cluster.local", "10.42.0.3"),
        ("A 10-42-0-4.db.default.svc.cluster.local", "nxdomain"),
        (
            "SRV _pg._tcp.db.default.svc.cluster.local",
            "0 50 5432 db-0.db.default.svc.cluster.local., 0 50 5432 10-42-0-3.db.default.svc.cluster.local. \
             + 10.42.0.2, 10.42.0.3",
        ),
        ("A idle.default.svc.cluster.local", "nxdomain"),
        ("A out.default.svc.cluster.local", "www.example.org. … www.example.org."),
        ("TXT out.default.svc.cluster.local", "www.example.org."),
        ("A 10-42-0-77.default.pod.cluster.local", "10.42.0.77"),
        ("A 10-42-0-77.elsewhere.pod.cluster.local", "nxdomain"),
        ("A banana.default.pod.cluster.local", "nxdomain"),
        ("PTR 9.0.43.10.in-addr.arpa", "web.default.svc.cluster.local."),
        ("PTR 2.0.42.10.in-addr.arpa", "db-0.db.default.svc.cluster.local."),
        ("PTR 3.0.42.10.in-addr.arpa", "nxdomain"),
        ("PTR 1.2.0.192.in-addr.arpa", "elsewhere"),
        ("A www.example.org", "elsewhere"),
        ("SOA cluster.local", "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"),
        ("NS cluster.local", "ns.dns.cluster.local."),
        ("A ns.dns.cluster.local", "10.43.0.10"),
        ("TXT dns-version.cluster.local", "1.1.0"),
        ("A cluster.local", "nodata"),
    ] {
        let found = show(&index, question);
        if found != expected {
            wrong.push(format!("{question}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_index_follows_changes() {
    let mut index = index();
    let (old, new) = (
        slice(json!([{"addresses": ["10.42.0.2"], "hostname": "db-0"}, {"addresses": ["10.42.0.3"]}])),
        slice(json!([{"addresses": ["10.42.0.9"], "hostname": "db-0"}])),
    );
    index.set_slice(&Key::new("default", "db-1"), Some(&old), Some(&new));
    assert_eq!(show(&index, "A db.default.svc.cluster.local"), "10.42.0.9");
    assert_eq!(show(&index, "PTR 2.0.42.10.in-addr.arpa"), "nxdomain");
    assert_eq!(show(&index, "PTR 9.0.42.10.in-addr.arpa"), "db-0.db.default.svc.cluster.local.");
    index.set_slice(&Key::new("default", "db-1"), Some(&new), None);
    assert_eq!(show(&index, "A db.default.svc.cluster.local"), "nxdomain");
    index.set_service(&Key::new("default", "web"), None);
    assert_eq!(show(&index, "PTR 9.0.43.10.in-addr.arpa"), "nxdomain");
}
