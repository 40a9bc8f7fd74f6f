//! The edge: what the API says of pods and nodes, parsed once.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{self as api, Container, NodeSelectorRequirement, NodeSelectorTerm, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use kube_schema::quantity;

use crate::{
    Field, HostPort, Node, Operator, Pod, PreferredTerm, Requirement, Resources, Taint, TaintEffect, Term, Toleration,
    TolerationOperator,
};

/// What a container without requests counts as in scores, so that many such pods still spread.
const SCORED_MILLI_CPU: i64 = 100;
const SCORED_MEMORY: i64 = 200 << 20;
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
    #[error("the object has no {0}")]
    Missing(&'static str),
}

/// A pod of the API. Its scheduler's name is the caller's business.
pub fn pod(object: &api::Pod) -> Result<Pod, ConvertError> {
    let meta = &object.metadata;
    let empty = api::PodSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let preferred = preferred
        .into_iter()
        .flatten()
        .map(|preference| Ok(PreferredTerm { weight: preference.weight, term: term(&preference.preference)? }));
    let selector = spec.node_selector.iter().flatten();
    let requests = Requests::of(spec)?;
    Ok(Pod {
        namespace: meta.namespace.as_deref().unwrap_or_default().into(),
        name: meta.name.as_deref().ok_or(ConvertError::Missing("name"))?.into(),
        uid: meta.uid.as_deref().ok_or(ConvertError::Missing("uid"))?.into(),
        node_name: spec.node_name.as_deref().filter(|name| !name.is_empty()).map(Into::into),
        priority: spec.priority.unwrap_or(0),
        scored_milli_cpu: requests.scored.milli_cpu,
        scored_memory: requests.scored.memory,
        requests: requests.exact,
        node_selector: selector.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        required_affinity: match required {
            Some(selector) => Some(selector.node_selector_terms.iter().map(term).collect::<Result<_, _>>()?),
            None => None,
        },
        preferred_affinity: preferred.collect::<Result<_, _>>()?,
        tolerations: spec.tolerations.iter().flatten().map(toleration).collect(),
        host_ports: host_ports(spec),
        scheduling_gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str().into()).collect(),
        never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
        deleting: meta.deletion_timestamp.is_some(),
        terminal: matches!(phase, Some("Succeeded" | "Failed")),
    })
}

/// A node of the API.
pub fn node(object: &api::Node) -> Result<Node, ConvertError> {
    let name = object.metadata.name.as_deref().ok_or(ConvertError::Missing("name"))?;
    let allocatable = object.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let pods = allocatable.and_then(|list| list.get("pods"));
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    Ok(Node {
        name: name.into(),
        labels: object.metadata.labels.iter().flatten().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect(),
        taints: taints.filter_map(taint).collect(),
        unschedulable: object.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false),
        allocatable: resources(allocatable)?,
        allowed_pods: match pods {
            Some(text) => amount("pods", text)?.value(),
            None => DEFAULT_ALLOWED_PODS,
        },
    })
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

/// A pod's requests, exactly and as scores count them.
#[derive(Default)]
struct Requests {
    exact: Resources,
    scored: Resources,
}

impl Requests {
    /// Containers and sidecars run together; each other init container runs beside the sidecars that were started
    /// before it. The pod needs the most that is ever needed at once, and its overhead.
    fn of(spec: &api::PodSpec) -> Result<Self, ConvertError> {
        let mut together = Requests::default();
        for container in &spec.containers {
            together.add(&Requests::container(container)?);
        }
        let (mut sidecars, mut peak) = (Requests::default(), Requests::default());
        for container in spec.init_containers.iter().flatten() {
            let mut own = Requests::container(container)?;
            if is_sidecar(container) {
                together.add(&own);
                sidecars.add(&own);
                peak.raise_to(&sidecars);
            } else {
                own.add(&sidecars);
                peak.raise_to(&own);
            }
        }
        together.raise_to(&peak);
        if let Some(list) = spec.resources.as_ref().and_then(|whole| whole.requests.as_ref()) {
            together.replace(&resources(Some(list))?, list);
        }
        let overhead = resources(spec.overhead.as_ref())?;
        together.exact.add(&overhead);
        together.scored.add(&overhead);
        Ok(together)
    }

    fn container(container: &Container) -> Result<Self, ConvertError> {
        let list = container.resources.as_ref().and_then(|r: &ResourceRequirements| r.requests.as_ref());
        let exact = resources(list)?;
        let asked = |name: &str| list.is_some_and(|list| list.contains_key(name));
        let mut scored = Resources { milli_cpu: exact.milli_cpu, memory: exact.memory, ..Default::default() };
        if !asked("cpu") {
            scored.milli_cpu = SCORED_MILLI_CPU;
        }
        if !asked("memory") {
            scored.memory = SCORED_MEMORY;
        }
        Ok(Requests { exact, scored })
    }

    fn add(&mut self, other: &Requests) {
        self.exact.add(&other.exact);
        self.scored.add(&other.scored);
    }

    fn raise_to(&mut self, other: &Requests) {
        self.exact.raise_to(&other.exact);
        self.scored.raise_to(&other.scored);
    }

    /// Requests of the whole pod stand in for the sum of its containers', resource by resource.
    fn replace(&mut self, whole: &Resources, given: &BTreeMap<String, Quantity>) {
        for name in given.keys() {
            match name.as_str() {
                "cpu" => {
                    self.exact.milli_cpu = whole.milli_cpu;
                    self.scored.milli_cpu = whole.milli_cpu;
                }
                "memory" => {
                    self.exact.memory = whole.memory;
                    self.scored.memory = whole.memory;
                }
                "ephemeral-storage" => self.exact.ephemeral_storage = whole.ephemeral_storage,
                other => self.exact.set_scalar(other, whole.scalar(other)),
            }
        }
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn host_ports(spec: &api::PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
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
            assert_eq!((found.requests.milli_cpu, found.scored_milli_cpu), (milli_cpu, scored), "{spec}");
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
