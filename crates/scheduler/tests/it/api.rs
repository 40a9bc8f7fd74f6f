//! What a scheduler writes, answered by the API in memory: bindings, pods' conditions and events.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use client::Client;
use http::Method;
use serde_json::{Value, json};
use test_api::{Api, Write};

#[derive(Clone, Default)]
pub struct SchedulerApi {
    pub objects: Api,
    refusals: Arc<AtomicUsize>,
}

impl SchedulerApi {
    pub fn client(&self) -> Client {
        let refusals = self.refusals.clone();
        self.objects.client_with(move |api, write| answer(api, &refusals, write))
    }

    /// The next bindings are refused.
    #[allow(dead_code, reason = "other tests than the scheduler's own have no use for it")]
    pub fn refuse_bindings(&self, count: usize) {
        self.refusals.store(count, Ordering::Relaxed);
    }

    /// The pod, once `holds` is true of it.
    pub async fn pod(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.objects.wait("pods", name, |pod| pod["metadata"]["name"] == name && holds(pod)).await
    }

    /// The first event with this reason.
    pub async fn event(&self, reason: &str) -> Value {
        self.objects.wait("events", reason, |event| event["reason"] == reason).await
    }
}

fn answer(api: &Api, refusals: &AtomicUsize, write: Write) -> (u16, Value) {
    let path: Vec<&str> = write.path.trim_start_matches("/api/v1/").split('/').collect();
    match (&write.method, path.as_slice()) {
        (&Method::POST, ["namespaces", _, "pods", name, "binding"]) => bind(api, refusals, name, &write.body),
        (&Method::PATCH, ["namespaces", _, "pods", name, "status"]) => {
            let mut pod = api.get("pods", name).unwrap();
            for field in ["conditions", "nominatedNodeName"] {
                if let Some(value) = write.body["status"].get(field) {
                    pod["status"][field] = value.clone();
                }
            }
            api.put("pods", pod.clone());
            (200, pod)
        }
        (&Method::PATCH, ["persistentvolumes", name]) => {
            let mut volume = api.get("persistentvolumes", name).unwrap();
            assert_eq!(volume["metadata"]["resourceVersion"], write.body["metadata"]["resourceVersion"]);
            volume["spec"]["claimRef"] = write.body["spec"]["claimRef"].clone();
            volume["metadata"]["annotations"] = write.body["metadata"]["annotations"].clone();
            api.put("persistentvolumes", volume.clone());
            (200, volume)
        }
        (&Method::PUT, ["", "apis", "resource.k8s.io", "v1", "namespaces", _, "resourceclaims", name, ..]) => {
            let known = api.get("resourceclaims", name).unwrap();
            if known["metadata"]["resourceVersion"] != write.body["metadata"]["resourceVersion"] {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "it has changed", "reason": "Conflict", "code": 409});
                return (409, status);
            }
            api.put("resourceclaims", write.body);
            (200, api.get("resourceclaims", name).unwrap())
        }
        (&Method::DELETE, ["namespaces", _, "pods", name]) => {
            let pod = api.get("pods", name).unwrap();
            assert_eq!(pod["metadata"]["uid"], write.body["preconditions"]["uid"]);
            api.delete("pods", name);
            (200, pod)
        }
        (&Method::POST, ["namespaces", _, "events"]) => {
            api.put("events", write.body.clone());
            (201, write.body)
        }
        (&Method::PATCH, ["namespaces", _, "events", name]) => (200, api.get("events", name).unwrap()),
        _ => panic!("unexpected: {write:?}"),
    }
}

fn bind(api: &Api, refusals: &AtomicUsize, name: &str, binding: &Value) -> (u16, Value) {
    if refusals.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "not this one", "reason": "Forbidden", "code": 403});
        return (403, status);
    }
    let mut pod = api.get("pods", name).unwrap();
    assert_eq!(pod["metadata"]["uid"], binding["metadata"]["uid"]);
    assert!(pod["spec"]["nodeName"].is_null(), "{name} is bound twice");
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    api.put("pods", pod);
    (201, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
}
