//! Services: types, addresses and ports.

use std::{collections::HashSet, net::Ipv4Addr};

use registry::{
    Target,
    allocate::{Ranges, Reservations, allocate_service, held},
};
use serde_json::{Value, json};

use crate::support::{create, update, written};

fn ranges() -> Ranges {
    Ranges { network: Ipv4Addr::new(10, 43, 0, 0), prefix_length: 24, node_ports: 30000..=30003 }
}

fn allocate(service: &mut Value, old: Option<&Value>, used: &HashSet<String>) -> Result<Reservations, String> {
    allocate_service(service, old, &ranges(), 5, &|key| used.contains(key)).map_err(|status| status.message)
}

fn service(spec: Value) -> Value {
    create("services", json!({"metadata": {"name": "s"}, "spec": spec})).unwrap_or_else(|status| panic!("{status}"))
}

#[test]
fn a_cluster_ip_is_chosen_and_reserved() {
    let mut used = HashSet::new();
    let mut first = service(json!({"ports": [{"port": 80}]}));
    let reservations = allocate(&mut first, None, &used).unwrap();
    let ip = first["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(reservations.take, [format!("/registry/plinth/serviceips/{ip}")]);
    assert_eq!(first["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(first["spec"]["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    assert_eq!(first["status"], json!({"loadBalancer": {}}));
    used.extend(reservations.take);
    let mut second = service(json!({"ports": [{"port": 80}]}));
    allocate(&mut second, None, &used).unwrap();
    assert_ne!(second["spec"]["clusterIP"], first["spec"]["clusterIP"]);
    let mut third = service(json!({"clusterIP": ip, "ports": [{"port": 80}]}));
    assert_eq!(
        allocate(&mut third, None, &used).unwrap_err(),
        format!(
            "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: provided IP is already allocated"
        )
    );
}

#[test]
fn a_full_range_is_told() {
    let mut used = HashSet::new();
    for _ in 0..254 {
        let mut object = service(json!({"ports": [{"port": 80}]}));
        let taken = allocate(&mut object, None, &used).unwrap().take;
        assert!(taken.iter().all(|key| used.insert(key.clone())));
    }
    let mut object = service(json!({"ports": [{"port": 80}]}));
    assert_eq!(
        allocate(&mut object, None, &used).unwrap_err(),
        "Internal error occurred: failed to allocate a serviceIP: range is full"
    );
}

#[test]
fn headless_and_external_services_hold_nothing() {
    for spec in [json!({"clusterIP": "None"}), json!({"type": "ExternalName", "externalName": "a.example"})] {
        let mut object = service(spec);
        assert_eq!(allocate(&mut object, None, &HashSet::new()).unwrap(), Reservations::default());
        assert_eq!(held(&object), Vec::<String>::new());
    }
}

#[test]
fn node_ports_come_and_go_with_the_type() {
    let mut object = service(json!({"type": "NodePort", "ports": [
        {"port": 53, "name": "u", "protocol": "UDP"}, {"port": 53, "name": "t"}, {"port": 80, "name": "h", "nodePort": 30003},
    ]}));
    let reservations = allocate(&mut object, None, &HashSet::new()).unwrap();
    let ports: Vec<i64> =
        object["spec"]["ports"].as_array().unwrap().iter().map(|p| p["nodePort"].as_i64().unwrap()).collect();
    assert_eq!(ports[0], ports[1]);
    assert_eq!(ports[2], 30003);
    assert_eq!(reservations.take.len(), 3);
    let used: HashSet<String> = reservations.take.into_iter().collect();

    let mut new = object.clone();
    new["spec"]["type"] = "ClusterIP".into();
    let mut changed = written(update("services", Target::Object, &object, new).unwrap());
    let reservations = allocate(&mut changed, Some(&object), &used).unwrap();
    assert_eq!((reservations.take.len(), reservations.free.len()), (0, 2));
    assert_eq!(changed["spec"]["clusterIP"], object["spec"]["clusterIP"]);
    assert!(changed["spec"].get("externalTrafficPolicy").is_none());

    let mut other = service(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30003}]}));
    assert_eq!(
        allocate(&mut other, None, &used).unwrap_err(),
        "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 30003: provided port is already allocated"
    );
    let mut outside = service(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}));
    assert_eq!(
        allocate(&mut outside, None, &used).unwrap_err(),
        "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30003"
    );
}

#[test]
fn a_put_without_the_address_keeps_it_and_one_with_another_is_refused() {
    let mut object = service(json!({"ports": [{"port": 80}]}));
    allocate(&mut object, None, &HashSet::new()).unwrap();
    let bare = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 81}]}});
    let changed = written(update("services", Target::Object, &object, bare).unwrap());
    assert_eq!(changed["spec"]["clusterIPs"], object["spec"]["clusterIPs"]);
    let mut moved = object.clone();
    moved["spec"]["clusterIP"] = "10.43.0.99".into();
    let message = update("services", Target::Object, &object, moved).unwrap_err().message;
    assert!(
        message.contains("spec.clusterIPs[0]: Invalid value: [\"10.43.0.99\"]: may not change once set"),
        "{message}"
    );
}

#[test]
fn rows_read_as_kubectl_shows_them() {
    let mut object =
        service(json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": 30001}]}));
    object["spec"]["clusterIPs"] = json!(["10.43.0.7"]);
    let cells = crate::support::resource("services").cells(&object, crate::support::context().now);
    assert_eq!(
        cells,
        [
            json!("s"),
            "NodePort".into(),
            "10.43.0.7".into(),
            "<none>".into(),
            "80:30001/TCP".into(),
            "0s".into(),
            "app=web".into()
        ]
    );
}
