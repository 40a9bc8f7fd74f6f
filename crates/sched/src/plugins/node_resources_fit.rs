//! A node takes a pod when what is left covers its requests; the more is left, the better (LeastAllocated).

use super::{Event, Filter, MAX_SCORE, Score};
use crate::{NodeInfo, Pod, Resources, diagnosis::Rejection};

pub struct NodeResourcesFit;

impl Filter for NodeResourcesFit {
    fn filter(&self, pod: &Pod, info: &NodeInfo) -> Result<(), Rejection> {
        let mut rejection = Rejection { reasons: Vec::new(), unresolvable: false };
        if info.pods + 1 > info.node.allowed_pods {
            rejection.reasons.push("Too many pods".into());
        }
        let (asked, all, used) = (&pod.requests, &info.node.allocatable, &info.requested);
        let mut check = |asked: i64, all: i64, used: i64, reason: &dyn Fn() -> crate::diagnosis::Reason| {
            if asked > 0 && asked > all - used {
                rejection.reasons.push(reason());
                rejection.unresolvable |= asked > all;
            }
        };
        check(asked.milli_cpu, all.milli_cpu, used.milli_cpu, &|| "Insufficient cpu".into());
        check(asked.memory, all.memory, used.memory, &|| "Insufficient memory".into());
        check(asked.ephemeral_storage, all.ephemeral_storage, used.ephemeral_storage, &|| {
            "Insufficient ephemeral-storage".into()
        });
        for (name, amount) in &asked.scalars {
            check(*amount, all.scalar(name), used.scalar(name), &|| format!("Insufficient {name}").into());
        }
        if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
    }

    fn wakes(&self, pod: &Pod, event: &Event) -> bool {
        let fits = |node: &std::sync::Arc<crate::Node>| self.filter(pod, &NodeInfo::empty(node.clone())).is_ok();
        match event {
            Event::NodeAdded(node) => fits(node),
            Event::NodeUpdated { old, new } => {
                let grown = grows(&old.allocatable, &new.allocatable) || new.allowed_pods > old.allowed_pods;
                grown && fits(new)
            }
            // Each pod also holds one of the places that the node has for pods.
            Event::PodRemoved(_) => true,
        }
    }
}

fn grows(old: &Resources, new: &Resources) -> bool {
    new.milli_cpu > old.milli_cpu
        || new.memory > old.memory
        || new.ephemeral_storage > old.ephemeral_storage
        || new.scalars.iter().any(|(name, amount)| *amount > old.scalar(name))
}

impl Score for NodeResourcesFit {
    fn score(&self, pod: &Pod, info: &NodeInfo) -> i64 {
        let all = &info.node.allocatable;
        let (mut sum, mut counted) = (0, 0);
        for (all, used) in [
            (all.milli_cpu, info.scored_milli_cpu + pod.scored_milli_cpu),
            (all.memory, info.scored_memory + pod.scored_memory),
        ] {
            if all > 0 {
                counted += 1;
                sum += if used > all { 0 } else { left(all, used) };
            }
        }
        if counted == 0 { 0 } else { sum / counted }
    }
}

/// The share that is left, in 1/[`MAX_SCORE`].
fn left(all: i64, used: i64) -> i64 {
    let share = i128::from(all - used) * i128::from(MAX_SCORE) / i128::from(all);
    i64::try_from(share).unwrap_or(MAX_SCORE)
}
