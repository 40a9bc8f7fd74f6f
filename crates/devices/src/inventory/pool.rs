//! A pool of devices: the slices of its newest generation, whether they are all there, and whether they fit together.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use k8s_openapi::api::resource::v1::{self as api, DeviceCounterConsumption, ResourceSliceSpec};
use kube_schema::quantity::{self, Quantity};

use super::{
    Features,
    device::{Device, Place},
};
use crate::NodeFacts;

/// A pool's name. Pools of different drivers may share theirs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolId {
    pub driver: Arc<str>,
    pub pool: Arc<str>,
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.driver, self.pool)
    }
}

/// A slice as it was published, and its devices read.
#[derive(Debug)]
pub(crate) struct Slice {
    pub name: String,
    pub spec: ResourceSliceSpec,
    pub place: Place,
    pub devices: Vec<Device>,
    /// Why it cannot be used, if it cannot.
    flaw: Option<String>,
}

impl Slice {
    /// Reads a slice. `serial` numbers its devices.
    pub fn of(name: &str, spec: ResourceSliceSpec, serial: &mut u64, features: &Features) -> Slice {
        let per_device = spec.per_device_node_selection == Some(true);
        let place = match per_device {
            true => Place::PerDevice,
            false => Place::of(spec.node_name.as_ref(), spec.all_nodes, spec.node_selector.as_ref()),
        };
        let mut devices = Vec::new();
        let mut flaw = None;
        for device in spec.devices.iter().flatten() {
            *serial += 1;
            match Device::of(device, &spec.driver, per_device, *serial, features) {
                Ok(device) => devices.push(device),
                Err(error) => flaw = flaw.or(Some(error)),
            }
        }
        if flaw.is_some() {
            // A device that is left out would shift those after it.
            devices.clear();
        }
        Slice { name: name.to_owned(), spec, place, devices, flaw }
    }

    /// Whether it belongs to what the feature partitionable devices has brought.
    fn partitioned(&self) -> bool {
        self.spec.per_device_node_selection.is_some() || self.counts()
    }

    /// Whether it holds counters. Such a slice has no devices.
    fn counts(&self) -> bool {
        self.spec.shared_counters.as_ref().is_some_and(|counters| !counters.is_empty())
    }

    pub fn raw(&self, at: usize) -> &api::Device {
        let devices = self.spec.devices.as_ref().expect("a slice has a read device only for one that was published");
        &devices[at]
    }
}

/// What can be done with a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    /// Some slices of its newest generation have not been seen yet.
    Incomplete,
    /// Its slices contradict each other, in this way.
    Invalid(String),
}

/// A device that a pool offers.
#[derive(Debug)]
pub(crate) struct Offer {
    pub slice: Arc<Slice>,
    /// The device's number in its slice, and the slice's in its pool.
    pub at: usize,
    home: usize,
    /// What it takes: how much of which of the pool's counters.
    pub consumes: Vec<(usize, Quantity)>,
}

impl Offer {
    pub fn device(&self) -> &Device {
        &self.slice.devices[self.at]
    }

    pub fn raw(&self) -> &api::Device {
        self.slice.raw(self.at)
    }
}

/// The newest generation of a pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub id: PoolId,
    pub state: State,
    /// Where its slices are, those with counters too.
    places: Vec<Arc<Slice>>,
    /// Its devices by the names of their slices, then in the order that the driver gave them.
    pub offers: Vec<Offer>,
    /// How much there is of each counter.
    pub counters: Vec<Quantity>,
    /// Offers by device, if any takes from counters.
    pub by_name: HashMap<String, usize>,
    /// Whether several devices have one name; they may be on different nodes.
    doubles: bool,
}

/// What a node sees of a pool.
pub(crate) struct View<'a> {
    pub pool: &'a Pool,
    pub state: State,
    pub offers: Vec<&'a Offer>,
    /// Whether any of its devices has conditions for binding; such pools come last.
    pub conditional: bool,
}

impl Pool {
    /// Puts a pool together from all slices that name it.
    pub fn of(id: PoolId, slices: &BTreeMap<String, Arc<Slice>>, features: &Features) -> Pool {
        let newest = slices.values().map(|slice| slice.spec.pool.generation).max();
        let current = slices.values().filter(|slice| Some(slice.spec.pool.generation) == newest);
        let known = |slice: &&Arc<Slice>| features.partitionable_devices || !slice.partitioned();
        let all: Vec<Arc<Slice>> = current.cloned().collect();
        let places: Vec<Arc<Slice>> = all.iter().filter(known).cloned().collect();
        let mut pool = Pool {
            id,
            state: State::Ready,
            places,
            offers: Vec::new(),
            counters: Vec::new(),
            by_name: HashMap::new(),
            doubles: false,
        };
        let wanted = all.first().map_or(0, |slice| slice.spec.pool.resource_slice_count);
        if i64::try_from(all.len()) != Ok(wanted) {
            pool.state = State::Incomplete;
        } else if let Err(reason) = pool.fill(features) {
            pool.state = State::Invalid(reason);
        }
        pool
    }

    fn fill(&mut self, features: &Features) -> Result<(), String> {
        let mut names = HashSet::new();
        let index = self.counter_index()?;
        for (home, slice) in self.places.iter().enumerate() {
            if let Some(flaw) = &slice.flaw {
                return Err(flaw.clone());
            }
            // Without the feature, a slice with counters has not come this far.
            for at in 0..if slice.counts() { 0 } else { slice.devices.len() } {
                let raw = slice.raw(at);
                self.doubles |= !names.insert(raw.name.clone());
                let consumes = match features.partitionable_devices {
                    true => consumption(raw.consumes_counters.as_deref().unwrap_or_default(), &index)?,
                    false => Vec::new(),
                };
                if !consumes.is_empty() {
                    self.by_name.insert(raw.name.clone(), self.offers.len());
                }
                self.offers.push(Offer { slice: slice.clone(), at, home, consumes });
            }
        }
        Ok(())
    }

    /// Numbers the counters of the pool: by set, then by name.
    fn counter_index(&mut self) -> Result<HashMap<String, HashMap<String, usize>>, String> {
        let mut index = HashMap::new();
        for set in self.places.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten()) {
            let mut numbers = HashMap::new();
            for (name, counter) in &set.counters {
                let amount = quantity::parse(&counter.value.0).map_err(|error| format!("counter {name}: {error}"))?;
                numbers.insert(name.clone(), self.counters.len());
                self.counters.push(amount);
            }
            if index.insert(set.name.clone(), numbers).is_some() {
                return Err(format!("duplicate counter set name {}", set.name));
            }
        }
        Ok(index)
    }

    /// What the node sees of the pool; none if no slice is meant for it.
    pub fn view(&self, node: &NodeFacts<'_>) -> Result<Option<View<'_>>, (String, String)> {
        let mut near = Vec::with_capacity(self.places.len());
        for slice in &self.places {
            near.push(match slice.place {
                Place::PerDevice => any_reached(slice, node)?,
                _ => slice.place.reached_from(node).map_err(|error| (format!("slice {}", slice.name), error))?,
            });
        }
        if !near.contains(&true) {
            return Ok(None);
        }
        let mut view = View { pool: self, state: self.state.clone(), offers: Vec::new(), conditional: false };
        if self.state != State::Ready {
            return Ok(Some(view));
        }
        let mut names = HashSet::new();
        for offer in self.offers.iter().filter(|offer| near[offer.home]) {
            let name = &offer.raw().name;
            if self.doubles && !names.insert(name) {
                view.state = State::Invalid(format!("duplicate device name {name}"));
                view.offers.clear();
                break;
            }
            view.conditional |= offer.raw().binding_conditions.is_some();
            let place = || format!("device {name} in slice {}", offer.slice.name);
            if offer.device().place.reached_from(node).map_err(|error| (place(), error))? {
                view.offers.push(offer);
            }
        }
        Ok(Some(view))
    }
}

fn any_reached(slice: &Slice, node: &NodeFacts<'_>) -> Result<bool, (String, String)> {
    for (at, device) in slice.devices.iter().enumerate() {
        let place = || format!("device {} in slice {}", slice.raw(at).name, slice.name);
        if device.place.reached_from(node).map_err(|error| (place(), error))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn consumption(
    consumed: &[DeviceCounterConsumption],
    index: &HashMap<String, HashMap<String, usize>>,
) -> Result<Vec<(usize, Quantity)>, String> {
    let mut found = Vec::new();
    for set in consumed {
        let numbers = index.get(&set.counter_set);
        let numbers = numbers.ok_or_else(|| format!("counter set {} not found", set.counter_set))?;
        for (name, counter) in &set.counters {
            let missing = || format!("counter {name} not found in counter set {}", set.counter_set);
            let number = numbers.get(name).ok_or_else(missing)?;
            let amount = quantity::parse(&counter.value.0).map_err(|error| format!("counter {name}: {error}"))?;
            found.push((*number, amount));
        }
    }
    Ok(found)
}
