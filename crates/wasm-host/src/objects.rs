//! Pods and nodes as guests get them: the protobuf of k8s.io/api/core/v1, with the fields that the engine keeps.
//!
//! | of a pod | |
//! |---|---|
//! | `metadata` | `name`, `namespace`, `uid`, `generation`, `labels` |
//! | `spec` | `nodeName`, `schedulerName`, `priority`, `preemptionPolicy`, `nodeSelector`, `affinity.nodeAffinity`, `tolerations`, `schedulingGates`, `resources.requests` (of all containers together), `containers` (one for each image, with a name of its own; the first has the host ports), `volumes` (claims) |
//! | `status` | `nominatedNodeName` |
//!
//! | of a node | |
//! |---|---|
//! | `metadata` | `name`, `labels` |
//! | `spec` | `unschedulable`, `taints` |
//! | `status` | `allocatable`, `images` |

mod wire;

use std::collections::BTreeMap;

use kube_schema::quantity::{Format, Quantity};
use prost::Message;
use sched::{
    Field, Node, Operator, Pod, Requirement, Resources, TaintEffect, Term, TolerationOperator, labels::Labels,
    pod::Volume,
};

/// A pod. Without `identity`, what tells it from its like is left out.
pub(crate) fn pod(pod: &Pod, identity: bool) -> Vec<u8> {
    let own = |text: &str| identity.then(|| text.to_owned());
    let metadata = wire::Meta {
        name: own(&pod.name),
        namespace: Some(pod.namespace.to_string()),
        uid: own(&pod.uid),
        generation: pod.generation.filter(|_| identity),
        labels: map(&pod.labels),
    };
    let spec = pod_spec(pod);
    let nominated = pod.nominated.as_deref().filter(|_| identity).map(str::to_owned);
    let status = wire::PodStatus { nominated };
    wire::Pod { metadata: Some(metadata), spec: Some(spec), status: Some(status) }.encode_to_vec()
}

fn pod_spec(pod: &Pod) -> wire::PodSpec {
    let spec = &pod.spec;
    let tolerations = spec.tolerations.iter().map(|toleration| wire::Toleration {
        key: filled(&toleration.key),
        operator: Some(toleration_operator(toleration.operator).to_owned()),
        value: filled(&toleration.value),
        effect: toleration.effect.map(|effect| effect_text(effect).to_owned()),
    });
    let gates = spec.scheduling_gates.iter().map(|gate| wire::Gate { name: Some(gate.to_string()) });
    let requests = wire::Requirements { requests: amounts(&spec.requests) };
    wire::PodSpec {
        volumes: spec.volumes.iter().filter_map(claim).collect(),
        containers: containers(pod),
        node_selector: map(&spec.node_selector),
        node_name: pod.node_name.as_deref().map(str::to_owned),
        affinity: affinity(pod),
        scheduler_name: Some(spec.scheduler_name.to_string()),
        tolerations: tolerations.collect(),
        priority: Some(spec.priority),
        preemption_policy: spec.never_preempts.then(|| "Never".to_owned()),
        gates: gates.collect(),
        resources: (!requests.requests.is_empty()).then_some(requests),
    }
}

fn containers(pod: &Pod) -> Vec<wire::Container> {
    let ports = pod.spec.host_ports.iter().map(|port| wire::Port {
        host_port: Some(port.port.into()),
        container_port: Some(port.port.into()),
        protocol: Some(port.protocol.to_string()),
        host_ip: filled(&port.ip),
    });
    let images = pod.spec.images.iter().enumerate().map(|(number, image)| wire::Container {
        name: Some(format!("container-{number}")),
        image: Some(image.to_string()),
        ports: Vec::new(),
    });
    let mut containers: Vec<_> = images.collect();
    if let Some(first) = containers.first_mut() {
        first.ports = ports.collect();
    }
    containers
}

fn affinity(pod: &Pod) -> Option<wire::Affinity> {
    let spec = &pod.spec;
    if spec.required_affinity.is_none() && spec.preferred_affinity.is_empty() {
        return None;
    }
    let required = spec.required_affinity.as_ref();
    let preferred = spec.preferred_affinity.iter();
    let preferred = preferred
        .map(|preferred| wire::Preferred { weight: Some(preferred.weight), preference: Some(term(&preferred.term)) });
    let node = wire::NodeAffinity {
        required: required.map(|terms| wire::Selector { terms: terms.iter().map(term).collect() }),
        preferred: preferred.collect(),
    };
    Some(wire::Affinity { node: Some(node) })
}

fn term(term: &Term) -> wire::SelectorTerm {
    let mut wire = wire::SelectorTerm::default();
    for Requirement { field, operator, values } in &term.requirements {
        let (list, key) = match field {
            Field::Label(key) => (&mut wire.expressions, &**key),
            Field::Name => (&mut wire.fields, "metadata.name"),
        };
        let operator = match operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            Operator::Gt => "Gt",
            Operator::Lt => "Lt",
        };
        list.push(wire::SelectorRequirement {
            key: Some(key.to_owned()),
            operator: Some(operator.to_owned()),
            values: values.iter().map(|value| value.to_string()).collect(),
        });
    }
    wire
}

fn claim(volume: &Volume) -> Option<wire::Volume> {
    let Volume::Claim { name, read_only, .. } = volume else { return None };
    let claim = wire::Claim { name: Some(name.to_string()), read_only: Some(*read_only) };
    Some(wire::Volume { name: Some(name.to_string()), source: Some(wire::VolumeSource { claim: Some(claim) }) })
}

pub(crate) fn node(node: &Node) -> Vec<u8> {
    let metadata = wire::Meta { name: Some(node.name.to_string()), labels: map(&node.labels), ..Default::default() };
    let taints = node.taints.iter().map(|taint| wire::Taint {
        key: Some(taint.key.to_string()),
        value: filled(&taint.value),
        effect: Some(effect_text(taint.effect).to_owned()),
    });
    let spec = wire::NodeSpec { unschedulable: node.unschedulable.then_some(true), taints: taints.collect() };
    let mut allocatable = amounts(&node.allocatable);
    allocatable.insert("pods".to_owned(), amount(Quantity::from_value(node.allowed_pods, Format::DecimalSi)));
    let images = node.images.iter();
    let images = images.map(|(name, size)| wire::Image { names: vec![name.to_string()], size_bytes: Some(*size) });
    let status = wire::NodeStatus { allocatable, images: images.collect() };
    wire::Node { metadata: Some(metadata), spec: Some(spec), status: Some(status) }.encode_to_vec()
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn amount(quantity: Quantity) -> wire::Amount {
    wire::Amount { text: Some(quantity.to_string()) }
}

fn amounts(resources: &Resources) -> BTreeMap<String, wire::Amount> {
    let binary = |value: i64| amount(Quantity::from_value(value, Format::BinarySi));
    let fixed = [
        ("cpu", resources.milli_cpu, amount(Quantity::from_milli(resources.milli_cpu, Format::DecimalSi))),
        ("memory", resources.memory, binary(resources.memory)),
        ("ephemeral-storage", resources.ephemeral_storage, binary(resources.ephemeral_storage)),
    ];
    let fixed = fixed.into_iter().filter(|(_, value, _)| *value != 0).map(|(name, _, text)| (name.to_owned(), text));
    let scalars = resources.scalars.iter();
    let scalars =
        scalars.map(|(name, value)| (name.to_string(), amount(Quantity::from_value(*value, Format::DecimalSi))));
    fixed.chain(scalars).collect()
}

fn effect_text(effect: TaintEffect) -> &'static str {
    match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    }
}

fn toleration_operator(operator: TolerationOperator) -> &'static str {
    match operator {
        TolerationOperator::Equal => "Equal",
        TolerationOperator::Exists => "Exists",
        TolerationOperator::Lt => "Lt",
        TolerationOperator::Gt => "Gt",
    }
}
