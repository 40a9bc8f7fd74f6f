//! What the node says of itself: labels, capacity, addresses, conditions, images.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
        NodeSwapStatus, NodeSystemInfo,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};

use crate::{context::Context, machine_facts::Pressure};

/// Images that are told of: kubelet's `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;
/// The version of Kubernetes that this node speaks, with our own mark.
const KUBELET_VERSION: &str = "v1.36.2+plinth";

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The node's object as it is registered.
pub fn node(context: &Context, pod_cidr: Option<&str>, status: NodeStatus) -> Node {
    let labels = [
        ("kubernetes.io/hostname", context.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    Node {
        metadata: ObjectMeta {
            name: Some(context.node_name.clone()),
            labels: Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: pod_cidr.map(str::to_owned),
            pod_cidrs: pod_cidr.map(|cidr| vec![cidr.to_owned()]),
            provider_id: Some(format!("plinth://{}", context.node_name)),
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}

/// The node's status now; `old` knows since when conditions hold.
pub fn status(
    context: &Context,
    old: Option<&NodeStatus>,
    pressure: Pressure,
    max_pods: u32,
    kubelet_port: u16,
    now: Timestamp,
) -> NodeStatus {
    let capacity = capacity(context, max_pods);
    let mut addresses: Vec<NodeAddress> =
        context.host_ips.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() }).collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: context.node_name.clone() });
    NodeStatus {
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        addresses: Some(addresses),
        conditions: Some(conditions(old, pressure, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: kubelet_port.into() }),
        }),
        node_info: Some(info(context)),
        images: Some(images(context)),
        ..NodeStatus::default()
    }
}

fn capacity(context: &Context, max_pods: u32) -> BTreeMap<String, Quantity> {
    let machine = &context.machine;
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), Quantity(machine.cpus.to_string())),
        ("memory".to_owned(), Quantity(format!("{}Ki", machine.memory_bytes >> 10))),
        ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", machine.disk_bytes >> 10))),
        ("pods".to_owned(), Quantity(max_pods.to_string())),
    ]);
    for (kib, count) in &machine.huge_pages {
        let size = if kib % (1 << 20) == 0 { format!("{}Gi", kib >> 20) } else { format!("{}Mi", kib >> 10) };
        let bytes = kib.saturating_mul(*count) << 10;
        let amount = if bytes == 0 { "0".to_owned() } else { format!("{}Ki", bytes >> 10) };
        capacity.insert(format!("hugepages-{size}"), Quantity(amount));
    }
    capacity
}

fn info(context: &Context) -> NodeSystemInfo {
    let machine = &context.machine;
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!("plinth://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: machine.os_image.clone(),
        swap: Some(NodeSwapStatus { capacity: Some(machine.swap_bytes) }),
        system_uuid: machine.system_uuid.clone(),
    }
}

/// The biggest images by their names.
fn images(context: &Context) -> Vec<ContainerImage> {
    let mut images = context.runtime.images().list();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    images.truncate(MAX_IMAGES);
    images
        .into_iter()
        .map(|image| ContainerImage {
            names: Some(image.digests.into_iter().chain(image.tags).collect()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

fn conditions(old: Option<&NodeStatus>, pressure: Pressure, now: Timestamp) -> Vec<NodeCondition> {
    let old = old.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let condition = |name: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let same = old.iter().find(|known| known.type_ == name && known.status == status);
        NodeCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(second(now))),
            last_transition_time: same
                .and_then(|known| known.last_transition_time.clone())
                .or_else(|| Some(Time(second(now)))),
        }
    };
    let memory = match pressure.memory {
        true => ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        false => ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    };
    let disk = match pressure.disk {
        true => ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        false => ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    };
    vec![
        condition("MemoryPressure", pressure.memory, memory.0, memory.1),
        condition("DiskPressure", pressure.disk, disk.0, disk.1),
        condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
    ]
}

fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Whether nothing differs but the heartbeats.
pub fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let quiet = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    quiet(a) == quiet(b)
}

/// Whether the API shows the node as Ready.
pub fn is_ready(status: Option<&NodeStatus>) -> bool {
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_transition_times() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let old =
            NodeStatus { conditions: Some(conditions(None, Pressure::default(), at(10))), ..NodeStatus::default() };
        let new = NodeStatus {
            conditions: Some(conditions(Some(&old), Pressure { disk: true, memory: false }, at(20))),
            ..NodeStatus::default()
        };
        let since: Vec<i64> = new
            .conditions
            .iter()
            .flatten()
            .map(|condition| condition.last_transition_time.as_ref().unwrap().0.as_second())
            .collect();
        assert_eq!(since, [10, 20, 10, 10]);
        assert!(is_ready(Some(&new)) && !same(&old, &new));
        let later = NodeStatus {
            conditions: Some(conditions(Some(&old), Pressure::default(), at(30))),
            ..NodeStatus::default()
        };
        assert!(same(&old, &later));
    }
}
