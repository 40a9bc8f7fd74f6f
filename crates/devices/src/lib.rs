//! Which devices a claim gets: the allocator of Dynamic Resource Allocation with structured parameters, as
//! `resource.k8s.io/v1` of Kubernetes v1.36 defines it.
//!
//! ```text
//! ResourceSlice, DeviceClass ──► Inventory ──┐
//! ResourceClaim's spec ────────► Wanted ─────┼─► allocate(node) ──► AllocationResult of each claim
//! allocations that stand ──────► Used ───────┘
//! ```
//!
//! It knows no clock, no socket and no entropy: the same slices, claims and node give the same devices. It neither
//! reads nor writes the API; who asks brings the objects and stores the result.

mod allocate;
mod cel;
mod error;
mod inventory;
mod node;
mod used;
mod wanted;

pub use allocate::{allocate, name_shares};
pub use error::Error;
pub use inventory::{Features, Inventory};
pub use node::{NodeFacts, reaches};
pub use used::Used;
pub use wanted::Wanted;
