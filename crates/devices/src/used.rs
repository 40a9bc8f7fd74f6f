//! Which devices are taken, and how much of what is shared.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult};
use kube_schema::quantity::{self, Quantity};

/// What the allocations that stand have taken. Allocations with admin access take nothing.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// By driver, pool and device.
    drivers: HashMap<String, HashMap<String, Devices>>,
}

/// The taken devices of a pool.
pub(crate) type Devices = HashMap<String, Taken>;

/// What of one device is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Allocations that have it for themselves; more than one only if somebody else wrote them.
    pub wholly: usize,
    /// Allocations that share it.
    pub shares: usize,
    /// What the shares have taken, as far as they say so.
    pub capacity: BTreeMap<String, Quantity>,
}

impl Used {
    /// Counts an allocation in.
    pub fn add(&mut self, allocation: &AllocationResult) {
        for result in taking(allocation) {
            let pools = self.drivers.entry(result.driver.clone()).or_default();
            let taken = pools.entry(result.pool.clone()).or_default().entry(result.device.clone()).or_default();
            if result.share_id.is_none() {
                taken.wholly += 1;
                continue;
            }
            taken.shares += 1;
            for (name, amount) in capacity(result) {
                let sum = taken.capacity.get(name).map_or(amount, |before| before.plus(&amount));
                taken.capacity.insert(name.clone(), sum);
            }
        }
    }

    /// Counts out an allocation that was counted in.
    pub fn remove(&mut self, allocation: &AllocationResult) {
        for result in taking(allocation) {
            let Some(pools) = self.drivers.get_mut(&result.driver) else { continue };
            let Some(devices) = pools.get_mut(&result.pool) else { continue };
            let Some(taken) = devices.get_mut(&result.device) else { continue };
            if result.share_id.is_none() {
                taken.wholly = taken.wholly.saturating_sub(1);
            } else {
                taken.shares = taken.shares.saturating_sub(1);
                for (name, amount) in capacity(result) {
                    if let Some(sum) = taken.capacity.get_mut(name) {
                        *sum = sum.minus(&amount);
                    }
                }
            }
            if taken.wholly == 0 && taken.shares == 0 {
                devices.remove(&result.device);
            }
            if devices.is_empty() {
                pools.remove(&result.pool);
            }
            if pools.is_empty() {
                self.drivers.remove(&result.driver);
            }
        }
    }

    /// The taken devices of a pool.
    pub(crate) fn pool(&self, driver: &str, pool: &str) -> Option<&Devices> {
        self.drivers.get(driver)?.get(pool)
    }
}

fn taking(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
    results.filter(|result| result.admin_access != Some(true))
}

/// What a share says that it takes. An amount that cannot be read was never allocated here.
fn capacity(result: &DeviceRequestAllocationResult) -> impl Iterator<Item = (&String, Quantity)> {
    let amounts = result.consumed_capacity.iter().flatten();
    amounts.filter_map(|(name, amount)| Some((name, quantity::parse(&amount.0).ok()?)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::resource::v1::DeviceAllocationResult, apimachinery::pkg::api::resource};

    use super::*;

    fn allocation(device: &str, share: Option<&str>, memory: Option<&str>, admin: bool) -> AllocationResult {
        let result = DeviceRequestAllocationResult {
            driver: "d".into(),
            pool: "p".into(),
            device: device.into(),
            share_id: share.map(str::to_owned),
            consumed_capacity: memory.map(|memory| [("memory".into(), resource::Quantity(memory.into()))].into()),
            admin_access: admin.then_some(true),
            ..Default::default()
        };
        let devices = DeviceAllocationResult { results: Some(vec![result]), config: None };
        AllocationResult { devices: Some(devices), ..Default::default() }
    }

    #[test]
    fn what_is_counted_in_can_be_counted_out() {
        let mut used = Used::default();
        let whole = allocation("whole", None, None, false);
        let shares =
            [allocation("shared", Some("1"), Some("1Gi"), false), allocation("shared", Some(""), Some("512Mi"), false)];
        used.add(&whole);
        used.add(&allocation("seen", None, None, true));
        shares.iter().for_each(|share| used.add(share));
        let taken = |used: &Used, device: &str| used.pool("d", "p").and_then(|devices| devices.get(device).cloned());
        assert_eq!(taken(&used, "whole").map(|taken| (taken.wholly, taken.shares)), Some((1, 0)));
        assert_eq!(taken(&used, "seen"), None, "admin access takes nothing");
        let memory = |used: &Used| taken(used, "shared").map(|taken| taken.capacity["memory"].to_string());
        assert_eq!(memory(&used).as_deref(), Some("1536Mi"));
        used.remove(&shares[0]);
        assert_eq!(memory(&used).as_deref(), Some("512Mi"));
        used.remove(&shares[1]);
        used.remove(&whole);
        assert!(used.drivers.is_empty(), "{used:?}");
    }
}
