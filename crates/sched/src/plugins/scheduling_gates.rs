//! A pod with scheduling gates waits until all are taken away.

use super::PreEnqueue;
use crate::Pod;

pub struct SchedulingGates;

impl PreEnqueue for SchedulingGates {
    fn may_enqueue(&self, pod: &Pod) -> bool {
        pod.scheduling_gates.is_empty()
    }
}
