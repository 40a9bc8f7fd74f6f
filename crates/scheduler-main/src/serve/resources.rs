//! `/metrics/resources`: what every pod asks for and may use, as the scheduler counts it.

use std::{collections::BTreeMap, fmt::Write};

use client::Informers;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};
use kube_schema::quantity::{self, Quantity as Amount};

use super::Health;

/// The pods that are told of.
pub struct Resources {
    pub informers: Informers,
    pub health: Health,
}

type Amounts = BTreeMap<String, Amount>;

impl Resources {
    /// The figures in the Prometheus text format; of one that does not lead, none.
    ///
    /// The scheduler keeps no pods as a whole, so they are watched from the first time on that somebody asks.
    pub async fn text(&self) -> String {
        let mut text = String::new();
        if !self.health.leads() {
            return text;
        }
        let informer = self.informers.all::<Pod>();
        informer.synced().await;
        let pods = informer.filtered(|pod| !is_done(pod));
        for (name, help, of) in [
            (
                "kube_pod_resource_limit",
                "What a pod may use at most, by resource, as scheduler and kubelet count it, with the unit if there is one",
                Of::Limits,
            ),
            (
                "kube_pod_resource_request",
                "What a pod asks for, by resource, as scheduler and kubelet count it, with the unit if there is one",
                Of::Requests,
            ),
        ] {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
            for pod in &pods {
                lines(&mut text, name, pod, of);
            }
        }
        text
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Requests,
    Limits,
}

fn is_done(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref().is_some_and(|node| !node.is_empty()));
    assigned && matches!(phase, "Succeeded" | "Failed")
}

fn lines(text: &mut String, name: &str, pod: &Pod, of: Of) {
    let Some(spec) = &pod.spec else { return };
    let meta = &pod.metadata;
    for (resource, amount) in total(spec, of) {
        if amount.signum() == 0 {
            continue;
        }
        let labels = [
            ("namespace", meta.namespace.as_deref().unwrap_or_default()),
            ("node", spec.node_name.as_deref().unwrap_or_default()),
            ("pod", meta.name.as_deref().unwrap_or_default()),
            ("priority", &spec.priority.map(|priority| priority.to_string()).unwrap_or_default()),
            ("resource", &resource),
            ("scheduler", spec.scheduler_name.as_deref().unwrap_or_default()),
            ("unit", unit(&resource)),
        ]
        .map(|(label, value)| format!("{label}={value:?}"));
        let _ = writeln!(text, "{name}{{{}}} {}", labels.join(","), number(&amount));
    }
}

fn unit(resource: &str) -> &'static str {
    match resource {
        "cpu" => "cores",
        "memory" | "storage" | "ephemeral-storage" => "bytes",
        _ if resource.starts_with("hugepages-") => "bytes",
        _ if resource.starts_with("attachable-volumes-") => "integer",
        _ => "",
    }
}

#[expect(clippy::cast_precision_loss, reason = "the format's numbers are floating point")]
fn number(amount: &Amount) -> f64 {
    let milli = amount.milli_value();
    if milli == i64::MAX { amount.value() as f64 } else { milli as f64 / 1000.0 }
}

/// All containers together, or the init container that needs more than they do, whichever is more, and the overhead.
fn total(spec: &PodSpec, of: Of) -> Amounts {
    let mut all = Amounts::new();
    for container in &spec.containers {
        add(&mut all, &amounts(container, of));
    }
    let (mut sidecars, mut highest) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut own = amounts(container, of);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut all, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut highest, own);
    }
    raise(&mut all, highest);
    // A pod's own figures stand for its containers'.
    if let Some(resources) = &spec.resources {
        let own = if of == Of::Requests { &resources.requests } else { &resources.limits };
        all.extend(read(own.as_ref()));
    }
    for (resource, amount) in read(spec.overhead.as_ref()) {
        // What is not limited stays so.
        if of == Of::Requests || all.contains_key(&resource) {
            add(&mut all, &Amounts::from([(resource, amount)]));
        }
    }
    all
}

fn amounts(container: &Container, of: Of) -> Amounts {
    let Some(resources) = &container.resources else { return Amounts::new() };
    read(if of == Of::Requests { resources.requests.as_ref() } else { resources.limits.as_ref() })
}

fn read(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let all = quantities.into_iter().flatten();
    all.filter_map(|(resource, quantity)| Some((resource.clone(), quantity::parse(&quantity.0).ok()?))).collect()
}

fn add(to: &mut Amounts, amounts: &Amounts) {
    for (resource, amount) in amounts {
        let sum = to.get(resource).map_or_else(|| *amount, |have| have.plus(amount));
        to.insert(resource.clone(), sum);
    }
}

fn raise(to: &mut Amounts, amounts: Amounts) {
    for (resource, amount) in amounts {
        if to.get(&resource).is_none_or(|have| number(have) < number(&amount)) {
            to.insert(resource, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_as_kubernetes_does() {
        let check = |spec: serde_json::Value, of: Of, expected: &str| {
            let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
            let mut text = String::new();
            lines(&mut text, "m", &serde_json::from_value(pod).unwrap(), of);
            assert_eq!(text, expected);
        };
        let container = |requests: serde_json::Value| serde_json::json!({"name": "c", "resources": {"requests": requests, "limits": {"cpu": "3"}}});
        let spec = serde_json::json!({
            "schedulerName": "s", "priority": 5, "nodeName": "a",
            "containers": [container(serde_json::json!({"cpu": "100m", "memory": "1Gi", "x.y/z": "0"}))],
            "initContainers": [container(serde_json::json!({"cpu": "1"}))],
            "overhead": {"cpu": "1m", "memory": "1"},
        });
        let with = |resource: &str, unit: &str| {
            format!(
                "m{{namespace=\"n\",node=\"a\",pod=\"p\",priority=\"5\",resource=\"{resource}\",scheduler=\"s\",unit=\"{unit}\"}}"
            )
        };
        check(
            spec.clone(),
            Of::Requests,
            &format!("{} 1.001\n{} 1073741825\n", with("cpu", "cores"), with("memory", "bytes")),
        );
        check(spec, Of::Limits, &format!("{} 3.001\n", with("cpu", "cores")));
    }
}
