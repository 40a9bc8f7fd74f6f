//! A pod with gates is not looked at before they are all removed.

use crate::{
    Pod,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point},
    world::World,
};

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn pre_enqueue(&self, pod: &Pod, _world: &World) -> Result<(), Rejection> {
        let gates = &pod.spec.scheduling_gates;
        if gates.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = gates.iter().map(|gate| &**gate).collect();
        Err(Rejection::unresolvable(format!("waiting for scheduling gates: [{}]", names.join(" "))))
    }

    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        // Only a change of the pod itself does, and that is not an event of others.
        false
    }
}
