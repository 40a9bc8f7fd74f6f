//! Requests and limits: quality of service, cgroup values, the pod's sums. The figures are kubelet's.

use std::collections::BTreeMap;

use containers::{QosClass, Resources};
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::quantity;
use crate::pod::model::{Kind, specs};

/// Length of a CPU quota's period.
const PERIOD_US: i64 = 100_000;
/// The smallest quota the kernel takes.
const MIN_QUOTA_US: i64 = 1000;
/// The least and the most of `cpu.shares`.
const SHARES: std::ops::RangeInclusive<i64> = 2..=262_144;

type List = BTreeMap<String, Quantity>;

fn cpu(list: Option<&List>) -> Option<i64> {
    i64::try_from(quantity::milli(&list?.get("cpu")?.0)?).ok()
}

fn memory(list: Option<&List>) -> Option<i64> {
    quantity::value(&list?.get("memory")?.0)
}

/// A container's or pod's CPU in thousandths and memory in bytes; `None` where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu: Option<i64>,
    pub memory: Option<i64>,
}

impl Amounts {
    fn requests(of: Option<&ResourceRequirements>) -> Self {
        let limits = Self::limits(of);
        let list = of.and_then(|resources| resources.requests.as_ref());
        // A limit without a request is a request too.
        Amounts { cpu: cpu(list).or(limits.cpu), memory: memory(list).or(limits.memory) }
    }

    fn limits(of: Option<&ResourceRequirements>) -> Self {
        let list = of.and_then(|resources| resources.limits.as_ref());
        Amounts { cpu: cpu(list), memory: memory(list) }
    }
}

/// The pod's class as status shows it.
pub fn qos_class(pod: &Pod) -> &'static str {
    match qos(pod) {
        QosClass::Guaranteed => "Guaranteed",
        QosClass::Burstable => "Burstable",
        QosClass::BestEffort => "BestEffort",
    }
}

/// The pod's class, by the requests and limits of all its containers (or of the pod as a whole, where it has them).
pub fn qos(pod: &Pod) -> QosClass {
    let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let each: Vec<Option<&ResourceRequirements>> = match whole {
        Some(whole) => vec![Some(whole)],
        None => specs(pod).map(|(container, _)| container.resources.as_ref()).collect(),
    };
    let positive = |amount: Option<i64>| amount.is_some_and(|amount| amount > 0);
    let mut anything = false;
    let mut all_equal = true;
    for resources in each {
        let (requests, limits) = (Amounts::requests(resources), Amounts::limits(resources));
        anything |= positive(requests.cpu) || positive(requests.memory);
        all_equal &= positive(limits.cpu) && positive(limits.memory) && requests == limits;
    }
    match (anything, all_equal) {
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
        (false, _) => QosClass::BestEffort,
    }
}

fn shares(milli: i64) -> u64 {
    milli.saturating_mul(1024).saturating_div(1000).clamp(*SHARES.start(), *SHARES.end()).unsigned_abs()
}

fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(PERIOD_US) / 1000).max(MIN_QUOTA_US)
}

fn cgroup(requests: Amounts, limits: Amounts) -> Resources {
    Resources {
        cpu_shares: Some(shares(requests.cpu.unwrap_or(0))),
        cpu_quota_us: limits.cpu.filter(|cpu| *cpu > 0).map(quota),
        cpu_period_us: limits.cpu.filter(|cpu| *cpu > 0).map(|_| PERIOD_US.unsigned_abs()),
        memory_limit_bytes: limits.memory.filter(|memory| *memory > 0),
        pids_limit: None,
    }
}

/// A container's cgroup values.
pub fn of_container(container: &Container) -> Resources {
    let of = container.resources.as_ref();
    cgroup(Amounts::requests(of), Amounts::limits(of))
}

/// The pod's cgroup values: the sums of its containers (init containers by their maximum, sidecars added), limits only
/// where every container has one.
pub fn of_pod(pod: &Pod) -> Resources {
    if let Some(whole) = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()) {
        return cgroup(Amounts::requests(Some(whole)), Amounts::limits(Some(whole)));
    }
    let total = |amount: &dyn Fn(&Container) -> Option<i64>, all: bool| -> Option<i64> {
        let (mut mains, mut sidecars, mut peak) = (0i64, 0i64, 0i64);
        for (container, kind) in specs(pod) {
            let amount = match amount(container) {
                Some(amount) => amount,
                None if all => return None,
                None => 0,
            };
            match kind {
                Kind::Main => mains = mains.saturating_add(amount),
                Kind::Sidecar => {
                    sidecars = sidecars.saturating_add(amount);
                    peak = peak.max(sidecars);
                }
                Kind::Init => peak = peak.max(sidecars.saturating_add(amount)),
            }
        }
        Some(mains.saturating_add(sidecars).max(peak))
    };
    let of = |container: &Container| container.resources.clone();
    let requests = Amounts {
        cpu: total(&|c| Amounts::requests(of(c).as_ref()).cpu, false),
        memory: total(&|c| Amounts::requests(of(c).as_ref()).memory, false),
    };
    let limits = Amounts {
        cpu: total(&|c| Amounts::limits(of(c).as_ref()).cpu, true),
        memory: total(&|c| Amounts::limits(of(c).as_ref()).memory, true),
    };
    cgroup(requests, limits)
}

/// What `oom_score_adj` a container gets: guaranteed pods are killed last, best-effort ones first.
pub fn oom_score_adj(pod: &Pod, container: &Container, machine_memory: i64) -> i32 {
    match qos(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = Amounts::requests(container.resources.as_ref()).memory.unwrap_or(0);
            let share = i128::from(request) * 1000 / i128::from(machine_memory.max(1));
            i32::try_from(1000 - share).unwrap_or(0).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: &[&str]) -> Pod {
        let containers: Vec<serde_json::Value> = resources
            .iter()
            .map(|text| serde_json::json!({ "name": "c", "resources": serde_json::from_str::<serde_json::Value>(text).unwrap() }))
            .collect();
        serde_json::from_value(serde_json::json!({ "spec": { "containers": containers } })).unwrap()
    }

    #[test]
    fn classes() {
        let check = |resources: &[&str], expected| assert_eq!(qos_class(&pod(resources)), expected, "{resources:?}");
        check(&["{}"], "BestEffort");
        check(&[r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#], "Guaranteed");
        check(&[r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1000m"}}"#], "Guaranteed");
        check(&[r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#, "{}"], "Burstable");
        check(&[r#"{"requests":{"cpu":"1"}}"#], "Burstable");
        check(&[r#"{"limits":{"memory":"1Gi"}}"#], "Burstable");
    }

    #[test]
    fn cgroup_values() {
        let pod = pod(&[r#"{"limits":{"cpu":"500m","memory":"64Mi"},"requests":{"cpu":"250m"}}"#]);
        let resources = of_container(&pod.spec.as_ref().unwrap().containers[0]);
        assert_eq!(resources.cpu_shares, Some(256));
        assert_eq!((resources.cpu_quota_us, resources.cpu_period_us), (Some(50_000), Some(100_000)));
        assert_eq!(resources.memory_limit_bytes, Some(64 << 20));
        assert_eq!(of_pod(&pod), resources);
    }

    #[test]
    fn a_pod_without_requests_has_the_smallest_share() {
        let resources = of_pod(&pod(&["{}", "{}"]));
        assert_eq!(resources, Resources { cpu_shares: Some(2), ..Resources::default() });
    }
}
