//! How much of a device an allocation takes, where the device can be shared, and whether that is still there.

use std::collections::BTreeMap;

use kube_schema::quantity::{Format, Quantity};

use crate::{
    inventory::{Capacity, Device, Policy, Range},
    wanted::Alternative,
};

/// Amounts by the names of capacities.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// Whether amounts need not be looked at: nothing is asked for, and who has the device has all of it.
pub(super) fn is_plain(asked: &Alternative, device: &Device) -> bool {
    let plain = |capacity: &Capacity| capacity.policy.is_none();
    asked.capacity.is_empty() && !device.shareable && device.capacity.values().all(plain)
}

/// What an allocation takes of each capacity: what was asked for, rounded up to what the device's policy has on offer;
/// the default, or everything, where nothing was asked for. None if the policy has nothing of the kind, or something
/// is asked for that the device does not have at all.
pub(super) fn taken(asked: &Alternative, device: &BTreeMap<String, Capacity>) -> Option<Amounts> {
    if asked.capacity.keys().any(|name| !device.contains_key(name)) {
        return None;
    }
    let mut amounts = Amounts::new();
    for (name, capacity) in device {
        let amount = rounded(asked.capacity.get(name), capacity);
        if capacity.policy.as_ref().is_some_and(|policy| !allows(policy, &amount)) {
            return None;
        }
        amounts.insert(name.clone(), amount);
    }
    Some(amounts)
}

/// Whether a device has so much, beside what others take.
pub(super) fn fits(amounts: &Amounts, device: &BTreeMap<String, Capacity>, others: &[&Amounts]) -> bool {
    amounts.iter().all(|(name, amount)| {
        let others = others.iter().filter_map(|other| other.get(name));
        let total = others.fold(*amount, |total, other| total.plus(other));
        device.get(name).is_some_and(|capacity| total <= capacity.value)
    })
}

fn rounded(asked: Option<&Quantity>, capacity: &Capacity) -> Quantity {
    let policy = capacity.policy.as_ref();
    let Some(asked) = asked else {
        return policy.and_then(|policy| policy.default).unwrap_or(capacity.value);
    };
    match policy {
        Some(Policy { range: Some(range @ Range { min: Some(min), .. }), .. }) => in_range(asked, min, range),
        Some(Policy { values, .. }) => values.iter().find(|value| asked <= value).copied().unwrap_or(*asked),
        None => *asked,
    }
}

/// The first step from the range's lower end on that is enough.
fn in_range(asked: &Quantity, min: &Quantity, range: &Range) -> Quantity {
    let Some(step) = range.step.filter(|_| asked >= min) else { return *asked.max(min) };
    let (asked, min, step) = (i128::from(asked.value()), i128::from(min.value()), i128::from(step.value()));
    let steps = (asked - min + step - 1) / step;
    Quantity::from_value(i64::try_from(min + steps * step).unwrap_or(i64::MAX), Format::BinarySi)
}

fn allows(policy: &Policy, amount: &Quantity) -> bool {
    if policy.default.as_ref() == Some(amount) {
        return true;
    }
    match &policy.range {
        Some(range) => {
            let below = range.max.is_none_or(|max| *amount <= max);
            let on_step = match (range.step, range.min) {
                (Some(step), Some(min)) => {
                    (i128::from(amount.value()) - i128::from(min.value())) % i128::from(step.value()) == 0
                }
                _ => true,
            };
            below && on_step
        }
        None => policy.values.is_empty() || policy.values.contains(amount),
    }
}
