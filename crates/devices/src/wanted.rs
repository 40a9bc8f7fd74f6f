//! A claim's wishes, checked and compiled once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use k8s_openapi::{
    api::resource::v1::{
        DeviceClaimConfiguration, DeviceConstraint, DeviceRequest, DeviceSelector, DeviceSubRequest, DeviceToleration,
        ExactDeviceRequest, ResourceClaimSpec,
    },
    apimachinery::pkg::api::resource,
};
use kube_schema::quantity::{self, Quantity};

use crate::{
    Error, Inventory,
    cel::{Fault, Program, Subject},
    inventory::Class,
};

/// Devices that one claim can get (`AllocationResultsMaxSize`).
pub(crate) const MAX_DEVICES: usize = 32;
/// Selector results that are remembered for one claim. Whoever asks about more devices is answered anew.
const MAX_REMEMBERED: usize = 1 << 16;

/// What all evaluations of a claim's selectors may cost together: a few seconds. A usual selector costs a few dozen for
/// each device; one that makes the most of what one evaluation may cost would stop the scheduling of everybody else.
const MAX_COST: u64 = 50_000_000;

/// What one claim wants.
#[derive(Debug)]
pub struct Wanted {
    pub(crate) claim: String,
    pub(crate) requests: Vec<Request>,
    pub(crate) constraints: Vec<Constraint>,
    pub(crate) config: Vec<DeviceClaimConfiguration>,
    /// Which devices an alternative's selectors select, by the alternative's and the device's number.
    remembered: Mutex<HashMap<(usize, u64), bool>>,
    /// What evaluating its selectors has cost by now.
    cost: AtomicU64,
}

/// One request: the first alternative that can be had is taken. Most have just one.
#[derive(Debug)]
pub(crate) struct Request {
    pub name: String,
    pub alternatives: Vec<Alternative>,
}

/// A request or a subrequest.
#[derive(Debug)]
pub(crate) struct Alternative {
    /// Distinct among all of the claim.
    pub number: usize,
    /// As messages name it: a subrequest without its request.
    pub name: String,
    /// As results name it: `request` or `request/subrequest`.
    pub full_name: String,
    pub class: Arc<Class>,
    pub mode: Mode,
    pub admin_access: bool,
    pub selectors: Vec<Selector>,
    pub tolerations: Vec<DeviceToleration>,
    /// How much of a device's capacity is asked for.
    pub capacity: BTreeMap<String, Quantity>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Exactly(usize),
    All,
}

/// What all devices of some requests must have in common, or must not.
#[derive(Debug)]
pub(crate) struct Constraint {
    pub attribute: String,
    pub distinct: bool,
    /// None means all.
    pub requests: Vec<String>,
}

/// A selector of a class or a request. One that does not compile is an error when a device is looked at.
#[derive(Debug)]
pub(crate) struct Selector(Result<Program, String>);

impl Selector {
    pub fn of(selector: &DeviceSelector) -> Selector {
        Selector(match &selector.cel {
            Some(cel) => Program::compile(&cel.expression),
            None => Err("CEL expression empty (unsupported selector type?)".to_owned()),
        })
    }
}

/// The fields that requests and subrequests share.
struct Parts<'a> {
    name: &'a str,
    class: &'a str,
    mode: Option<&'a str>,
    count: Option<i64>,
    selectors: &'a [DeviceSelector],
    tolerations: &'a [DeviceToleration],
    capacity: Option<&'a BTreeMap<String, resource::Quantity>>,
    admin_access: Option<bool>,
}

impl<'a> Parts<'a> {
    fn of_request(name: &'a str, request: &'a ExactDeviceRequest) -> Self {
        Parts {
            name,
            class: &request.device_class_name,
            mode: request.allocation_mode.as_deref(),
            count: request.count,
            selectors: request.selectors.as_deref().unwrap_or_default(),
            tolerations: request.tolerations.as_deref().unwrap_or_default(),
            capacity: request.capacity.as_ref().and_then(|capacity| capacity.requests.as_ref()),
            admin_access: request.admin_access,
        }
    }

    fn of_subrequest(request: &'a DeviceSubRequest) -> Self {
        Parts {
            name: &request.name,
            class: &request.device_class_name,
            mode: request.allocation_mode.as_deref(),
            count: request.count,
            selectors: request.selectors.as_deref().unwrap_or_default(),
            tolerations: request.tolerations.as_deref().unwrap_or_default(),
            capacity: request.capacity.as_ref().and_then(|capacity| capacity.requests.as_ref()),
            admin_access: None,
        }
    }
}

impl Wanted {
    /// Checks a claim's spec. `claim` is the claim's `namespace/name`, for messages.
    pub fn of(claim: &str, spec: &ResourceClaimSpec, inventory: &Inventory) -> Result<Wanted, Error> {
        let builder = Builder { claim, inventory };
        let devices = spec.devices.as_ref();
        let mut requests = Vec::new();
        let mut number = 0;
        for request in devices.iter().flat_map(|devices| devices.requests.iter().flatten()) {
            requests.push(builder.request(request, &mut number)?);
        }
        let constraints = devices.iter().flat_map(|devices| devices.constraints.iter().flatten());
        let constraints = constraints.enumerate().map(|(at, constraint)| builder.constraint(at, constraint));
        let constraints = constraints.collect::<Result<_, _>>()?;
        let config = devices.and_then(|devices| devices.config.clone()).unwrap_or_default();
        let claim = claim.to_owned();
        let wanted =
            Wanted { claim, requests, constraints, config, remembered: Mutex::default(), cost: AtomicU64::new(0) };
        wanted.check_count(|_| 0)?;
        Ok(wanted)
    }

    /// Refuses what can only end with too many devices. `all` says how many "all" are for an alternative.
    pub(crate) fn check_count(&self, all: impl Fn(&Alternative) -> usize) -> Result<(), Error> {
        let count = |alternative: &Alternative| match alternative.mode {
            Mode::Exactly(count) => count,
            Mode::All => all(alternative),
        };
        let least = |request: &Request| request.alternatives.iter().map(count).min().unwrap_or(0);
        let total = self.requests.iter().map(least).fold(0, usize::saturating_add);
        if total <= MAX_DEVICES {
            return Ok(());
        }
        let reason = format!("number of requested devices {total} exceeds the claim limit of {MAX_DEVICES}");
        Err(self.error("", reason))
    }

    pub(crate) fn error(&self, place: &str, reason: String) -> Error {
        Error::Claim { claim: self.claim.clone(), place: place.to_owned(), reason, here: false }
    }

    /// Whether the selectors of the alternative and its class select a device.
    pub(crate) fn selects(&self, alternative: &Alternative, serial: u64, device: &Arc<Subject>) -> Result<bool, Error> {
        let key = (alternative.number, serial);
        let lock = || self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key) {
            return Ok(*known);
        }
        // The lock is not held while expressions are evaluated; two who ask at once find the same.
        let mut cost = 0;
        let class = || format!("class {}", alternative.class.name);
        let selected = all_match(&alternative.class.selectors, device, &mut cost, class)?
            && all_match(&alternative.selectors, device, &mut cost, || format!("claim {}", self.claim))?;
        if self.cost.fetch_add(cost, Ordering::Relaxed) > MAX_COST {
            let reason =
                "evaluating its selectors and those of its classes for all devices costs too much: simplify them";
            return Err(self.error("", reason.to_owned()));
        }
        let mut remembered = lock();
        if remembered.len() < MAX_REMEMBERED {
            remembered.insert(key, selected);
        }
        Ok(selected)
    }
}

fn all_match(
    selectors: &[Selector],
    device: &Arc<Subject>,
    cost: &mut u64,
    owner: impl Fn() -> String,
) -> Result<bool, Error> {
    for (index, Selector(compiled)) in selectors.iter().enumerate() {
        let error = |stage, reason| Error::Selector { owner: owner(), index, stage, reason };
        let program = compiled.as_ref().map_err(|reason| error("compile", reason.clone()))?;
        if !program.matches(device, cost).map_err(|fault: Fault| error("runtime", fault.to_string()))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the parts of a claim's spec.
struct Builder<'a> {
    claim: &'a str,
    inventory: &'a Inventory,
}

impl Builder<'_> {
    fn error<T>(&self, place: String, reason: impl Into<String>) -> Result<T, Error> {
        Err(Error::Claim { claim: self.claim.to_owned(), place, reason: reason.into(), here: false })
    }

    fn request(&self, request: &DeviceRequest, number: &mut usize) -> Result<Request, Error> {
        let place = || format!(", request {}", request.name);
        let features = self.inventory.features();
        let choices = request.first_available.as_deref().unwrap_or_default();
        if !choices.is_empty() && !features.prioritized_list {
            return self.error(place(), "has subrequests, but the DRAPrioritizedList feature is disabled");
        }
        if !features.consumable_capacity {
            let reason = "has capacity requests, but the DRAConsumableCapacity feature is disabled";
            if request.exactly.as_ref().is_some_and(|exactly| exactly.capacity.is_some()) {
                return self.error(place(), reason);
            }
            if let Some(choice) = choices.iter().find(|choice| choice.capacity.is_some()) {
                return self.error(format!(", subrequest {}", choice.name), reason);
            }
        }
        let parts: Vec<(Parts<'_>, String)> = match &request.exactly {
            _ if !choices.is_empty() => {
                let full_name = |choice: &DeviceSubRequest| format!("{}/{}", request.name, choice.name);
                choices.iter().map(|choice| (Parts::of_subrequest(choice), full_name(choice))).collect()
            }
            Some(exactly) => vec![(Parts::of_request(&request.name, exactly), request.name.clone())],
            None => return self.error(place(), "missing device class name (unsupported request type?)"),
        };
        let mut alternatives = Vec::new();
        for (parts, full_name) in parts {
            alternatives.push(self.alternative(&parts, full_name, *number)?);
            *number += 1;
        }
        Ok(Request { name: request.name.clone(), alternatives })
    }

    fn alternative(&self, parts: &Parts<'_>, full_name: String, number: usize) -> Result<Alternative, Error> {
        let place = || format!(", request {}", parts.name);
        if let Some(at) = parts.selectors.iter().position(|selector| selector.cel.is_none()) {
            let place = format!("{}, selector #{at}", place());
            return self.error(place, "CEL expression empty (unsupported selector type?)");
        }
        if parts.admin_access.is_some() && !self.inventory.features().admin_access {
            return self.error(place(), "admin access is requested, but the feature is disabled");
        }
        if parts.class.is_empty() {
            return self.error(place(), "missing device class name (unsupported request type?)");
        }
        let Some(class) = self.inventory.class(parts.class) else {
            let name = parts.class;
            let reason =
                format!("could not retrieve device class {name}: deviceclass.resource.k8s.io \"{name}\" not found");
            return self.error(place(), reason);
        };
        let mode = match parts.mode {
            None | Some("" | "ExactCount") => Mode::Exactly(usize::try_from(parts.count.unwrap_or(1)).unwrap_or(0)),
            Some("All") => Mode::All,
            Some(other) => return self.error(place(), format!("unsupported count mode {other}")),
        };
        let mut capacity = BTreeMap::new();
        for (name, amount) in parts.capacity.into_iter().flatten() {
            match quantity::parse(&amount.0) {
                Ok(amount) => drop(capacity.insert(name.clone(), amount)),
                Err(error) => return self.error(place(), format!("capacity {name}: {error}")),
            }
        }
        Ok(Alternative {
            number,
            name: parts.name.to_owned(),
            full_name,
            class: class.clone(),
            mode,
            admin_access: parts.admin_access == Some(true),
            selectors: parts.selectors.iter().map(Selector::of).collect(),
            tolerations: parts.tolerations.to_vec(),
            capacity,
        })
    }

    fn constraint(&self, at: usize, constraint: &DeviceConstraint) -> Result<Constraint, Error> {
        let requests = constraint.requests.clone().unwrap_or_default();
        match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(attribute), _) => Ok(Constraint { attribute: attribute.clone(), distinct: false, requests }),
            (None, Some(attribute)) => Ok(Constraint { attribute: attribute.clone(), distinct: true, requests }),
            (None, None) => {
                self.error(format!(", constraint #{at}"), "empty constraint (unsupported constraint type?)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::resource::v1::ResourceSlice;
    use serde_json::json;

    use super::*;
    use crate::{NodeFacts, Used, allocate};

    #[test]
    fn selectors_that_cost_too_much_together_are_given_up() {
        let mut inventory = Inventory::default();
        let class = json!({"spec": {"selectors": [{"cel": {"expression": "device.driver == 'd'"}}]}});
        inventory.set_class("c", Some(serde_json::from_value(class).unwrap()));
        let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
        let slice =
            json!({"spec": {"driver": "d", "nodeName": "n", "pool": pool, "devices": [{"name": "x"}, {"name": "y"}]}});
        let slice: ResourceSlice = serde_json::from_value(slice).unwrap();
        inventory.set_slice("s", Some(slice));
        let request = json!({"name": "r", "exactly": {"deviceClassName": "c", "count": 2}});
        let spec = serde_json::from_value(json!({"devices": {"requests": [request]}})).unwrap();
        let check = |before: u64, expected: Result<u64, &str>| {
            let wanted = Wanted::of("ns/claim", &spec, &inventory).unwrap();
            wanted.cost.store(before, Ordering::Relaxed);
            let labels = |_: &str| None;
            let node = NodeFacts { name: "n", labels: &labels };
            let found = allocate(&[&wanted], &node, &Used::default(), &inventory);
            let found = found.map(|_| wanted.cost.load(Ordering::Relaxed)).map_err(|error| error.to_string());
            match (&found, expected) {
                (Err(found), Err(part)) if found.contains(part) => {}
                _ => assert_eq!(found, expected.map_err(str::to_owned)),
            }
        };
        // Two devices, and for each the comparison, the field, its device and the literal, and the two texts.
        check(0, Ok(12));
        check(MAX_COST - 6, Ok(MAX_COST + 6));
        check(
            MAX_COST,
            Err("claim ns/claim: evaluating its selectors and those of its classes for all devices costs too much"),
        );
    }
}
