//! What the node asks of the pod network. The datapath stands behind it; the node knows only addresses and the paths of
//! network namespaces.

use std::{net::IpAddr, path::PathBuf};

use async_trait::async_trait;

/// Where a pod lives on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAddress {
    pub ip: IpAddr,
    /// The pod's network namespace, bind-mounted so that it can be opened by path.
    pub netns: PathBuf,
    pub gateway: IpAddr,
}

/// Why a pod could not be connected or disconnected; always worth a retry.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// Connects pods to the network. Every call is idempotent.
#[async_trait]
pub trait PodNetwork: Send + Sync {
    /// Gives the pod a network namespace with an address; what it has already is returned again.
    async fn attach(&self, pod_uid: &str, namespace: &str, name: &str) -> Result<PodAddress, NetworkError>;

    /// Takes the address and the namespace away; a pod that has none is fine.
    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError>;

    /// Every pod that has an address, by UID: what is left from an earlier process too.
    async fn list(&self) -> Result<Vec<(String, PodAddress)>, NetworkError>;
}
