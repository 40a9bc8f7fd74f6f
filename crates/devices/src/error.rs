//! Why no allocation was found, where a plain "does not fit here" would hide something that somebody must repair.

/// What stopped an allocation. The texts are Kubernetes' own where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A selector that cannot be compiled or fails on a device.
    #[error("{owner}: selector #{index}: CEL {stage} error: {reason}")]
    Selector { owner: String, index: usize, stage: &'static str, reason: String },
    /// The claim asks for what cannot be had, or is not understood.
    #[error("claim {claim}{place}: {reason}")]
    Claim { claim: String, place: String, reason: String },
    /// A node selector in a slice that is not one.
    #[error("failed to perform node selection for {place}: {reason}")]
    Slice { place: String, reason: String },
    /// Nothing was found, and some pools could not be looked into.
    #[error("invalid resource pools were encountered")]
    InvalidPools,
    /// The search has been given up.
    #[error(
        "gave up after {steps} steps of looking for devices of {claims}: selectors and constraints leave too many \
         combinations; ask for fewer devices, or narrow the selectors"
    )]
    SearchLimit { claims: String, steps: u64 },
}

impl Error {
    /// Whether another node may still do. Otherwise nothing fits anywhere until somebody repairs the claim, the class
    /// or the slices.
    pub fn only_here(&self) -> bool {
        matches!(self, Error::InvalidPools | Error::SearchLimit { .. })
    }
}
