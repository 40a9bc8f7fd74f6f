//! Devices that are the same for all that is wanted. Where one leads nowhere, neither does its twin: whatever could be
//! done with the one could be done with the other in its place.

use std::sync::Arc;

use super::{constraints, ground::Candidate};
use crate::wanted::Wanted;

/// Whether two devices of which nothing is taken differ in nothing but their names and what nobody asks about. Whether
/// selectors choose both is not looked at here.
pub(super) fn alike(one: &Candidate<'_>, two: &Candidate<'_>, wanted: &[&Wanted], lists: bool) -> bool {
    let same_home = Arc::ptr_eq(&one.offer.slice, &two.offer.slice);
    if !same_home || one.taken.is_some() || two.taken.is_some() {
        return false;
    }
    let driver = &*one.offer.slice.spec.driver;
    let (one, two) = (one.offer.raw(), two.offer.raw());
    let mut constraints = wanted.iter().flat_map(|wanted| &wanted.constraints);
    one.allow_multiple_allocations == two.allow_multiple_allocations
        && one.capacity == two.capacity
        && one.consumes_counters == two.consumes_counters
        && one.taints == two.taints
        && (&one.node_name, &one.node_selector, one.all_nodes) == (&two.node_name, &two.node_selector, two.all_nodes)
        && one.binds_to_node == two.binds_to_node
        && one.binding_conditions == two.binding_conditions
        && constraints.all(|constraint| {
            let values = |device| constraints::values(device, driver, &constraint.attribute, lists);
            values(one) == values(two)
        })
}
