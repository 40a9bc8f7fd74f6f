//! Gives the node the datapath as its pod network.

use async_trait::async_trait;
use node::{NetworkError, PodAddress, PodNetwork};

/// The datapath, as the node sees it.
pub struct Network(pub datapath::Handle);

fn convert(address: datapath::PodAddress) -> PodAddress {
    PodAddress { ip: address.ip.into(), netns: address.netns, gateway: address.gateway.into() }
}

#[async_trait]
impl PodNetwork for Network {
    async fn attach(&self, pod_uid: &str, namespace: &str, name: &str) -> Result<PodAddress, NetworkError> {
        let attached = self.0.attach(pod_uid, namespace, name).await;
        attached.map(convert).map_err(|error| NetworkError(format!("{:#}", anyhow::Error::new(error))))
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        let detached = self.0.detach(pod_uid).await;
        detached.map_err(|error| NetworkError(format!("{:#}", anyhow::Error::new(error))))
    }

    async fn list(&self) -> Result<Vec<(String, PodAddress)>, NetworkError> {
        Ok(self.0.list().into_iter().map(|address| (address.uid.clone(), convert(address))).collect())
    }
}
