//! The edge: what the API says of pods and nodes, parsed once.

use std::{collections::BTreeMap, sync::Arc};

pub mod device;
mod requests;
pub mod storage;
pub mod traffic;
mod volumes;

use k8s_openapi::{
    api::core::v1::{
        self as api, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
        TopologySpreadConstraint, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kube_schema::quantity;

use requests::Requests;

use crate::{
    Field, HostPort, Node, Operator, Pod, PreferredTerm, Requirement, Resources, Spec, Taint, TaintEffect, Term,
    Toleration, TolerationOperator,
    framework::Gang,
    labels::{self, LabelOperator, LabelRequirement, Labels, Selector},
    object::{self, Container, PodDisruptionBudget, PodGroup},
    pod::{OwnerKind, Peers, PodTerm, SpreadConstraint, WeightedPodTerm},
    preempt::Budget,
};

const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// Images of a node that are looked at; a kubelet reports fifty.
const MAX_IMAGES: usize = 500;

/// How many pods a node takes that does not say.
const DEFAULT_ALLOWED_PODS: i64 = 0;

/// An object that cannot be scheduled because it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    #[error("{resource}: {text:?}: {reason}")]
    Quantity { resource: String, text: String, reason: quantity::QuantityError },
    #[error("the operator {0:?} is not one of a node selector")]
    Operator(String),
    #[error("the field {0:?} is not one of a node selector")]
    Field(String),
    #[error("the operator {0:?} is not one of a label selector")]
    LabelOperator(String),
    #[error("the object has no {0}")]
    Missing(&'static str),
}

/// A pod of the API.
pub fn pod(object: &object::Pod) -> Result<Pod, ConvertError> {
    let meta = &object.metadata;
    let empty = object::PodSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);
    let status = object.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let filled = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Arc::from);
    let started = status.and_then(|status| status.start_time.as_ref()).or(meta.creation_timestamp.as_ref());
    let namespace: Arc<str> = meta.namespace.as_deref().unwrap_or_default().into();
    let labels = labels(meta.labels.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let told = conditions.into_iter().find(|known| {
        known.type_ == "PodScheduled"
            && known.status == "False"
            && matches!(known.reason.as_deref(), Some("Unschedulable" | "SchedulerError"))
    });
    let group = spec.scheduling_group.as_ref().and_then(|group| group.pod_group_name.as_deref());
    Ok(Pod {
        name: meta.name.as_deref().ok_or(ConvertError::Missing("name"))?.into(),
        uid: meta.uid.as_deref().ok_or(ConvertError::Missing("uid"))?.into(),
        node_name: filled(spec.node_name.as_deref()),
        nominated: filled(status.and_then(|status| status.nominated_node_name.as_deref())),
        started: started.map_or(0, |time| time.0.as_second()),
        deleting: meta.deletion_timestamp.is_some(),
        terminal: matches!(phase, Some("Succeeded" | "Failed")),
        group: group.map(Into::into),
        told: told.and_then(|condition| condition.message.as_deref()).map(Into::into),
        generation: meta.generation,
        spec: Arc::new(pod_spec(object, spec, &namespace, &labels)?),
        labels: Arc::new(labels),
        namespace,
    })
}

fn pod_spec(
    object: &object::Pod,
    spec: &object::PodSpec,
    namespace: &Arc<str>,
    labels: &Labels,
) -> Result<Spec, ConvertError> {
    let affinity = spec.affinity.as_ref();
    let node = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let (required_affinity, preferred_affinity) = match node {
        Some(affinity) => node_affinity(affinity)?,
        None => (None, Vec::new()),
    };
    let selector = spec.node_selector.iter().flatten();
    let requests = Requests::of(spec, object.status.as_ref())?;
    let pods = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = PodTerms { namespace, labels };
    let spread = spec.topology_spread_constraints.iter().flatten();
    Ok(Spec {
        scheduler_name: spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER).into(),
        priority: spec.priority.unwrap_or(0),
        scored_milli_cpu: requests.scored.milli_cpu,
        scored_memory: requests.scored.memory,
        requests: requests.exact,
        node_selector: selector.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        required_affinity,
        preferred_affinity,
        tolerations: spec.tolerations.iter().flatten().map(toleration).collect(),
        host_ports: host_ports(spec),
        scheduling_gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str().into()).collect(),
        affinity: terms.required(pods.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()))?,
        anti_affinity: terms
            .required(anti.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()))?,
        preferred_pods: terms
            .weighted(pods.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()))?,
        avoided_pods: terms
            .weighted(anti.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()))?,
        spread: spread.map(|constraint| spread_constraint(constraint, labels)).collect::<Result<_, _>>()?,
        images: images(spec),
        containers: i64::try_from(containers(spec).count()).unwrap_or(i64::MAX),
        never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
        owner: owner(object),
        volumes: volumes::of(object, spec),
        features: features(spec),
        traffic: traffic::traffic(object.metadata.annotations.talks_to.as_deref(), namespace),
        claims: device::pod_claims(object, spec),
        extended: device::extended_requests(spec)?,
    })
}

/// The features that the pod's node must have declared.
fn features(spec: &object::PodSpec) -> Vec<Arc<str>> {
    let restarts_all = |container: &object::Container| {
        container.restart_policy_rules.iter().flatten().any(|rule| rule.action == "RestartAllContainers")
    };
    let mut features = Vec::new();
    if containers(spec).any(restarts_all) {
        features.push("RestartAllContainersOnContainerExits".into());
    }
    if spec.host_network == Some(true) && spec.host_users == Some(false) {
        features.push("UserNamespacesHostNetworkSupport".into());
    }
    features
}

/// A node of the API.
pub fn node(object: &object::Node) -> Result<Node, ConvertError> {
    let name = object.metadata.name.as_deref().ok_or(ConvertError::Missing("name"))?;
    let status = object.status.as_ref();
    let allocatable = status.and_then(|status| status.allocatable.as_ref());
    let pods = allocatable.and_then(|list| list.get("pods"));
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten().take(MAX_IMAGES);
    let names = images.flat_map(|image| {
        let size = image.size_bytes.unwrap_or(0);
        image.names.iter().flatten().map(move |name| (image_name(name), size))
    });
    let mut images: Vec<(Arc<str>, i64)> = names.collect();
    images.sort_unstable();
    images.dedup_by(|a, b| a.0 == b.0);
    Ok(Node {
        name: name.into(),
        labels: labels(object.metadata.labels.as_ref()),
        taints: taints.filter_map(taint).collect(),
        unschedulable: object.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false),
        allocatable: resources(allocatable)?,
        allowed_pods: match pods {
            Some(text) => amount("pods", text)?.value(),
            None => DEFAULT_ALLOWED_PODS,
        },
        images,
        features: status
            .and_then(|status| status.declared_features.as_ref())
            .into_iter()
            .flatten()
            .map(|feature| feature.as_str().into())
            .collect(),
    })
}

/// Node affinity: the terms of which one is required, if any are, and the preferred ones.
pub fn node_affinity(affinity: &NodeAffinity) -> Result<(Option<Vec<Term>>, Vec<PreferredTerm>), ConvertError> {
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref();
    let required = required.map(|selector| selector.node_selector_terms.iter().map(term).collect::<Result<_, _>>());
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    let preferred = preferred
        .map(|preference| Ok(PreferredTerm { weight: preference.weight, term: term(&preference.preference)? }));
    Ok((required.transpose()?, preferred.collect::<Result<_, _>>()?))
}

/// Labels of an object.
pub fn labels(map: Option<&BTreeMap<String, String>>) -> Labels {
    map.into_iter().flatten().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// A label selector; without any it selects nothing.
pub fn selector(selector: Option<&LabelSelector>) -> Result<Option<Selector>, ConvertError> {
    let Some(selector) = selector else { return Ok(None) };
    let labels = selector.match_labels.iter().flatten();
    let exact = labels.map(|(key, value)| LabelRequirement::is(key.as_str().into(), value.as_str().into()));
    let mut requirements: Vec<LabelRequirement> = exact.collect();
    for expression in selector.match_expressions.iter().flatten() {
        let operator = match expression.operator.as_str() {
            "In" => LabelOperator::In,
            "NotIn" => LabelOperator::NotIn,
            "Exists" => LabelOperator::Exists,
            "DoesNotExist" => LabelOperator::DoesNotExist,
            other => return Err(ConvertError::LabelOperator(other.to_owned())),
        };
        let mut values: Vec<Arc<str>> = expression.values.iter().flatten().map(|value| value.as_str().into()).collect();
        values.sort_unstable();
        requirements.push(LabelRequirement { key: expression.key.as_str().into(), operator, values });
    }
    Ok(Some(Selector { requirements }))
}

/// A PodDisruptionBudget of the API.
pub fn budget(object: &PodDisruptionBudget) -> Result<Budget, ConvertError> {
    let status = object.status.as_ref();
    let disrupted = status.and_then(|status| status.disrupted_pods.as_ref()).into_iter().flatten();
    Ok(Budget {
        namespace: object.metadata.namespace.as_deref().unwrap_or_default().into(),
        selector: selector(object.spec.as_ref().and_then(|spec| spec.selector.as_ref()))?,
        disruptions_allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
        disrupted: disrupted.map(|(name, _)| name.as_str().into()).collect(),
    })
}

/// A PodGroup of the API; `None`: its pods are placed one by one.
pub fn gang(object: &PodGroup) -> Option<Gang> {
    let gang = object.spec.as_ref()?.scheduling_policy.as_ref()?.gang.as_ref()?;
    Some(Gang { min_count: usize::try_from(gang.min_count?).ok()? })
}

/// Requirements for some of the pod's own labels (matchLabelKeys), or against them.
fn own_labels(keys: Option<&Vec<String>>, labels: &Labels, operator: LabelOperator) -> Vec<LabelRequirement> {
    let keys = keys.into_iter().flatten();
    let own = keys.filter_map(|key| {
        let value = labels::value(labels, key)?.clone();
        Some(LabelRequirement { key: key.as_str().into(), operator, values: vec![value] })
    });
    own.collect()
}

struct PodTerms<'a> {
    namespace: &'a Arc<str>,
    labels: &'a Labels,
}

impl PodTerms<'_> {
    fn required(&self, terms: Option<&Vec<PodAffinityTerm>>) -> Result<Vec<PodTerm>, ConvertError> {
        terms.into_iter().flatten().map(|term| self.term(term)).collect()
    }

    fn weighted(&self, terms: Option<&Vec<WeightedPodAffinityTerm>>) -> Result<Vec<WeightedPodTerm>, ConvertError> {
        let weighted = terms
            .into_iter()
            .flatten()
            .map(|term| Ok(WeightedPodTerm { weight: term.weight, term: self.term(&term.pod_affinity_term)? }));
        weighted.collect()
    }

    fn term(&self, term: &PodAffinityTerm) -> Result<PodTerm, ConvertError> {
        let mut wanted = selector(term.label_selector.as_ref())?;
        if let Some(wanted) = &mut wanted {
            wanted.requirements.extend(own_labels(term.match_label_keys.as_ref(), self.labels, LabelOperator::In));
            let unlike = own_labels(term.mismatch_label_keys.as_ref(), self.labels, LabelOperator::NotIn);
            wanted.requirements.extend(unlike);
            // The API server may have merged the keys into the selector already.
            wanted.requirements.sort_unstable();
            wanted.requirements.dedup();
        }
        let mut namespaces: Vec<Arc<str>> = term.namespaces.iter().flatten().map(|name| name.as_str().into()).collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(self.namespace.clone());
        }
        namespaces.sort_unstable();
        let namespace_selector = selector(term.namespace_selector.as_ref())?;
        let peers = Peers { namespaces, namespace_selector, selector: wanted };
        Ok(PodTerm { peers, topology_key: term.topology_key.as_str().into() })
    }
}

/// A spread constraint of a pod with these labels.
pub fn spread_constraint(
    constraint: &TopologySpreadConstraint,
    labels: &Labels,
) -> Result<SpreadConstraint, ConvertError> {
    let mut wanted = selector(constraint.label_selector.as_ref())?;
    if let Some(wanted) = &mut wanted {
        let keys = constraint.match_label_keys.as_ref();
        wanted.requirements.extend(own_labels(keys, labels, LabelOperator::In));
        wanted.requirements.sort_unstable();
        wanted.requirements.dedup();
    }
    Ok(SpreadConstraint {
        topology_key: constraint.topology_key.as_str().into(),
        max_skew: constraint.max_skew,
        min_domains: constraint.min_domains.unwrap_or(1),
        hard: constraint.when_unsatisfiable == "DoNotSchedule",
        selector: wanted,
        honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    })
}

fn owner(object: &object::Pod) -> Option<(OwnerKind, Arc<str>)> {
    let owners = object.metadata.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true))?;
    let kind = match (controller.api_version.as_str(), controller.kind.as_str()) {
        ("v1", "ReplicationController") => OwnerKind::ReplicationController,
        ("apps/v1", "ReplicaSet") => OwnerKind::ReplicaSet,
        ("apps/v1", "StatefulSet") => OwnerKind::StatefulSet,
        _ => return None,
    };
    Some((kind, controller.name.as_str().into()))
}

fn containers(spec: &object::PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(spec.containers.iter().flatten())
}

fn images(spec: &object::PodSpec) -> Vec<Arc<str>> {
    let of_containers = containers(spec).filter_map(|container| container.image.as_deref());
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
    of_containers.chain(volumes).map(image_name).collect()
}

/// A name without a tag means the latest.
fn image_name(name: &str) -> Arc<str> {
    let (tag, slash) = (name.rfind(':'), name.rfind('/'));
    if tag > slash { name.into() } else { format!("{name}:latest").into() }
}

fn amount(resource: &str, text: &Quantity) -> Result<quantity::Quantity, ConvertError> {
    quantity::parse(&text.0).map_err(|reason| ConvertError::Quantity {
        resource: resource.to_owned(),
        text: text.0.clone(),
        reason,
    })
}

fn resources(list: Option<&BTreeMap<String, Quantity>>) -> Result<Resources, ConvertError> {
    let mut found = Resources::default();
    for (name, text) in list.into_iter().flatten() {
        let amount = amount(name, text)?;
        match name.as_str() {
            "cpu" => found.milli_cpu = amount.milli_value(),
            "memory" => found.memory = amount.value(),
            "ephemeral-storage" => found.ephemeral_storage = amount.value(),
            "pods" => {}
            _ => found.set_scalar(name, amount.value()),
        }
    }
    Ok(found)
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn host_ports(spec: &object::PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = spec.containers.iter().flatten().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let wanted = ports.filter_map(|port| {
        let number = u16::try_from(port.host_port?).ok().filter(|number| *number != 0)?;
        Some(HostPort {
            protocol: port.protocol.as_deref().unwrap_or("TCP").into(),
            ip: port.host_ip.as_deref().unwrap_or_default().into(),
            port: number,
        })
    });
    wanted.collect()
}

fn term(term: &NodeSelectorTerm) -> Result<Term, ConvertError> {
    let mut requirements = Vec::new();
    for expression in term.match_expressions.iter().flatten() {
        requirements.push(requirement(Field::Label(expression.key.as_str().into()), expression)?);
    }
    for field in term.match_fields.iter().flatten() {
        if field.key != "metadata.name" {
            return Err(ConvertError::Field(field.key.clone()));
        }
        requirements.push(requirement(Field::Name, field)?);
    }
    Ok(Term { requirements })
}

fn requirement(field: Field, from: &NodeSelectorRequirement) -> Result<Requirement, ConvertError> {
    let operator = match from.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        other => return Err(ConvertError::Operator(other.to_owned())),
    };
    let values = from.values.iter().flatten().map(|value| value.as_str().into()).collect();
    Ok(Requirement { field, operator, values })
}

fn effect(text: &str) -> Option<TaintEffect> {
    match text {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

fn taint(taint: &api::Taint) -> Option<Taint> {
    let value: Arc<str> = taint.value.as_deref().unwrap_or_default().into();
    Some(Taint { key: taint.key.as_str().into(), value, effect: effect(&taint.effect)? })
}

fn toleration(toleration: &api::Toleration) -> Toleration {
    let operator = match toleration.operator.as_deref() {
        Some("Exists") => TolerationOperator::Exists,
        Some("Lt") => TolerationOperator::Lt,
        Some("Gt") => TolerationOperator::Gt,
        _ => TolerationOperator::Equal,
    };
    Toleration {
        key: toleration.key.as_deref().unwrap_or_default().into(),
        operator,
        value: toleration.value.as_deref().unwrap_or_default().into(),
        effect: toleration.effect.as_deref().and_then(effect),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Pod {
        pod(&serde_json::from_value(json).unwrap()).unwrap()
    }

    #[test]
    fn requests_are_the_most_that_runs_at_once() {
        let check = |spec: serde_json::Value, milli_cpu: i64, scored: i64| {
            let found = parse(serde_json::json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec}));
            assert_eq!((found.spec.requests.milli_cpu, found.spec.scored_milli_cpu), (milli_cpu, scored), "{spec}");
        };
        let cpu =
            |name: &str, amount: &str| serde_json::json!({"name": name, "resources": {"requests": {"cpu": amount}}});
        let sidecar = |amount: &str| {
            let mut container = cpu("side", amount);
            container["restartPolicy"] = "Always".into();
            container
        };
        check(serde_json::json!({"containers": [cpu("a", "100m"), cpu("b", "0.2")]}), 300, 300);
        check(serde_json::json!({"containers": [{"name": "a"}]}), 0, 100);
        check(serde_json::json!({"containers": [cpu("a", "1")], "initContainers": [cpu("i", "3")]}), 3000, 3000);
        let mixed = serde_json::json!({"containers": [cpu("a", "1")], "initContainers": [sidecar("2"), cpu("i", "3")]});
        check(mixed, 5000, 5000);
        check(serde_json::json!({"containers": [cpu("a", "1")], "overhead": {"cpu": "50m"}}), 1050, 1050);
        let whole = serde_json::json!({"containers": [cpu("a", "1")], "resources": {"requests": {"cpu": "2"}}});
        check(whole, 2000, 2000);
    }

    #[test]
    fn an_unreadable_amount_is_told() {
        let object = serde_json::json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "much"}}}]}});
        let error = pod(&serde_json::from_value(object).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("cpu: \"much\": "), "{error}");
    }
}
