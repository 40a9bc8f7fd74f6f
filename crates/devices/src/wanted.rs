//! A claim's wishes, checked and compiled once.

use k8s_openapi::api::resource::v1::ResourceClaimSpec;

use crate::{Error, Inventory};

/// What one claim wants.
#[derive(Debug)]
pub struct Wanted {}

impl Wanted {
    /// Checks a claim's spec. `claim` is the claim's `namespace/name`, for messages.
    pub fn of(claim: &str, spec: &ResourceClaimSpec, inventory: &Inventory) -> Result<Wanted, Error> {
        let _ = (claim, spec, inventory);
        Ok(Wanted {})
    }
}
