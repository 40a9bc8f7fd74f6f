//! What a pod asks for as a whole, out of what its containers ask for.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};

use super::{ConvertError, is_sidecar, resources};
use crate::{
    Resources,
    object::{self, Container, ContainerStatus},
};

/// Of a pod whose resize waits, and why: it never comes true (KEP-1287).
const RESIZE_PENDING: &str = "PodResizePending";
const INFEASIBLE: &str = "Infeasible";

/// What a container without requests counts as in scores, so that many such pods still spread.
const SCORED_MILLI_CPU: i64 = 100;
const SCORED_MEMORY: i64 = 200 << 20;

/// A pod's requests, exactly and as scores count them.
#[derive(Default)]
pub(super) struct Requests {
    pub exact: Resources,
    pub scored: Resources,
}

impl Requests {
    /// Containers and sidecars run together; each other init container runs beside the sidecars that were started
    /// before it. The pod needs the most that is ever needed at once, and its overhead. While a container is resized, it
    /// counts with the most of what it shall have, has been given and has.
    pub fn of(spec: &object::PodSpec, status: Option<&object::PodStatus>) -> Result<Self, ConvertError> {
        let pending = status
            .and_then(|status| status.conditions.iter().flatten().find(|condition| condition.type_ == RESIZE_PENDING));
        let infeasible = pending.is_some_and(|pending| pending.reason.as_deref() == Some(INFEASIBLE));
        let shown = |container: &Container| {
            let all = status.into_iter().flat_map(|s| [&s.container_statuses, &s.init_container_statuses]);
            all.flatten().flatten().find(|shown| shown.name == container.name && shown.resources.is_some())
        };
        let running = |container: &Container| Requests::running(container, shown(container), infeasible);
        let mut together = Requests::default();
        for container in spec.containers.iter().flatten() {
            together.add(&running(container)?);
        }
        let (mut sidecars, mut peak) = (Requests::default(), Requests::default());
        for container in spec.init_containers.iter().flatten() {
            if is_sidecar(container) {
                let own = running(container)?;
                together.add(&own);
                sidecars.add(&own);
                peak.raise_to(&sidecars);
            } else {
                let mut own = Requests::running(container, None, false)?;
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

    fn running(container: &Container, shown: Option<&ContainerStatus>, infeasible: bool) -> Result<Self, ConvertError> {
        fn requests(resources: Option<&ResourceRequirements>) -> Option<&BTreeMap<String, Quantity>> {
            resources?.requests.as_ref()
        }
        let wanted = requests(container.resources.as_ref()).filter(|_| shown.is_none() || !infeasible);
        let has = shown.and_then(|shown| requests(shown.resources.as_ref()));
        let given = shown.and_then(|shown| shown.allocated_resources.as_ref());
        let mut exact = Resources::default();
        for list in [wanted, has, given] {
            exact.raise_to(&resources(list)?);
        }
        let asked = |name: &str| [wanted, has, given].into_iter().flatten().any(|list| list.contains_key(name));
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
