//! Endpoints (core/v1): the older, single object with all of a Service's addresses, for those who still read it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{endpointslice, meta, pod};

/// Addresses in one object; past it the object is cut, and says so.
pub const CAPACITY: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// A write that makes the object what it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<Endpoints>),
    Update(Box<Endpoints>),
}

/// Compares what `pods` (those that the Service selects) ask for with what is there.
pub fn reconcile(service: &Service, pods: &[Arc<Pod>], existing: Option<&Endpoints>) -> Option<Action> {
    let (subsets, cut) = subsets(service, pods);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    let subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    let Some(existing) = existing else {
        let mut metadata = ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        mark_cut(&mut metadata, cut);
        return Some(Action::Create(Box::new(Endpoints { metadata, subsets })));
    };
    let mut wanted = existing.clone();
    wanted.metadata.labels = Some(labels);
    mark_cut(&mut wanted.metadata, cut);
    wanted.subsets = subsets;
    let same = wanted.metadata == existing.metadata
        && wanted.subsets.as_deref().unwrap_or_default() == existing.subsets.as_deref().unwrap_or_default();
    (!same).then(|| Action::Update(Box::new(wanted)))
}

fn mark_cut(metadata: &mut ObjectMeta, cut: bool) {
    match (cut, &mut metadata.annotations) {
        (true, annotations) => {
            annotations.get_or_insert_default().insert(OVER_CAPACITY.into(), "truncated".into());
        }
        (false, Some(annotations)) => {
            annotations.remove(OVER_CAPACITY);
            metadata.annotations = metadata.annotations.take().filter(|annotations| !annotations.is_empty());
        }
        (false, None) => {}
    }
}

/// One subset for each combination of ports, with addresses in order.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.clone().unwrap_or_default();
    let publish = spec.publish_not_ready_addresses == Some(true);
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let mut listed: Vec<(String, &Arc<Pod>)> = pods
        .iter()
        .filter(|pod| !pod::is_finished(pod) && (publish || !meta::is_deleting(&pod.metadata)))
        .filter_map(|pod| Some((endpointslice::address(pod, "IPv4")?, pod)))
        .collect();
    // The ready ones first, as they are the last to be cut.
    listed.sort_by_cached_key(|(ip, pod)| (!(publish || pod::is_ready(pod)), ip.clone()));
    let cut = listed.len() > CAPACITY;
    for (ip, pod) in listed.into_iter().take(CAPACITY) {
        let ports: Vec<EndpointPort> = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone(),
                    port: endpointslice::target_port(port, pod)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        if ports.is_empty() && spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            continue;
        }
        let subset = groups.entry(format!("{ports:?}")).or_default();
        subset.ports = Some(ports).filter(|ports| !ports.is_empty());
        let pod_spec = pod.spec.clone().unwrap_or_default();
        let in_domain = pod_spec.subdomain.as_deref() == Some(meta::name(&service.metadata));
        let address = EndpointAddress {
            ip,
            hostname: pod_spec.hostname.filter(|_| in_domain),
            node_name: pod_spec.node_name,
            target_ref: Some(endpointslice::target(pod)),
        };
        let ready = publish || pod::is_ready(pod);
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    (groups.into_values().collect(), cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .unwrap()
    }

    fn pod(n: usize, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{n}"), "namespace": "default", "uid": format!("p{n}")},
                "spec": {"nodeName": "n", "containers": []},
                "status": {"podIP": format!("10.42.{}.{}", n / 256, n % 256), "conditions": [
                    {"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn ready_and_not_ready() {
        let Some(Action::Create(made)) = reconcile(&service(), &[pod(2, true), pod(1, false)], None) else {
            panic!("nothing was made")
        };
        let subset = &made.subsets.as_ref().unwrap()[0];
        assert_eq!(subset.addresses.as_ref().unwrap()[0].ip, "10.42.0.2");
        assert_eq!(subset.not_ready_addresses.as_ref().unwrap()[0].ip, "10.42.0.1");
        assert_eq!(subset.ports.as_ref().unwrap()[0].port, 8080);
        assert_eq!(reconcile(&service(), &[pod(1, false), pod(2, true)], Some(&made)), None);
        let Some(Action::Update(emptied)) = reconcile(&service(), &[], Some(&made)) else { panic!("no update") };
        assert_eq!(emptied.subsets, None);
    }

    #[test]
    fn past_its_capacity_the_object_is_cut_and_says_so() {
        let pods: Vec<_> = (0..=CAPACITY).map(|n| pod(n, n % 2 == 0)).collect();
        let Some(Action::Create(made)) = reconcile(&service(), &pods, None) else { panic!("nothing was made") };
        assert_eq!(meta::annotation(&made.metadata, OVER_CAPACITY), Some("truncated"));
        let Some(Action::Update(whole)) = reconcile(&service(), &pods[..2], Some(&made)) else { panic!("no update") };
        assert_eq!(whole.metadata.annotations, None);
    }
}
