//! Which pods to evict so that a more important one finds room (DefaultPreemption).
//!
//! For each node where that may help, all pods of lower priority are taken off in thought, and put back, the most important
//! first, as long as the new pod still fits. Of the nodes, the one with the least harm is taken.

mod budgets;
mod known;

use std::{borrow::Borrow, cmp::Reverse, collections::BTreeMap, sync::Arc};

use crate::{
    Pod,
    diagnosis::{Reason, Rejection},
    plan::Plan,
    plugins::default_preemption::Args,
    profile::PluginIndex,
    world::{NodeId, Resident, World},
};
pub use budgets::Budget;
pub(crate) use budgets::Budgets;
pub(crate) use known::Known;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
pub(crate) const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// The pods to evict, and the node that they leave.
#[derive(Clone, Debug)]
pub struct Victims {
    pub node: Arc<str>,
    /// The most important first.
    pub pods: Vec<Arc<Pod>>,
    /// How many of them their budgets do not allow to be evicted.
    pub violations: usize,
    /// Pods of lower priority that the node had been freed for before.
    pub displaced: Vec<Arc<Pod>>,
}

/// Why no eviction would help.
#[derive(Debug, Default)]
pub(crate) struct Vain {
    /// For how many nodes.
    pub reasons: BTreeMap<Reason, usize>,
    /// The plugins that reject the pod also where others were evicted, one bit each: what they wait for may make evictions
    /// worth while, so it must wake the pod, though they were not asked before or had nothing against it.
    pub rejected_by: u64,
}

impl Vain {
    fn add(&mut self, (plugin, rejection): Refusal, nodes: usize) {
        self.rejected_by |= plugin.map_or(0, |plugin| 1 << plugin);
        for reason in rejection.reasons {
            *self.reasons.entry(reason).or_default() += nodes;
        }
    }
}

/// Why evictions on a node do not help, and the plugin that says so, if one does.
type Refusal = (Option<PluginIndex>, Rejection);

/// Nodes that can be freed, with the best of them; or why there are none. `several`: somebody else chooses, and needs enough to
/// choose from.
pub(crate) fn candidates(
    plan: &mut Plan,
    world: &mut World,
    pod: &Pod,
    args: &Args,
    budgets: &Budgets,
    start: usize,
    several: bool,
) -> Found {
    let nodes = world.known_nodes();
    if world.lowest_priority().is_none_or(|lowest| lowest >= pod.priority()) {
        // Nobody anywhere is less important: the nodes need not be looked at.
        let resolvable = plan.resolvable_nodes(world);
        let reasons = [(NO_VICTIMS, resolvable), (NOT_HELPFUL, nodes - resolvable)];
        let some = reasons.into_iter().filter(|(_, nodes)| *nodes > 0);
        let reasons = some.map(|(reason, nodes)| (Reason::Borrowed(reason), nodes)).collect();
        return Err(Vain { reasons, rejected_by: 0 });
    }
    let wanted = (nodes * args.min_candidate_nodes_percentage / 100).max(args.min_candidate_nodes_absolute).min(nodes);
    // What depends on more than the node is asked anew each time.
    let remembered = (plan.is_kept() && plan.looks_at_nodes_alone())
        .then(|| Known::candidates(plan, world, pod, budgets, if several { wanted } else { 1 }, wanted))
        .flatten();
    let (found, asked) = remembered.unwrap_or_else(|| sample(plan, world, pod, budgets, start, wanted));
    found.map_err(|mut vain| {
        if nodes > asked {
            *vain.reasons.entry(Reason::Borrowed(NOT_HELPFUL)).or_default() += nodes - asked;
        }
        vain
    })
}

type Found = Result<Vec<Arc<Victims>>, Vain>;

/// Asks about nodes from `start` on until enough can be freed; the number is of those asked.
fn sample(
    plan: &mut Plan,
    world: &mut World,
    pod: &Pod,
    budgets: &Budgets,
    start: usize,
    wanted: usize,
) -> (Found, usize) {
    let (mut found, mut vain, mut asked) = (Vec::new(), Vain::default(), 0);
    let order = world.order();
    for step in 0..order.len() {
        let node = order[(start + step) % order.len()];
        if !plan.is_resolvable(world, node) {
            continue;
        }
        asked += 1;
        match victims_on(plan, world, pod, node, budgets) {
            Ok(victims) => found.push(Arc::new(victims)),
            Err(refusal) => vain.add(refusal, 1),
        }
        if found.len() >= wanted {
            break;
        }
    }
    (if found.is_empty() { Err(vain) } else { Ok(found) }, asked)
}

/// The evictions that do the least harm.
pub(crate) fn least_harm<V: Borrow<Victims>>(candidates: impl IntoIterator<Item = V>) -> Option<V> {
    candidates.into_iter().min_by_key(|victims| harm(victims.borrow()))
}

/// Broken budgets, the highest priority, the sum of priorities, the number of pods, the earliest start of the most important.
pub(crate) type Harm = (usize, i32, i64, usize, Reverse<i64>);

/// The harm that evictions do, in the order in which it counts: broken budgets, the highest priority, the sum of priorities, the
/// number of pods; and then rather pods that were started lately.
fn harm(victims: &Victims) -> Harm {
    let highest = victims.pods.iter().map(|pod| pod.priority()).max().unwrap_or(i32::MIN);
    // Shifted, so that a few pods of negative priority are not less harm than one.
    let sum = victims.pods.iter().map(|pod| i64::from(pod.priority()) + i64::from(i32::MAX) + 1).sum();
    let earliest = victims.pods.iter().filter(|pod| pod.priority() == highest).map(|pod| pod.started).min();
    (victims.violations, highest, sum, victims.pods.len(), Reverse(earliest.unwrap_or(i64::MAX)))
}

fn victims_on(
    plan: &mut Plan,
    world: &mut World,
    pod: &Pod,
    node: NodeId,
    budgets: &Budgets,
) -> Result<Victims, Refusal> {
    let lower = world.info(node).residents.iter().filter(|resident| resident.pod.priority() < pod.priority());
    let mut lower: Vec<Resident> = lower.cloned().collect();
    let nobody = || (None, Rejection::unresolvable(NO_VICTIMS));
    if lower.is_empty() {
        return Err(nobody());
    }
    let importance = |resident: &Resident| (Reverse(resident.pod.priority()), resident.pod.started);
    lower.sort_by_key(importance);
    for resident in &lower {
        world.count_resident(node, resident, -1);
    }
    let mut evicted: Vec<&Resident> = Vec::new();
    let mut violations = 0;
    let answer = plan.fits_now(world, node);
    if answer.is_ok() {
        let (violating, allowed) = budgets.divide(&lower);
        let violating = violating.into_iter().map(|resident| (resident, true));
        for (resident, violates) in violating.chain(allowed.into_iter().map(|resident| (resident, false))) {
            world.count_resident(node, resident, 1);
            if plan.fits_now(world, node).is_err() {
                world.count_resident(node, resident, -1);
                evicted.push(resident);
                violations += usize::from(violates);
            }
        }
    } else {
        evicted.extend(&lower);
    }
    for resident in &evicted {
        world.count_resident(node, resident, 1);
    }
    answer.map_err(|(plugin, rejection)| (Some(plugin), rejection))?;
    if evicted.is_empty() {
        return Err(nobody());
    }
    evicted.sort_by_key(|resident| importance(resident));
    let pods = evicted.iter().map(|resident| resident.pod.clone()).collect();
    Ok(Victims { node: world.info(node).node.name.clone(), pods, violations, displaced: Vec::new() })
}
