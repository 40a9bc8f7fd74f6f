//! Delete, of one object and of many.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::{Response, StatusCode};
use registry::{DeleteOptions, DeleteOutcome, Reading, Resource, Status};
use serde_json::{Value, json};
use store_api::Revision;

use crate::{
    body::Body,
    commit::{Change, Committed, commit, live_for},
    core::{Core, Served},
    list,
    pipeline::Call,
    respond,
    view::Shape,
    write::{ATTEMPTS, freed},
};

/// Deletions of a collection that run at once; they share the store's batches.
const AT_ONCE: usize = 32;

/// What is left of a deleted object.
enum Deleted {
    /// Nothing. Its last state, for the answer.
    Gone(Bytes, Revision),
    /// It stays until its grace is over or its finalizers are gone.
    Going(Bytes, Revision),
}

/// Answers a delete.
pub(crate) async fn delete(mut call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let shape = Shape::of(&call)?;
    let options = options(&mut call).await?;
    let resource = served.resource;
    let (namespace, name) = (call.namespace(), call.name());
    match remove(&call.core, resource, namespace, name, &options).await? {
        Deleted::Going(encoded, revision) => Ok(shape.one(StatusCode::OK, resource, &encoded, Some(revision))),
        Deleted::Gone(encoded, revision) if resource.returns_deleted_object() => {
            Ok(shape.one(StatusCode::OK, resource, &encoded, Some(revision)))
        }
        Deleted::Gone(encoded, _) => {
            let value: Value = serde_json::from_slice(&encoded).unwrap_or_default();
            let uid = value["metadata"]["uid"].as_str().unwrap_or_default();
            Ok(respond::json(StatusCode::OK, &Status::deleted(resource.kind(), call.name(), uid)))
        }
    }
}

/// Answers a delete of a collection: all objects that a list with the same parameters finds.
pub(crate) async fn delete_collection(mut call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let options = options(&mut call).await?;
    let resource = served.resource;
    let cache = served.cache.as_ref().ok_or_else(Status::method_not_allowed)?;
    let selection = list::selection(&call, resource)?;
    let scope = list::scope(&call, resource, &selection);
    let (entries, revision) = list::most_recent(&call.core, cache, &scope).await?;
    let chosen = entries.into_iter().filter(|entry| selection.matches(entry.attributes(resource)));
    let kind = resource.kind();
    let (core, options) = (&call.core, &options);
    let deleted: Vec<Option<Value>> = stream::iter(chosen)
        .map(|entry| async move {
            let key = String::from_utf8_lossy(&entry.key).into_owned();
            let Some((namespace, name)) = kind.split_key(&key) else { return Ok(None) };
            match remove(core, resource, namespace.unwrap_or_default(), name, options).await {
                Ok(_) => Ok(Some(entry.decode_with_revision())),
                // Someone else was quicker: it is gone, as was asked.
                Err(status) if status.code == 404 => Ok(None),
                Err(status) => Err(status),
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let items: Vec<Value> = deleted.into_iter().flatten().collect();
    Ok(respond::json(
        StatusCode::OK,
        &json!({
            "kind": kind.list_kind(), "apiVersion": kind.api_version(),
            "metadata": { "resourceVersion": revision.to_string() }, "items": items,
        }),
    ))
}

/// The options in the body, over which those in the query are laid.
async fn options(call: &mut Call) -> Result<DeleteOptions, Status> {
    let mut value = call.decode_plain("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions").await?;
    if value.is_null() {
        value = json!({});
    }
    let query = &call.info.query;
    if let Some(text) = query.given("gracePeriodSeconds") {
        let seconds: i64 = text
            .parse()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        value["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(policy) = query.given("propagationPolicy") {
        value["propagationPolicy"] = policy.into();
    }
    if query.given("orphanDependents").is_some() {
        value["orphanDependents"] = query.flag("orphanDependents").into();
    }
    let mut options = DeleteOptions::from_value(&value)?;
    options.dry_run |= call.dry_run()?;
    Ok(options)
}

async fn remove(
    core: &Core,
    resource: &Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    let key = resource.key(namespace, name);
    for _ in 0..ATTEMPTS {
        let Some(live) = live_for(core, resource, &key, Reading::Deletion).await? else {
            return Err(Status::not_found(resource.kind(), name));
        };
        let context = core.context();
        let (value, encoded, reservations) = match resource.delete(&context, live.existing(), options)? {
            DeleteOutcome::Pending => return Ok(Deleted::Going(live.object.bytes().clone(), live.revision)),
            DeleteOutcome::Write(new) => {
                let encoded = live.object.encode(&new);
                (Some(encoded.clone()), encoded, Default::default())
            }
            DeleteOutcome::Remove(last) => (None, live.object.encode(&last), freed(resource, live.value())),
        };
        let gone = value.is_none();
        let done = |revision| {
            if gone { Deleted::Gone(encoded.clone(), revision) } else { Deleted::Going(encoded.clone(), revision) }
        };
        if options.dry_run {
            return Ok(done(live.revision));
        }
        let change = Change { resource, key: key.clone().into(), expected: live.revision, value, reservations };
        if let Committed::At(revision) = commit(core, change).await? {
            return Ok(done(revision));
        }
    }
    Err(Status::modified(resource.kind(), name))
}
