//! The Service under which pods find the cluster's DNS, with this process as its one endpoint.

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::settings::Settings;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

/// Creates or corrects the Service and its EndpointSlice.
pub async fn ensure(client: &Client, settings: &Settings) -> kube::Result<()> {
    let labels = json!({
        "k8s-app": NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "KubeDNS",
    });
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "clusterIP": settings.dns_service_ip.to_string(),
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
    });
    put(Api::<Service>::namespaced(client.clone(), NAMESPACE), NAME, service).await?;
    let target =
        |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": settings.dns_listen.port()});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {
            "kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": "plinth",
        }},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [settings.dns_listen.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [target("dns", "UDP"), target("dns-tcp", "TCP")],
    });
    put(Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE), NAME, slice).await
}

async fn put<K>(api: Api<K>, name: &str, object: serde_json::Value) -> kube::Result<()>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&object)).await {
        Err(error) if client::is_not_found(&error) => {
            let typed: K = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &typed).await.map(drop)
        }
        result => result.map(drop),
    }
}
