//! Taints keep pods away that do not tolerate them; the softer ones only make a node less good.

use super::{Filter, Score, normalize};
use crate::{NodeInfo, Pod, TaintEffect, diagnosis::Rejection};

pub struct TaintToleration;

impl Filter for TaintToleration {
    fn filter(&self, pod: &Pod, info: &NodeInfo) -> Result<(), Rejection> {
        let hard = info.node.taints.iter().filter(|taint| taint.effect != TaintEffect::PreferNoSchedule);
        for taint in hard {
            if !pod.tolerates(taint) {
                return Err(Rejection::unresolvable("node(s) had untolerated taint(s)"));
            }
        }
        Ok(())
    }
}

impl Score for TaintToleration {
    fn score(&self, pod: &Pod, info: &NodeInfo) -> i64 {
        let soft = info.node.taints.iter().filter(|taint| taint.effect == TaintEffect::PreferNoSchedule);
        i64::try_from(soft.filter(|taint| !pod.tolerates(taint)).count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, true);
    }
}
