//! `nodeSelector` and node affinity: which nodes a pod must and would like to run on.

use super::{Filter, Score, normalize};
use crate::{NodeInfo, Pod, diagnosis::Rejection};

pub struct NodeAffinity;

impl Filter for NodeAffinity {
    fn filter(&self, pod: &Pod, info: &NodeInfo) -> Result<(), Rejection> {
        let selected = pod.node_selector.iter().all(|(key, value)| info.node.label(key) == Some(&**value));
        let required = pod.required_affinity.as_ref();
        let wanted = required.is_none_or(|terms| terms.iter().any(|term| term.matches(&info.node)));
        if selected && wanted {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"))
    }
}

impl Score for NodeAffinity {
    fn skips(&self, pod: &Pod) -> bool {
        pod.preferred_affinity.is_empty()
    }

    fn score(&self, pod: &Pod, info: &NodeInfo) -> i64 {
        let matching = pod.preferred_affinity.iter().filter(|preferred| preferred.term.matches(&info.node));
        matching.map(|preferred| i64::from(preferred.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, false);
    }
}
