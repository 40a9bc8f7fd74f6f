//! EndpointSlices: where a Service's pods can be reached, cut into slices so that one change is a small write.
//!
//! Endpoints with the same resolved ports share slices. What stands in a slice stays there: a change rewrites the
//! slices that hold the changed endpoints, and new endpoints go where a rewrite or a free place is anyway.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::{meta, pod, template};

/// Endpoints in one slice.
pub const SLICE_SIZE: usize = 100;
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// A write that makes the slices what they should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Arc<EndpointSlice>),
}

/// Brings `existing`, the Service's slices of this manager, to what `pods` (those that it selects) ask for.
pub fn reconcile(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let mut actions = Vec::new();
    for family in families(service) {
        let desired = desired(service, pods, &family);
        let (same, other): (Vec<_>, Vec<_>) = existing.iter().partition(|slice| slice.address_type == family);
        // A family that the Service no longer has loses its slices below, with the first family's pass.
        drop(other);
        actions.extend(reconcile_family(service, &family, desired, &same));
    }
    let kept = families(service);
    let gone = existing.iter().filter(|slice| !kept.contains(&slice.address_type));
    actions.extend(gone.cloned().map(Action::Delete));
    actions
}

/// Whether endpoints of the Service are this controller's business.
pub fn is_ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|s| !s.is_empty())
}

fn families(service: &Service) -> Vec<String> {
    let spec = service.spec.clone().unwrap_or_default();
    let families = spec.ip_families.filter(|families| !families.is_empty());
    families.unwrap_or_else(|| match spec.cluster_ip.as_deref() {
        Some(ip) if ip.contains(':') => vec!["IPv6".into()],
        _ => vec!["IPv4".into()],
    })
}

type Ports = Vec<EndpointPort>;

/// The endpoints by the ports that they resolve to, in a stable order.
fn desired(service: &Service, pods: &[Arc<Pod>], family: &str) -> Vec<(Ports, Vec<Endpoint>)> {
    let mut groups: BTreeMap<String, (Ports, Vec<Endpoint>)> = BTreeMap::new();
    for pod in pods {
        let Some(address) = address(pod, family).filter(|_| is_endpoint(pod)) else { continue };
        let ports = ports(service, pod);
        let id = format!("{ports:?}");
        groups.entry(id).or_insert_with(|| (ports, Vec::new())).1.push(endpoint(service, pod, address));
    }
    groups.into_values().collect()
}

/// A pod on its way out stays, so that connections can drain; one that has ended does not.
fn is_endpoint(pod: &Pod) -> bool {
    !pod::is_finished(pod)
}

/// The pod's address of a family.
pub fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
    listed.chain(status.pod_ip.clone()).find(|ip| !ip.is_empty() && (family == "IPv6") == ip.contains(':'))
}

fn endpoint(service: &Service, pod: &Pod, address: String) -> Endpoint {
    let spec = pod.spec.clone().unwrap_or_default();
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let (serving, terminating) = (pod::is_ready(pod), meta::is_deleting(&pod.metadata));
    let in_domain = spec.hostname.is_some() && spec.subdomain.as_deref() == Some(meta::name(&service.metadata));
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec.hostname.filter(|_| in_domain),
        node_name: spec.node_name,
        target_ref: Some(target(pod)),
        ..Endpoint::default()
    }
}

/// A reference to a pod as endpoints carry it.
pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The Service's ports as this pod has them; a named port that the pod does not have is left out.
fn ports(service: &Service, pod: &Pod) -> Ports {
    let listed = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let resolved = listed.iter().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(port, pod)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    resolved.collect()
}

/// The number of the port that a Service's port leads to in this pod.
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let spec = pod.spec.as_ref()?;
            // A sidecar is an init container that restarts; its ports serve as well.
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            let mut ports =
                ports.filter(|p| p.protocol.as_deref().unwrap_or("TCP") == protocol && p.name.as_ref() == Some(name));
            ports.next().map(|p| p.container_port)
        }
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    } else {
        labels.remove(HEADLESS_LABEL);
    }
    labels.insert(SERVICE_LABEL.into(), meta::name(&service.metadata).into());
    labels.insert(MANAGED_BY_LABEL.into(), MANAGER.into());
    labels
}

/// What tells an endpoint apart: the pod behind it.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    uid.unwrap_or_else(|| endpoint.addresses.join(","))
}

fn reconcile_family(
    service: &Service,
    family: &str,
    desired: Vec<(Ports, Vec<Endpoint>)>,
    existing: &[&Arc<EndpointSlice>],
) -> Vec<Action> {
    let labels = labels(service);
    let mut unused: Vec<&Arc<EndpointSlice>> = existing.to_vec();
    let mut actions = Vec::new();
    for (ports, endpoints) in desired {
        let (mine, rest): (Vec<_>, Vec<_>) =
            unused.iter().partition(|slice| slice.ports.as_deref().unwrap_or_default() == ports.as_slice());
        unused = rest;
        actions.extend(reconcile_group(service, family, &labels, &ports, endpoints, &mine));
    }
    // A Service without endpoints keeps one empty slice, so that consumers can tell "none" from "not yet".
    let stays = |action: &Action| !matches!(action, Action::Delete(_));
    let used = existing.len() - unused.len();
    if used == 0 && !actions.iter().any(stays) {
        match unused.first() {
            Some(first) => {
                let mut slice = (***first).clone();
                slice.endpoints = Some(Vec::new());
                slice.metadata.labels = Some(labels);
                actions.extend(update(first, slice));
                unused.remove(0);
            }
            None => actions.push(Action::Create(Box::new(new_slice(service, family, &labels, &[], Vec::new())))),
        }
    }
    actions.extend(unused.into_iter().map(|slice| Action::Delete(slice.clone())));
    actions
}

fn reconcile_group(
    service: &Service,
    family: &str,
    labels: &BTreeMap<String, String>,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    slices: &[&Arc<EndpointSlice>],
) -> Vec<Action> {
    let order: Vec<String> = endpoints.iter().map(identity).collect();
    let mut wanted: HashMap<String, Endpoint> = order.iter().cloned().zip(endpoints).collect();
    // First what stays in its place.
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    let mut seen = HashSet::new();
    for slice in slices {
        let present = slice.endpoints.iter().flatten().map(identity);
        let stay = present.filter(|id| seen.insert(id.clone())).filter_map(|id| wanted.remove(&id)).collect();
        kept.push((slice, stay));
    }
    // Then what is new: into slices that are rewritten anyway, then into the fullest with room, then into fresh ones.
    let mut fresh: Vec<Endpoint> = order.iter().filter_map(|id| wanted.remove(id)).collect();
    let changed = |(slice, stay): &(&Arc<EndpointSlice>, Vec<Endpoint>)| {
        slice.endpoints.as_deref().unwrap_or_default() != stay.as_slice()
    };
    kept.sort_by_key(|entry| (!changed(entry), std::cmp::Reverse(entry.1.len())));
    for (_, stay) in &mut kept {
        let room = SLICE_SIZE.saturating_sub(stay.len()).min(fresh.len());
        stay.extend(fresh.drain(..room));
    }
    let mut actions = Vec::new();
    let mut standing = kept.iter().filter(|(_, stay)| !stay.is_empty()).count();
    for (slice, stay) in kept {
        if stay.is_empty() && (standing > 0 || !fresh.is_empty()) {
            actions.push(Action::Delete(slice.clone()));
            continue;
        }
        standing += usize::from(stay.is_empty());
        let mut wanted = (**slice).clone();
        wanted.endpoints = Some(stay);
        wanted.metadata.labels = Some(labels.clone());
        actions.extend(update(slice, wanted));
    }
    while !fresh.is_empty() {
        let chunk: Vec<Endpoint> = fresh.drain(..fresh.len().min(SLICE_SIZE)).collect();
        actions.push(Action::Create(Box::new(new_slice(service, family, labels, ports, chunk))));
    }
    actions
}

fn update(present: &EndpointSlice, wanted: EndpointSlice) -> Option<Action> {
    let same = present.endpoints.as_deref().unwrap_or_default() == wanted.endpoints.as_deref().unwrap_or_default()
        && present.metadata.labels == wanted.metadata.labels;
    (!same).then(|| Action::Update(Box::new(wanted)))
}

fn new_slice(
    service: &Service,
    family: &str,
    labels: &BTreeMap<String, String>,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(template::generate_name(meta::name(&service.metadata))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![meta::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "s"},
            "spec": {"clusterIP": "10.43.0.9", "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
        }))
        .unwrap()
    }

    fn pod(n: usize, ready: bool, port: i32) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{n}"), "namespace": "default", "uid": format!("p{n}")},
                "spec": {"nodeName": "n", "containers": [
                    {"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": format!("10.42.{}.{}", n / 256, n % 256), "conditions": [
                    {"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    /// Carries the actions out; created slices get the next free name.
    fn apply(slices: &mut Vec<Arc<EndpointSlice>>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Create(mut slice) => {
                    slice.metadata.name = (0..)
                        .map(|n| format!("web-{n}"))
                        .find(|name| slices.iter().all(|s| s.metadata.name.as_ref() != Some(name)));
                    slices.push(Arc::new(*slice));
                }
                Action::Update(slice) => {
                    let at = slices.iter().position(|s| s.metadata.name == slice.metadata.name).unwrap();
                    slices[at] = Arc::new(*slice);
                }
                Action::Delete(slice) => slices.retain(|s| s.metadata.name != slice.metadata.name),
            }
        }
    }

    #[test]
    fn one_slice_with_resolved_ports_and_conditions() {
        let mut slices = Vec::new();
        apply(&mut slices, reconcile(&service(), &[pod(1, true, 8080), pod(2, false, 8080)], &[]));
        assert_eq!(slices.len(), 1);
        let slice = &slices[0];
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
        let ready: Vec<_> = slice.endpoints.iter().flatten().map(|e| e.conditions.clone().unwrap().ready).collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        assert_eq!(meta::label(&slice.metadata, SERVICE_LABEL), Some("web"));
        assert!(reconcile(&service(), &[pod(1, true, 8080), pod(2, false, 8080)], &slices).is_empty());
    }

    #[test]
    fn publishing_not_ready_addresses_makes_all_ready() {
        let mut service = service();
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
        let mut slices = Vec::new();
        apply(&mut slices, reconcile(&service, &[pod(1, false, 80)], &[]));
        let endpoint = &slices[0].endpoints.as_ref().unwrap()[0];
        assert_eq!(endpoint.conditions.as_ref().unwrap().ready, Some(true));
        assert_eq!(endpoint.conditions.as_ref().unwrap().serving, Some(false));
    }

    #[test]
    fn pods_that_resolve_a_name_differently_get_slices_of_their_own() {
        let mut slices = Vec::new();
        apply(&mut slices, reconcile(&service(), &[pod(1, true, 8080), pod(2, true, 9090)], &[]));
        assert_eq!(slices.len(), 2);
    }

    #[test]
    fn no_pods_leave_one_empty_slice() {
        let mut slices = Vec::new();
        apply(&mut slices, reconcile(&service(), &[pod(1, true, 8080)], &[]));
        let next = reconcile(&service(), &[], &slices);
        apply(&mut slices, next);
        assert_eq!((slices.len(), slices[0].endpoints.as_deref()), (1, Some([].as_slice())));
        assert!(reconcile(&service(), &[], &slices).is_empty());
        let mut slices = Vec::new();
        apply(&mut slices, reconcile(&service(), &[], &[]));
        assert_eq!(slices.len(), 1);
        let next = reconcile(&service(), &[pod(1, true, 8080)], &slices);
        apply(&mut slices, next);
        assert_eq!(slices.len(), 1);
    }

    #[test]
    fn one_change_rewrites_one_slice() {
        let mut pods: Vec<_> = (0..250).map(|n| pod(n, true, 80)).collect();
        let mut slices = Vec::new();
        apply(&mut slices, reconcile(&service(), &pods, &[]));
        assert_eq!(slices.len(), 3);
        pods[120] = pod(120, false, 80);
        let actions = reconcile(&service(), &pods, &slices);
        assert!(matches!(actions.as_slice(), [Action::Update(_)]), "{actions:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        /// After any sequence of pod sets the slices hold exactly the last one, none is overfull, and a second look
        /// finds nothing to do.
        #[test]
        fn slices_follow_the_pods(rounds in proptest::collection::vec(
            proptest::collection::btree_set((0..260usize, any::<bool>()), 0..240), 1..5)) {
            let mut slices: Vec<Arc<EndpointSlice>> = Vec::new();
            for round in rounds {
                let ids: BTreeMap<usize, bool> = round.into_iter().collect();
                let pods: Vec<_> = ids.iter().map(|(n, ready)| pod(*n, *ready, 80)).collect();
                let actions = reconcile(&service(), &pods, &slices);
                apply(&mut slices, actions);
                let held: BTreeMap<String, Option<bool>> = slices.iter().flat_map(|s| s.endpoints.iter().flatten())
                    .map(|e| (identity(e), e.conditions.as_ref().unwrap().ready)).collect();
                let expected: BTreeMap<String, Option<bool>> =
                    ids.iter().map(|(n, ready)| (format!("p{n}"), Some(*ready))).collect();
                prop_assert_eq!(held, expected);
                prop_assert!(slices.iter().all(|s| s.endpoints.as_ref().unwrap().len() <= SLICE_SIZE));
                prop_assert!(reconcile(&service(), &pods, &slices).is_empty());
            }
        }
    }
}
