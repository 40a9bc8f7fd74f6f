//! Writes to ResourceClaims, each from what the API has to what is wanted: whatever an earlier attempt has left is built upon.

use std::time::Duration;

use client::{is_not_found, kube};
use http::{Method, Request};
use k8s_openapi::api::resource::v1::{self as api, AllocationResult};
use sched::{
    Pod,
    convert::device::{EXTENDED, FINALIZER, resource_claim},
    device::{ExtendedClaim, Mapping, ResourceClaim},
    storage::{Name, Version},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    Api,
    binding::{ANSWER_LIMIT, FIRST_PAUSE, LONGEST_PAUSE, is_final},
};

/// Writes for one claim, those included that lose against another writer.
const MAX_WRITES: usize = 8;
/// For so long a write is tried again of which it is not known whether it was carried out.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// What is to be written to a claim.
enum Step {
    Nothing,
    /// The object but its status; there is more to write after it.
    Object(Value),
    /// Its status, and that is all.
    Status(Value),
}

impl Api {
    /// Adds the pod to the claim's users; `allocate`: and the allocation, if the claim has none.
    pub(super) async fn reserve_claim(
        &self,
        pod: &Pod,
        name: &Name,
        uid: &str,
        allocation: &AllocationResult,
        allocate: bool,
    ) -> Result<Option<ResourceClaim>, String> {
        let mut named = allocation.clone();
        devices::name_shares(&mut named, &mut runtime::entropy::uuid);
        let named = serde_json::to_value(&named).map_err(|error| error.to_string())?;
        let (shown, who) = (full(name), json!({"resource": "pods", "name": &*pod.name, "uid": &*pod.uid}));
        let reserved = self.change_claim(name, uid, |mut claim| {
            if !claim["metadata"]["deletionTimestamp"].is_null() {
                return Err(format!("claim {shown} got deleted in the meantime"));
            }
            match serde_json::from_value::<Option<AllocationResult>>(claim["status"]["allocation"].clone()) {
                Ok(Some(now)) if plain(&now) == plain(allocation) => {}
                Ok(None) if allocate => {}
                Ok(None) => return Err(format!("claim {shown} got deallocated elsewhere in the meantime")),
                _ => return Err(format!("claim {shown} got allocated elsewhere in the meantime")),
            }
            if claim["status"]["allocation"].is_null() {
                if !has(&claim["metadata"]["finalizers"], |finalizer| finalizer == FINALIZER) {
                    push(&mut claim["metadata"]["finalizers"], json!(FINALIZER));
                    return Ok(Step::Object(claim));
                }
                claim["status"]["allocation"] = named.clone();
                claim["status"]["allocation"]["allocationTimestamp"] = json!(self.now());
            }
            if has(&claim["status"]["reservedFor"], |user| user["uid"] == *pod.uid) {
                return Ok(Step::Nothing);
            }
            push(&mut claim["status"]["reservedFor"], who.clone());
            Ok(Step::Status(claim))
        });
        reserved.await.map(Some).map_err(|error| format!("reserve claim {}: {error}", full(name)))
    }

    /// Makes the claim for a pod's extended resources, and tells the pod.
    pub(super) async fn make_claim(
        &self,
        pod: &Pod,
        claim: &ExtendedClaim,
        shown: &mut Vec<ResourceClaim>,
    ) -> Result<(), String> {
        let owner =
            json!({"apiVersion": "v1", "kind": "Pod", "name": &*pod.name, "uid": &*pod.uid, "controller": true});
        let metadata = json!({"namespace": &*pod.namespace, "generateName": format!("{}-extended-resources-", pod.name),
            "annotations": {EXTENDED: "true"}, "ownerReferences": [owner]});
        let object = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata,
            "spec": claim.spec});
        let failed = |error: Trouble| format!("create claim for extended resources of {}: {error}", pod.name);
        let path = format!("/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims", pod.namespace);
        let made = self.ask(Method::POST, &path, Some(object)).await.and_then(read);
        self.made_claims.ended(made.is_ok());
        let made = made.map_err(failed)?;
        // Whatever becomes of the rest, this one is there.
        shown.push(made.clone());
        let reserved = self.reserve_claim(pod, &made.name, &made.uid, &claim.allocation, true);
        shown.extend(reserved.await?);
        let mapping = |mapping: &Mapping| {
            json!({"containerName": &*mapping.container, "resourceName": &*mapping.resource,
                "requestName": mapping.request})
        };
        let mappings: Vec<Value> = claim.mappings.iter().map(mapping).collect();
        let status = json!({"extendedResourceClaimStatus": {"resourceClaimName": &*made.name.1,
            "requestMappings": mappings}});
        let told = self.patch_status(pod, status).await;
        told.map_err(|error| format!("update pod {} ExtendedResourceClaimStatus: {error}", pod.name))
    }

    /// Deletes a claim that was made so.
    pub(super) async fn delete_claim(&self, name: &Name, uid: &str) -> Result<(), String> {
        let released = self.change_claim(name, uid, |claim| Ok(unprotect(claim)));
        let deleted = match released.await {
            Ok(_) => {
                let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}});
                self.ask(Method::DELETE, &path(name), Some(body)).await.map(drop)
            }
            Err(error) => Err(error),
        };
        match deleted {
            Err(Trouble::Gone) => Ok(()),
            other => other.map_err(|error| format!("delete claim {}: {error}", full(name))),
        }
    }

    /// Takes the pod off the claim's users. `None`: there is no such claim any more.
    ///
    /// A claim without devices loses its finalizer: should an allocation be on its way still that was given up, it meets another
    /// version, and takes no device that somebody else has by then.
    pub(super) async fn unreserve_claim(
        &self,
        pod: &Pod,
        name: &Name,
        uid: &str,
    ) -> Result<Option<ResourceClaim>, String> {
        let changed = self.change_claim(name, uid, |mut claim| {
            if claim["status"]["allocation"].is_null() {
                return Ok(unprotect(claim));
            }
            let Some(users) = claim["status"]["reservedFor"].as_array_mut() else { return Ok(Step::Nothing) };
            let before = users.len();
            users.retain(|user| user["uid"] != *pod.uid);
            Ok(if users.len() == before { Step::Nothing } else { Step::Status(claim) })
        });
        match changed.await {
            Err(Trouble::Gone) => Ok(None),
            other => other.map(Some).map_err(|error| format!("unreserve claim {}: {error}", full(name))),
        }
    }

    /// Frees the claim's devices, if it is as it was when that was decided, and its pod still waits: another scheduler may have
    /// bound the pod, which then runs with them.
    pub(super) async fn deallocate_claim(
        &self,
        pod: &Pod,
        name: &Name,
        uid: &str,
        version: &Version,
    ) -> Result<Option<ResourceClaim>, String> {
        let failed = |error: Trouble| format!("deallocate claim {}: {error}", full(name));
        let waits = match self.ask(Method::GET, &super::path(pod), None).await {
            Ok(now) => now["metadata"]["uid"] == *pod.uid && now["spec"]["nodeName"].as_str().is_none_or(str::is_empty),
            Err(Trouble::Gone) => false,
            Err(error) => return Err(failed(error)),
        };
        if !waits {
            return Err(failed(Trouble::Told("its pod does not wait any more".to_owned())));
        }
        let changed = self.change_claim(name, uid, |mut claim| {
            if claim["metadata"]["resourceVersion"] != *version.0 {
                return Err("it has changed in the meantime".to_owned());
            }
            for field in ["allocation", "reservedFor", "devices"] {
                if let Some(status) = claim["status"].as_object_mut() {
                    status.remove(field);
                }
            }
            Ok(Step::Status(claim))
        });
        changed.await.map(Some).map_err(failed)
    }

    /// Asks for the claim and takes step after step until nothing is left to write. Returns the claim as it is then.
    ///
    /// An answer can be lost though the write is carried out, perhaps later: whoever takes that for a failure gives devices away
    /// that the claim gets. So the write is tried again until it is known what came of it: of two on the same version, one fails.
    async fn change_claim(
        &self,
        name: &Name,
        uid: &str,
        step: impl Fn(Value) -> Result<Step, String>,
    ) -> Result<ResourceClaim, Trouble> {
        let until = self.clock.monotonic() + SETTLE_LIMIT;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_to_change(&path(name), uid, &step).await {
                Err(Trouble::Open(_)) if self.clock.monotonic() < until => {}
                changed => return changed,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_to_change(
        &self,
        path: &str,
        uid: &str,
        step: impl Fn(Value) -> Result<Step, String>,
    ) -> Result<ResourceClaim, Trouble> {
        let mut claim = self.ask(Method::GET, path, None).await?;
        for _ in 0..MAX_WRITES {
            if claim["metadata"]["uid"] != *uid {
                return Err(Trouble::Gone);
            }
            let (written, last) = match step(claim.clone()).map_err(Trouble::Told)? {
                Step::Nothing => return read(claim),
                Step::Object(object) => (self.ask(Method::PUT, path, Some(object)).await, false),
                Step::Status(object) => (self.ask(Method::PUT, &format!("{path}/status"), Some(object)).await, true),
            };
            claim = match written {
                Ok(claim) if last => return read(claim),
                Ok(claim) => claim,
                Err(Trouble::Conflict) => self.ask(Method::GET, path, None).await?,
                Err(error) => return Err(error),
            };
        }
        Err(Trouble::Conflict)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Trouble> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = request.body(body).map_err(|error| Trouble::Told(error.to_string()))?;
        match timeout(ANSWER_LIMIT, self.client.request::<Value>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_not_found(&error) => Err(Trouble::Gone),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Trouble::Conflict),
            Ok(Err(error)) if is_final(&error) => Err(Trouble::Told(error.to_string())),
            Ok(Err(error)) => Err(Trouble::Open(error.to_string())),
            Err(_) => Err(Trouble::Open(format!("no answer within {ANSWER_LIMIT:?}"))),
        }
    }
}

/// Why a claim was not written.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("there is no such claim any more")]
    Gone,
    #[error("others have changed it each time that it was written")]
    Conflict,
    #[error("{0}")]
    Told(String),
    /// It may have been carried out, or may be the next time.
    #[error("{0}")]
    Open(String),
}

/// The claim without its finalizer.
fn unprotect(mut claim: Value) -> Step {
    let Some(finalizers) = claim["metadata"]["finalizers"].as_array_mut() else { return Step::Nothing };
    let before = finalizers.len();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if finalizers.len() == before { Step::Nothing } else { Step::Object(claim) }
}

fn path(name: &Name) -> String {
    format!("/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims/{}", name.0, name.1)
}

fn full(name: &Name) -> String {
    format!("{}/{}", name.0, name.1)
}

fn read(claim: Value) -> Result<ResourceClaim, Trouble> {
    let object: api::ResourceClaim = serde_json::from_value(claim).map_err(|error| Trouble::Told(error.to_string()))?;
    resource_claim(object).map_err(|error| Trouble::Told(error.to_string()))
}

/// An allocation without what it gets only when it is written.
fn plain(allocation: &AllocationResult) -> AllocationResult {
    let mut plain = allocation.clone();
    plain.allocation_timestamp = None;
    for result in plain.devices.iter_mut().flat_map(|devices| devices.results.iter_mut().flatten()) {
        result.share_id = result.share_id.as_ref().map(|_| String::new());
    }
    plain
}

fn has(list: &Value, is: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(is))
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}
