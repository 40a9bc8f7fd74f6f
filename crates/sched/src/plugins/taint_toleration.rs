//! Taints keep pods away that do not tolerate them; the softer ones only make a node less good.

use std::sync::Arc;

use crate::{
    Node, NodeInfo, Pod, Spec, TaintEffect,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter, PreScore, Scaled},
    world::World,
};

pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        let spec = pod.spec.clone();
        Ok(PreFilter::by_node(move |info: &NodeInfo, _: &World| {
            if admits(&spec, &info.node) {
                Ok(())
            } else {
                Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
            }
        }))
    }

    fn pre_score(&self, pod: &Pod, _world: &mut World) -> PreScore {
        let spec = pod.spec.clone();
        let number = move |info: &NodeInfo, _: &World| intolerable(&spec, &info.node);
        PreScore::by_group(Scaled { number, reverse: true })
    }

    fn helps(&self, pod: &Pod, event: &Event, _world: &World) -> bool {
        match event {
            Event::NodeAdded(node) => admits(&pod.spec, node),
            Event::NodeUpdated { old, new } => !admits(&pod.spec, old) && admits(&pod.spec, new),
            _ => false,
        }
    }

    fn helps_itself(&self, old: &Pod, new: &Pod) -> bool {
        old.spec.tolerations != new.spec.tolerations
    }
}

fn admits(spec: &Spec, node: &Arc<Node>) -> bool {
    let mut hard = node.taints.iter().filter(|taint| taint.effect != TaintEffect::PreferNoSchedule);
    hard.all(|taint| spec.tolerates(taint))
}

/// How many of the node's soft taints the pod does not tolerate.
fn intolerable(spec: &Spec, node: &Node) -> i64 {
    let soft = node.taints.iter().filter(|taint| taint.effect == TaintEffect::PreferNoSchedule);
    i64::try_from(soft.filter(|taint| !spec.tolerates(taint)).count()).unwrap_or(i64::MAX)
}
