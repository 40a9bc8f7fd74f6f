//! Why no allocation was found, where a plain "does not fit here" would hide something that somebody must repair.

/// What stopped an allocation. The texts are Kubernetes' own where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A selector that cannot be compiled, or fails on a device.
    #[error("{owner}: selector #{index}: CEL {stage} error: {reason}")]
    Selector { owner: String, index: usize, stage: &'static str, reason: String },
    /// The claim asks for what cannot be had, or is not understood. `here`: by this node only.
    #[error("claim {claim}{place}: {reason}")]
    Claim { claim: String, place: String, reason: String, here: bool },
    /// A node selector in a slice that is none.
    #[error("failed to perform node selection for {place}: {reason}")]
    Slice { place: String, reason: String },
    /// Nothing was found, and some pools could not be looked into.
    #[error("invalid resource pools were encountered: {pools}")]
    InvalidPools { pools: String },
    /// The search has been given up.
    #[error(
        "gave up after {steps} steps of looking for devices for {claims}: ask for fewer devices, or narrow the \
         selectors, so that fewer combinations are left"
    )]
    SearchLimit { claims: String, steps: usize },
}

impl Error {
    /// Whether another node may still do. Otherwise nothing fits anywhere until somebody repairs the claim, the class
    /// or the slices.
    pub fn only_here(&self) -> bool {
        match self {
            Error::Claim { here, .. } => *here,
            Error::Selector { .. } | Error::Slice { .. } => false,
            Error::InvalidPools { .. } | Error::SearchLimit { .. } => true,
        }
    }
}
