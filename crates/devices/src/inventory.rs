//! The devices that drivers have published, and the classes that sort them.
//!
//! Slices are kept by pool, and pools are found by node: a node that no device is meant for costs a look-up. A pool is
//! put together when it is first asked for after a change of its slices, so that a driver may publish a large one slice
//! by slice.

mod device;
mod pool;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use k8s_openapi::api::resource::v1::{DeviceClass, DeviceClassSpec, ResourceSlice};

pub(crate) use device::{Capacity, Device, Policy, Range};
pub(crate) use pool::{Offer, Pool, State, View};

use crate::{Error, NodeFacts, wanted::Selector};
use device::Place;
use pool::{PoolId, Slice};

/// Which parts of the API are looked at; the default is that of Kubernetes v1.36.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    pub admin_access: bool,
    pub prioritized_list: bool,
    pub partitionable_devices: bool,
    pub device_taints: bool,
    pub consumable_capacity: bool,
    /// DRADeviceBindingConditions together with DRAResourceClaimDeviceStatus.
    pub device_binding_conditions: bool,
    pub list_type_attributes: bool,
}

impl Default for Features {
    fn default() -> Self {
        Features {
            admin_access: true,
            prioritized_list: true,
            partitionable_devices: true,
            device_taints: true,
            consumable_capacity: true,
            device_binding_conditions: true,
            list_type_attributes: false,
        }
    }
}

/// Slices by pool and node, classes by name.
#[derive(Debug, Default)]
pub struct Inventory {
    features: Features,
    classes: HashMap<String, Arc<Class>>,
    /// Which pool each slice belongs to.
    homes: HashMap<String, PoolId>,
    pools: BTreeMap<PoolId, Entry>,
    /// The pools that have slices or devices just for a node, with their number.
    local: HashMap<String, BTreeMap<PoolId, usize>>,
    /// The pools that may reach any node, with the number of such slices.
    shared: BTreeMap<PoolId, usize>,
    /// The number of the last device that was read.
    serial: u64,
}

/// A class with its selectors compiled.
#[derive(Debug)]
pub(crate) struct Class {
    pub name: String,
    pub spec: DeviceClassSpec,
    pub selectors: Vec<Selector>,
}

#[derive(Debug, Default)]
struct Entry {
    slices: BTreeMap<String, Arc<Slice>>,
    built: OnceLock<Pool>,
}

impl Inventory {
    pub fn new(features: Features) -> Self {
        Inventory { features, ..Inventory::default() }
    }

    /// Takes in a slice, or forgets it (`None`). Says whether anything changed that an allocation can depend on.
    pub fn set_slice(&mut self, name: &str, slice: Option<ResourceSlice>) -> bool {
        let before = self.homes.get(name).and_then(|id| self.pools.get(id)?.slices.get(name));
        match (&slice, before) {
            (None, None) => return false,
            (Some(slice), Some(before)) if slice.spec == before.spec => return false,
            _ => self.forget(name),
        }
        let Some(slice) = slice else { return true };
        let slice = Slice::of(name, slice.spec, &mut self.serial, &self.features);
        let id = PoolId { driver: (&*slice.spec.driver).into(), pool: (&*slice.spec.pool.name).into() };
        let (nodes, shared) = reached(&slice);
        for node in nodes {
            *self.local.entry(node.to_owned()).or_default().entry(id.clone()).or_default() += 1;
        }
        if shared {
            *self.shared.entry(id.clone()).or_default() += 1;
        }
        self.homes.insert(name.to_owned(), id.clone());
        let entry = self.pools.entry(id).or_default();
        entry.slices.insert(name.to_owned(), Arc::new(slice));
        entry.built = OnceLock::new();
        true
    }

    /// Takes in a class, or forgets it (`None`). Says whether anything changed that an allocation can depend on.
    pub fn set_class(&mut self, name: &str, class: Option<DeviceClass>) -> bool {
        let Some(class) = class else { return self.classes.remove(name).is_some() };
        if self.classes.get(name).is_some_and(|before| before.spec == class.spec) {
            return false;
        }
        let selectors = class.spec.selectors.iter().flatten().map(Selector::of).collect();
        let class = Class { name: name.to_owned(), spec: class.spec, selectors };
        self.classes.insert(name.to_owned(), Arc::new(class));
        true
    }

    pub(crate) fn features(&self) -> &Features {
        &self.features
    }

    pub(crate) fn class(&self, name: &str) -> Option<&Arc<Class>> {
        self.classes.get(name)
    }

    /// What the node sees of all pools that are meant for it. Pools with conditions for binding come last; else the
    /// order is that of their names, so that a driver can have one preferred.
    pub(crate) fn views(&self, node: &NodeFacts<'_>) -> Result<Vec<View<'_>>, Error> {
        let local = self.local.get(node.name).into_iter().flat_map(BTreeMap::keys);
        let ids: BTreeSet<&PoolId> = local.chain(self.shared.keys()).collect();
        let mut views = Vec::new();
        for id in ids {
            let Some(entry) = self.pools.get(id) else { continue };
            let pool = entry.built.get_or_init(|| Pool::of(id.clone(), &entry.slices, &self.features));
            let view = pool.view(node).map_err(|(place, reason)| Error::Slice { place, reason })?;
            views.extend(view);
        }
        views.sort_by_key(|view| view.conditional);
        Ok(views)
    }

    /// Undoes what `set_slice` has done for a slice.
    fn forget(&mut self, name: &str) {
        let Some(id) = self.homes.remove(name) else { return };
        let Some(entry) = self.pools.get_mut(&id) else { return };
        entry.built = OnceLock::new();
        let slice = entry.slices.remove(name);
        if entry.slices.is_empty() {
            self.pools.remove(&id);
        }
        let Some(slice) = slice else { return };
        let (nodes, shared) = reached(&slice);
        for node in nodes {
            if let Some(pools) = self.local.get_mut(node) {
                discount(pools, &id);
                if pools.is_empty() {
                    self.local.remove(node);
                }
            }
        }
        if shared {
            discount(&mut self.shared, &id);
        }
    }
}

fn discount(pools: &mut BTreeMap<PoolId, usize>, id: &PoolId) {
    if let Some(count) = pools.get_mut(id) {
        *count -= 1;
        if *count == 0 {
            pools.remove(id);
        }
    }
}

/// The nodes that a slice names, and whether it may reach others.
fn reached(slice: &Slice) -> (BTreeSet<&str>, bool) {
    let mut nodes = BTreeSet::new();
    let mut shared = false;
    let devices = slice.devices.iter().map(|device| &device.place);
    // A device's place counts only where the slice leaves it to them.
    let devices = devices.filter(|_| matches!(slice.place, Place::PerDevice));
    for place in devices.chain([&slice.place]) {
        match place {
            Place::Node(name) => drop(nodes.insert(&**name)),
            Place::Everywhere | Place::Selected(_) => shared = true,
            Place::PerDevice | Place::Nowhere => {}
        }
    }
    (nodes, shared)
}

#[cfg(test)]
mod tests;
