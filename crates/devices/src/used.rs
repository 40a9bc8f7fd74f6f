//! Which devices are taken, and how much of what is shared.

use k8s_openapi::api::resource::v1::AllocationResult;

/// What the allocations that stand have taken. Allocations with admin access take nothing.
#[derive(Clone, Debug, Default)]
pub struct Used {}

impl Used {
    /// Counts an allocation in.
    pub fn add(&mut self, allocation: &AllocationResult) {
        let _ = allocation;
    }

    /// Counts out an allocation that was counted in.
    pub fn remove(&mut self, allocation: &AllocationResult) {
        let _ = allocation;
    }
}
