//! `POST pods/{name}/eviction`: a deletion that the pod's disruption budget must agree to.

use http::{Response, StatusCode};
use registry::{
    DeleteOptions, DeleteOutcome, Existing, Outcome, Status, StoredObject, encode,
    eviction::{self, Decision},
};
use serde_json::Value;
use store_api::Revision;

use crate::{
    body::Body,
    cache::state::Scope,
    commit::{Change, Committed, Live, commit, live},
    core::Served,
    list,
    pipeline::Call,
    respond,
    write::{ATTEMPTS, apply, freed},
};

pub(crate) async fn evict(mut call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let eviction = call.decode_plain("io.k8s.api.policy.v1.Eviction").await?;
    let metadata = &eviction["metadata"];
    if metadata["name"].as_str().unwrap_or_default() != call.name() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    if !matches!(metadata["namespace"].as_str(), None | Some("")) && metadata["namespace"] != call.namespace() {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    let mut options = DeleteOptions::from_value(&eviction["deleteOptions"])?;
    options.dry_run |= call.dry_run()?;
    let (pod, decision) = agree(&call, served, &options).await?;
    remove(&call, served, pod, &decision, &options).await?;
    Ok(respond::json(StatusCode::CREATED, &Status::created()))
}

/// Reads the pod and has its budget agree. The budget is charged when this returns.
async fn agree(call: &Call, served: &Served, options: &DeleteOptions) -> Result<(Live, Decision), Status> {
    let core = &call.core;
    let budgets = core.find("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::no_such_path)?;
    let cache = budgets.cache.as_ref().ok_or_else(Status::no_such_path)?;
    let (pods, kind) = (served.resource, budgets.resource.kind());
    let key = pods.key(call.namespace(), call.name());
    for _ in 0..ATTEMPTS {
        let pod = live(core, pods, &key).await?.ok_or_else(|| Status::not_found(pods.kind(), call.name()))?;
        let scope = Scope::Prefix(kind.prefix(Some(call.namespace())).into());
        let (entries, _) = list::most_recent(core, cache, &scope).await?;
        let known: Vec<Value> = entries.iter().map(|entry| entry.decode()).collect();
        let decision = eviction::decide(kind, &core.context(), pod.value(), &known)?;
        let Some((at, new)) = decision.budget.clone().filter(|_| !options.dry_run) else {
            return Ok((pod, decision));
        };
        let entry = &entries[at];
        let object = StoredObject::whole(entry.value.clone()).map_err(Status::internal_error)?;
        let budget = Live { object, revision: entry.revision };
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        if apply(core, budgets.resource, &key, &budget, Outcome::Write(new), false).await?.is_some() {
            return Ok((pod, decision));
        }
    }
    Err(Status::timeout("couldn't update PodDisruptionBudget due to conflicts", 10))
}

/// Deletes the pod, with the reason written into its last state. It may have changed since the budget agreed, unless the
/// decision forbids it.
async fn remove(
    call: &Call,
    served: &Served,
    mut pod: Live,
    decision: &Decision,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let (core, pods) = (&call.core, served.resource);
    let key = pods.key(call.namespace(), call.name());
    for _ in 0..ATTEMPTS {
        let context = core.context();
        let marked = eviction::mark(&context, pod.value());
        let existing = Existing { object: &marked, ..pod.existing() };
        let value = match pods.delete(&context, existing, options)? {
            DeleteOutcome::Pending => return Ok(()),
            DeleteOutcome::Write(new) => Some(encode(&new)),
            DeleteOutcome::Remove(_) => None,
        };
        if options.dry_run {
            return Ok(());
        }
        let reservations = if value.is_none() { freed(pods, pod.value()) } else { Default::default() };
        let expected: Revision = pod.revision;
        let change = Change { resource: pods, key: key.clone().into(), expected, value, reservations };
        if let Committed::At(_) = commit(core, change).await? {
            return Ok(());
        }
        let Some(newer) = live(core, pods, &key).await? else {
            return Err(Status::not_found(pods.kind(), call.name()));
        };
        if decision.unchanged && !decision.name.is_empty() {
            return Err(eviction::still_processed(&decision.name));
        }
        pod = newer;
    }
    Err(Status::modified(pods.kind(), call.name()))
}
