//! The labels and names of nodes that a pod requires (nodeSelector, node affinity), and those that it prefers.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    Field, Node, NodeInfo, Operator, Pod, PreferredTerm, Term,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter, PreScore, Scaled},
    world::World,
};

const MISMATCH: &str = "node(s) didn't match Pod's node affinity/selector";
const ENFORCED_MISMATCH: &str = "node(s) didn't match scheduler-enforced node affinity";

/// NodeAffinityArgs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Required of every pod of the profile besides what it requires itself: one of these terms.
    pub added_required: Option<Vec<Term>>,
    pub added_preferred: Vec<PreferredTerm>,
}

pub struct NodeAffinity {
    added: Arc<Args>,
}

impl NodeAffinity {
    pub fn new(args: &Args) -> Self {
        NodeAffinity { added: Arc::new(args.clone()) }
    }

    fn admits(&self, pod: &Pod, node: &Node) -> bool {
        let enforced = self.added.added_required.as_ref();
        enforced.is_none_or(|terms| any(terms, node)) && pod.spec.admits(node)
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &str {
        "NodeAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        if !pod.spec.restricts_nodes() && self.added.added_required.is_none() {
            return Ok(PreFilter::default());
        }
        let only = pod.spec.required_affinity.as_ref().and_then(|terms| names(terms));
        if only.as_ref().is_some_and(Vec::is_empty) {
            return Err(Rejection::unresolvable("pod affinity terms conflict"));
        }
        let (added, spec) = (self.added.clone(), pod.spec.clone());
        let filter = move |info: &NodeInfo, _: &World| {
            if added.added_required.as_ref().is_some_and(|terms| !any(terms, &info.node)) {
                Err(Rejection::unresolvable(ENFORCED_MISMATCH))
            } else if spec.admits(&info.node) {
                Ok(())
            } else {
                Err(Rejection::unresolvable(MISMATCH))
            }
        };
        Ok(PreFilter { only, ..PreFilter::by_node(filter) })
    }

    fn pre_score(&self, pod: &Pod, _world: &mut World) -> PreScore {
        if pod.spec.preferred_affinity.is_empty() && self.added.added_preferred.is_empty() {
            return PreScore::default();
        }
        let (added, spec) = (self.added.clone(), pod.spec.clone());
        let number = move |info: &NodeInfo, _: &World| {
            let preferred = added.added_preferred.iter().chain(&spec.preferred_affinity);
            let matching = preferred.filter(|preferred| preferred.term.matches(&info.node));
            matching.map(|preferred| i64::from(preferred.weight)).sum()
        };
        PreScore::by_group(Scaled { number, reverse: false })
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            Event::NodeAdded(node) => self.admits(pod, node),
            Event::NodeUpdated { old, new } => !self.admits(pod, old) && self.admits(pod, new),
            _ => false,
        }
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        (&old.spec.node_selector, &old.spec.required_affinity) != (&new.spec.node_selector, &new.spec.required_affinity)
    }
}

fn any(terms: &[Term], node: &Node) -> bool {
    terms.iter().any(|term| term.matches(node))
}

/// The only nodes that can match, when every term names some.
fn names(terms: &[Term]) -> Option<Vec<Arc<str>>> {
    let mut all = BTreeSet::new();
    for term in terms {
        let by_name = term.requirements.iter().filter(|r| r.field == Field::Name && r.operator == Operator::In);
        let lists: Vec<BTreeSet<&Arc<str>>> = by_name.map(|r| r.values.iter().collect()).collect();
        let (first, others) = lists.split_first()?;
        let common = first.iter().filter(|name| others.iter().all(|other| other.contains(**name)));
        all.extend(common.map(|name| (*name).clone()));
    }
    (!terms.is_empty()).then(|| all.into_iter().collect())
}
