//! What a pod asks for as a whole, out of what its containers ask for.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};

use super::{ConvertError, is_sidecar, resources};
use crate::{
    Resources,
    object::{self, Container},
};

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
    /// before it. The pod needs the most that is ever needed at once, and its overhead.
    pub fn of(spec: &object::PodSpec) -> Result<Self, ConvertError> {
        let mut together = Requests::default();
        for container in spec.containers.iter().flatten() {
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
