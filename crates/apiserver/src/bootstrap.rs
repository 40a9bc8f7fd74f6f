//! What every cluster has before anyone asks: system namespaces, priority classes, and the API's own Service.

use std::net::SocketAddr;

use futures::future::try_join_all;
use registry::{Status, Target, admission};
use serde_json::{Value, json};

use crate::{
    commit::live,
    core::Core,
    write::{apply, insert},
};

const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];
/// Attempts to bring an object of the server's own up to date.
const ATTEMPTS: usize = 5;

/// Makes what is missing. `advertise` is where the API is reached; none: nowhere but in this process.
pub(crate) async fn bootstrap(core: &Core, advertise: Option<SocketAddr>) -> Result<(), Status> {
    let namespaces = NAMESPACES.iter().map(|name| {
        let object = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": name } });
        ensure(core, "", "namespaces", "", object)
    });
    let classes = admission::builtin_priority_classes();
    let classes = classes.into_iter().map(|object| ensure(core, "scheduling.k8s.io", "priorityclasses", "", object));
    tokio::try_join!(try_join_all(namespaces), try_join_all(classes))?;
    let Some(advertise) = advertise else { return Ok(()) };
    tokio::try_join!(
        ensure(core, "", "services", "default", service(core, advertise)),
        keep(core, "", "endpoints", endpoints(advertise)),
        keep(core, "discovery.k8s.io", "endpointslices", endpoint_slice(advertise)),
    )?;
    Ok(())
}

/// Creates an object unless it is there.
async fn ensure(core: &Core, group: &str, plural: &str, namespace: &str, object: Value) -> Result<(), Status> {
    let served = core.find(group, "v1", plural).ok_or_else(Status::no_such_path)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if core.read(served.resource.key(namespace, name)).await?.is_some() {
        return Ok(());
    }
    match insert(core, served.resource, namespace, object, false).await {
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        result => result.map(|_| ()),
    }
}

/// Creates an object in `default`, or brings it up to date.
async fn keep(core: &Core, group: &str, plural: &str, object: Value) -> Result<(), Status> {
    ensure(core, group, plural, "default", object.clone()).await?;
    let served = core.find(group, "v1", plural).ok_or_else(Status::no_such_path)?;
    let key = served.resource.key("default", "kubernetes");
    for _ in 0..ATTEMPTS {
        let Some(live) = live(core, served.resource, &key).await? else { return Ok(()) };
        let mut new = live.value().clone();
        for field in ["subsets", "addressType", "endpoints", "ports"] {
            if let Some(value) = object.get(field) {
                new[field] = value.clone();
            }
        }
        let context = core.context();
        let outcome = served.resource.update(&context, Target::Object, live.existing(), new)?;
        if apply(core, served.resource, &key, &live, outcome, false).await?.is_some() {
            return Ok(());
        }
    }
    Err(Status::modified(served.resource.kind(), "kubernetes"))
}

fn service(core: &Core, advertise: SocketAddr) -> Value {
    // The first address of the range is the API's own, by convention.
    let address = core.ranges.cidr.hosts().next().map(|address| address.to_string());
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": { "name": "kubernetes", "labels": { "component": "apiserver", "provider": "kubernetes" } },
        "spec": {
            "clusterIP": address, "type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": advertise.port() }],
        },
    })
}

fn endpoints(advertise: SocketAddr) -> Value {
    json!({
        "kind": "Endpoints", "apiVersion": "v1",
        "metadata": {
            "name": "kubernetes", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{
            "addresses": [{ "ip": advertise.ip().to_string() }],
            "ports": [{ "name": "https", "port": advertise.port(), "protocol": "TCP" }],
        }],
    })
}

fn endpoint_slice(advertise: SocketAddr) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [advertise.ip().to_string()], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": advertise.port(), "protocol": "TCP" }],
    })
}
