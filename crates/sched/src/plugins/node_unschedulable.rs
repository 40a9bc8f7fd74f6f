//! A cordoned node takes only pods that tolerate the taint which stands for it.

use super::Filter;
use crate::{NodeInfo, Pod, Taint, TaintEffect, diagnosis::Rejection};

pub struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn filter(&self, pod: &Pod, info: &NodeInfo) -> Result<(), Rejection> {
        if !info.node.unschedulable {
            return Ok(());
        }
        let key = "node.kubernetes.io/unschedulable".into();
        let taint = Taint { key, value: "".into(), effect: TaintEffect::NoSchedule };
        if pod.tolerates(&taint) { Ok(()) } else { Err(Rejection::unresolvable("node(s) were unschedulable")) }
    }
}
