//! Subresources that are neither read nor written like objects: a pod's binding, a service account's token.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use registry::{Outcome, PlainBinding, Status, Target, admission, allocate::Reservations, format_time};
use runtime::entropy;
use serde_json::{Value, json};

use crate::{
    body::Body,
    cache::entry::Entry,
    commit::{Change, Committed, commit, live},
    core::{Core, Served},
    negotiate::{self, Format},
    pipeline::Call,
    respond,
    token::{Bound, Claims, Reference},
    write::{ATTEMPTS, apply},
};

/// Seconds that a token lives when the client does not say, and the bounds of what it may say.
const DEFAULT_LIFETIME: i64 = 3600;
const MIN_LIFETIME: i64 = 600;
const MAX_LIFETIME: i64 = 1 << 32;

/// Answers `POST pods/{name}/binding` and `POST bindings`.
pub(crate) async fn bind(mut call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let core = call.core.clone();
    let (Some(bindings), Some(pods)) = (core.find("", "v1", "bindings"), core.find("", "v1", "pods")) else {
        return Err(Status::no_such_path());
    };
    let dry_run = call.dry_run()?;
    let reading = (negotiate::format(&call.headers)?, call.field_validation()?);
    let body = call.read_body().await?;
    if reading.0 == Format::Json
        && !dry_run
        && let Some(answer) = bind_stored(&call, served, pods, &body).await?
    {
        return Ok(answer);
    }
    let mut binding = call.decode_body(bindings.resource, Target::Object, reading, &body)?;
    let given = binding["metadata"]["name"].as_str().unwrap_or_default();
    let name = if served.resource.kind().stored() { call.name() } else { given };
    if given != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let name = name.to_owned();
    copy_topology(&core, &mut binding).await;
    let context = core.context();
    let key = pods.resource.key(call.namespace(), &name);
    for _ in 0..ATTEMPTS {
        let Some(live) = live(&core, pods.resource, &key).await? else {
            return Err(Status::not_found(pods.resource.kind(), &name));
        };
        let bound = pods.resource.bind(&context, live.existing(), &binding)?;
        let outcome = Outcome::Write(bound);
        if apply(&core, pods.resource, &key, &live, outcome, dry_run).await?.is_some() {
            return Ok(respond::json(StatusCode::CREATED, &Status::created()));
        }
    }
    Err(Status::modified(pods.resource.kind(), &name))
}

/// Binds an ordinary pod: its bytes come from the cache and get their node without being parsed. None: the binding is not
/// ordinary, or the cache is not of this moment, and the long way decides.
async fn bind_stored(
    call: &Call,
    served: &Served,
    pods: &Served,
    body: &[u8],
) -> Result<Option<Response<Body>>, Status> {
    let core = &call.core;
    let (Some(mut binding), Some(cache)) = (PlainBinding::parse(body), &pods.cache) else { return Ok(None) };
    if served.resource.kind().stored() && binding.name() != call.name() {
        return Ok(None);
    }
    let key = Bytes::from(pods.resource.key(call.namespace(), binding.name()));
    let Some(pod) = cache.get(&key) else { return Ok(None) };
    if let Some(node) = node_entry(core, binding.node()).await {
        let labels = node.1.attributes(node.0.resource);
        for (label, value) in admission::topology_labels(|label| labels.label(label)) {
            binding.set_label(label, value);
        }
    }
    let bound = binding.bind(&core.context(), &pod.value, pod.revision.unsigned_abs());
    let Some(value) = bound else { return Ok(None) };
    let reservations = Reservations::default();
    // The revision says whether the cache was right.
    let change = Change { resource: pods.resource, key, expected: pod.revision, value: Some(value), reservations };
    Ok(match commit(core, change).await? {
        Committed::At(_) => Some(respond::json(StatusCode::CREATED, &Status::created())),
        Committed::Changed | Committed::Taken => None,
    })
}

/// A node as the cache knows it. A cache that has nothing yet is no reason to keep a pod waiting.
async fn node_entry<'c>(core: &'c Core, name: &str) -> Option<(&'c Served, Arc<Entry>)> {
    let nodes = core.find("", "v1", "nodes")?;
    let cache = nodes.cache.as_ref()?;
    cache.wait_for(0).await.ok()?;
    Some((nodes, cache.get(nodes.resource.key("", name).as_bytes())?))
}

/// Gives the pod its node's place, as the cache knows the node: its place hardly changes, and a read of the store for each
/// binding would cost more than the rest of it.
async fn copy_topology(core: &Core, binding: &mut Value) {
    let target = &binding["target"];
    let name = target["name"].as_str().filter(|_| target["kind"] == "Node").unwrap_or_default();
    if let Some((nodes, entry)) = node_entry(core, name).await {
        let labels = entry.attributes(nodes.resource);
        admission::copy_topology(|label| labels.label(label), binding);
    }
}

/// Answers `POST serviceaccounts/{name}/token`.
pub(crate) async fn token(mut call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let core = call.core.clone();
    let mut request = call.decode_plain("io.k8s.api.authentication.v1.TokenRequest").await?;
    if request.is_null() {
        return Err(Status::bad_request("the body is not a TokenRequest: it is empty"));
    }
    let (namespace, name) = (call.namespace().to_owned(), call.name().to_owned());
    let Some(account) = live(&core, served.resource, &served.resource.key(&namespace, &name)).await? else {
        return Err(Status::not_found(served.resource.kind(), &name));
    };
    let spec = &request["spec"];
    let seconds = match spec["expirationSeconds"].as_i64() {
        None | Some(0) => DEFAULT_LIFETIME,
        Some(seconds) if (MIN_LIFETIME..=MAX_LIFETIME).contains(&seconds) => seconds,
        Some(seconds) => {
            let why = if seconds < MIN_LIFETIME {
                "may not specify a duration less than 10 minutes"
            } else {
                "may not specify a duration larger than 2^32 seconds"
            };
            let message = format!(
                "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: {seconds}: {why}"
            );
            return Err(Status::new(422, "Invalid", message));
        }
    };
    let mut audiences: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences = core.tokens.audiences().first().cloned().into_iter().collect();
    }
    let account_uid = account.value()["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let mut bound = Bound {
        namespace: namespace.clone(),
        serviceaccount: Reference { name: name.clone(), uid: account_uid },
        ..Bound::default()
    };
    bind_to_object(&call, spec, &name, &mut bound).await?;
    let now = core.now().as_second();
    let claims = Claims {
        aud: audiences.clone(),
        exp: now + seconds,
        iat: now,
        iss: core.tokens.issuer().to_owned(),
        jti: entropy::uuid(),
        kubernetes: bound,
        nbf: now,
        sub: format!("system:serviceaccount:{namespace}:{name}"),
    };
    let expires = core.now() + jiff::SignedDuration::from_secs(seconds);
    request["kind"] = "TokenRequest".into();
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["metadata"] = json!({ "name": name, "namespace": namespace, "creationTimestamp": format_time(core.now()) });
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = seconds.into();
    request["status"] = json!({ "token": core.tokens.sign(&claims), "expirationTimestamp": format_time(expires) });
    Ok(respond::json(StatusCode::CREATED, &request))
}

/// A token may be bound to a pod, a secret or a node, and ends with it.
async fn bind_to_object(call: &Call, spec: &Value, account: &str, bound: &mut Bound) -> Result<(), Status> {
    let reference = &spec["boundObjectRef"];
    if reference.is_null() {
        return Ok(());
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (plural, namespace) = match kind {
        "Pod" => ("pods", call.namespace()),
        "Secret" => ("secrets", call.namespace()),
        "Node" => ("nodes", ""),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to object with kind {kind:?}"
            )));
        }
    };
    let core = &call.core;
    let Some(served) = core.find("", "v1", plural) else { return Err(Status::no_such_path()) };
    let found = live(core, served.resource, &served.resource.key(namespace, name)).await?;
    let Some(found) = found else { return Err(Status::not_found(served.resource.kind(), name)) };
    let actual = found.value()["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && uid != actual {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(served.resource.kind(), name, &why));
    }
    let reference = Reference { name: name.to_owned(), uid: actual.to_owned() };
    match kind {
        "Pod" => {
            let runs_as = found.value()["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if runs_as != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            if let Some(node) = found.value()["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                let object = core.neighbour("", "nodes", "", node).await?.unwrap_or_default();
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                bound.node = Some(Reference { name: node.to_owned(), uid });
            }
            bound.pod = Some(reference);
        }
        "Secret" => bound.secret = Some(reference),
        _ => bound.node = Some(reference),
    }
    Ok(())
}
