//! Create, update and patch: read, decide (in `registry`), write if nothing changed meanwhile, and again if it did.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use http::{Response, StatusCode};
use registry::{
    FieldValidation, Outcome, PodBody, Reading, Resource, Status, Target,
    admission::{self, Neighbours},
    allocate::{self, Reservations},
    decode_stored, encode,
    patch::PatchKind,
};
use runtime::entropy;
use serde_json::Value;
use store_api::{RangeRequest, Revision};

use crate::{
    body::Body,
    commit::{Change, Committed, Live, commit, live_for},
    core::{Core, Served},
    negotiate::{self, Format},
    pipeline::Call,
    respond, specs,
    view::Shape,
};

/// Attempts of a write that loses against others, before the conflict is the client's.
pub(crate) const ATTEMPTS: usize = 8;

/// An object as it was written.
pub(crate) struct Stored {
    pub encoded: Bytes,
    /// None: it was not written, because the client only wanted to see (`dryRun`).
    pub revision: Option<Revision>,
}

/// Answers a create.
pub(crate) async fn create(mut call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let shape = Shape::of(&call)?;
    let dry_run = call.dry_run()?;
    let resource = served.resource;
    if resource.kind().namespaced && call.namespace().is_empty() {
        return Err(Status::method_not_allowed());
    }
    let (format, validation) = (negotiate::format(&call.headers)?, call.field_validation()?);
    let body = call.read_body().await?;
    let known = admission::is_pod(resource) && format == Format::Json && !dry_run;
    let pod = if known { PodBody::parse(&body) } else { None };
    let core = call.core.clone();
    if let Some(pod) = &pod
        && let Some(stored) = specs::create(&core, resource, call.namespace(), pod, validation).await?
    {
        return Ok(shape.one(StatusCode::CREATED, resource, &stored.encoded, stored.revision));
    }
    let object = call.decode_body(resource, Target::Object, (format, validation), &body)?;
    let found = Found::read(&core, resource, call.namespace(), &object).await?;
    let stored = insert_beside(&core, resource, call.namespace(), object, &found, dry_run).await?;
    if let Some(pod) = &pod
        && validation != FieldValidation::Ignore
        && call.warnings.is_empty()
    {
        core.specs.learn(call.namespace(), pod.spec(), &stored.encoded, &found);
    }
    let mut response = shape.one(StatusCode::CREATED, resource, &stored.encoded, stored.revision);
    respond::warn(&mut response, &call.warnings);
    Ok(response)
}

/// Creates a decoded object.
pub(crate) async fn insert(
    core: &Core,
    resource: &Resource,
    namespace: &str,
    object: Value,
    dry_run: bool,
) -> Result<Stored, Status> {
    let found = Found::read(core, resource, namespace, &object).await?;
    insert_beside(core, resource, namespace, object, &found, dry_run).await
}

/// Creates a decoded object beside the neighbours that were found.
async fn insert_beside(
    core: &Core,
    resource: &Resource,
    namespace: &str,
    mut object: Value,
    found: &Found,
    dry_run: bool,
) -> Result<Stored, Status> {
    let mut context = core.context();
    admission::admit_create(resource, &context, namespace, &mut object, found.neighbours())?;
    let metadata = &object["metadata"];
    let given = |field: &str| metadata[field].as_str().is_some_and(|text| !text.is_empty());
    let generated = !given("name") && given("generateName");
    // Addresses are taken by others between look and write, and so are generated names; both are then drawn again.
    let service = is_service(resource);
    let spare = (generated || service).then(|| object.clone());
    for attempt in 1.. {
        let mut prepared = resource.create(&context, namespace, object)?;
        admission::validate(resource, &prepared, &found.limit_ranges)?;
        let name = prepared["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = Bytes::from(resource.key(namespace, &name));
        let reservations = if service { reserve(core, &mut prepared, None).await? } else { Reservations::default() };
        let encoded = encode(&prepared);
        if dry_run {
            return match core.read(key).await? {
                Some(_) => Err(Status::already_exists(resource.kind(), &name)),
                None => Ok(Stored { encoded, revision: None }),
            };
        }
        let change = Change { resource, key, expected: 0, value: Some(encoded.clone()), reservations };
        let again = match commit(core, change).await? {
            Committed::At(revision) => return Ok(Stored { encoded, revision: Some(revision) }),
            Committed::Changed if generated && attempt == ATTEMPTS => {
                return Err(Status::generated_name_conflict(resource.kind(), &name));
            }
            Committed::Changed if generated => spare.clone(),
            Committed::Changed => return Err(Status::already_exists(resource.kind(), &name)),
            Committed::Taken if attempt == ATTEMPTS => None,
            Committed::Taken => spare.clone(),
        };
        object = again.ok_or_else(|| Status::conflict(resource.kind(), &name, "its addresses were taken meanwhile"))?;
        context = core.context();
    }
    unreachable!("the last attempt returns")
}

/// The neighbours that admission asks for.
#[derive(Default)]
pub(crate) struct Found {
    namespace: Option<Arc<Value>>,
    pub service_account: Option<Arc<Value>>,
    pub priority_classes: Vec<Arc<Value>>,
    storage_classes: Vec<Arc<Value>>,
    node: Option<Arc<Value>>,
    workload: Option<Arc<Value>>,
    pub limit_ranges: Vec<Arc<Value>>,
}

impl Found {
    async fn read(core: &Core, resource: &Resource, namespace: &str, object: &Value) -> Result<Self, Status> {
        let needs = admission::needs(resource, namespace, object);
        let found = |group, plural, namespace, name: Option<String>| async move {
            match name {
                Some(name) => core.neighbour(group, plural, namespace, &name).await,
                None => Ok(None),
            }
        };
        Ok(Found {
            namespace: found("", "namespaces", "", needs.namespace).await?,
            service_account: found("", "serviceaccounts", namespace, needs.service_account).await?,
            node: found("", "nodes", "", needs.node).await?,
            workload: found("scheduling.k8s.io", "workloads", namespace, needs.workload).await?,
            priority_classes: match needs.priority_classes {
                true => core.all("scheduling.k8s.io", "priorityclasses").await?,
                false => Vec::new(),
            },
            storage_classes: match needs.storage_classes {
                true => core.all("storage.k8s.io", "storageclasses").await?,
                false => Vec::new(),
            },
            limit_ranges: match needs.limit_ranges {
                true => core.limit_ranges(namespace).await?,
                false => Vec::new(),
            },
        })
    }

    fn neighbours(&self) -> Neighbours<'_> {
        Neighbours {
            namespace: self.namespace.as_deref(),
            service_account: self.service_account.as_deref(),
            priority_classes: &self.priority_classes,
            storage_classes: &self.storage_classes,
            node: self.node.as_deref(),
            workload: self.workload.as_deref(),
            limit_ranges: &self.limit_ranges,
        }
    }
}

pub(crate) fn is_service(resource: &Resource) -> bool {
    resource.kind().kind == "Service" && resource.kind().group.is_empty()
}

/// Gives a Service its addresses and ports.
async fn reserve(core: &Core, service: &mut Value, old: Option<&Value>) -> Result<Reservations, Status> {
    let mut used = HashSet::new();
    for prefix in [allocate::SERVICE_IP_PREFIX, allocate::NODE_PORT_PREFIX] {
        let request = RangeRequest { keys_only: true, ..RangeRequest::prefix(prefix) };
        let response = core.store.range(request).await.map_err(|error| respond::store_error(&error))?;
        used.extend(response.kvs.into_iter().map(|kv| kv.key));
    }
    let ranges = allocate::Ranges {
        network: core.ranges.cidr.network(),
        prefix_length: core.ranges.cidr.prefix_len(),
        node_ports: core.ranges.node_ports.clone(),
    };
    let in_use = |key: &str| used.contains(key.as_bytes());
    allocate::allocate_service(service, old, &ranges, entropy::random_u64(), &in_use)
}

/// Answers an update of an object or of one of its subresources.
pub(crate) async fn update(mut call: Call, served: &Served, target: Target) -> Result<Response<Body>, Status> {
    let shape = Shape::of(&call)?;
    let dry_run = call.dry_run()?;
    let resource = served.resource;
    let new = call.decode(resource, target).await?;
    let key = resource.key(call.namespace(), call.name());
    // With a resource version a lost race is the client's conflict; without one the client wants to win.
    let conditional = new["metadata"]["resourceVersion"].as_str().is_some_and(|text| !text.is_empty() && text != "0");
    let context = call.core.context();
    let reading = if target == Target::Status { Reading::Status } else { Reading::Whole };
    let mut new = Some(new);
    for attempt in 1..=ATTEMPTS {
        let given = if conditional || attempt == ATTEMPTS { new.take() } else { new.clone() };
        let Some(given) = given else { break };
        let Some(live) = live_for(&call.core, resource, &key, reading).await? else {
            if resource.creates_on_update() && target == Target::Object {
                return create_by_update(&call, resource, &shape, given, dry_run).await;
            }
            return Err(Status::not_found(resource.kind(), call.name()));
        };
        let outcome = resource.update(&context, target, live.existing(), given)?;
        validate_change(&call, resource, target, &live, &outcome).await?;
        if let Some(stored) = apply(&call.core, resource, &key, &live, outcome, dry_run).await? {
            return answer(&call, resource, target, &shape, &stored);
        }
    }
    Err(Status::modified(resource.kind(), call.name()))
}

async fn create_by_update(
    call: &Call,
    resource: &Resource,
    shape: &Shape,
    mut object: Value,
    dry_run: bool,
) -> Result<Response<Body>, Status> {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let stored = insert(&call.core, resource, call.namespace(), object, dry_run).await?;
    Ok(shape.one(StatusCode::CREATED, resource, &stored.encoded, stored.revision))
}

/// Answers a patch of an object or of one of its subresources.
pub(crate) async fn patch(mut call: Call, served: &Served, target: Target) -> Result<Response<Body>, Status> {
    let shape = Shape::of(&call)?;
    let dry_run = call.dry_run()?;
    let resource = served.resource;
    let kind = negotiate::patch_kind(&call.headers)?;
    let validation = call.field_validation()?;
    let body = call.read_body().await?;
    let key = resource.key(call.namespace(), call.name());
    let context = call.core.context();
    let reading = match target {
        Target::Status if kind != PatchKind::Json => Reading::Status,
        _ => Reading::Whole,
    };
    for _ in 0..ATTEMPTS {
        let Some(live) = live_for(&call.core, resource, &key, reading).await? else {
            return Err(Status::not_found(resource.kind(), call.name()));
        };
        let decoded = resource.patch(target, live.existing(), kind, &body, validation)?;
        let outcome = resource.update(&context, target, live.existing(), decoded.value)?;
        validate_change(&call, resource, target, &live, &outcome).await?;
        if let Some(stored) = apply(&call.core, resource, &key, &live, outcome, dry_run).await? {
            call.warnings = decoded.warnings;
            return answer(&call, resource, target, &shape, &stored);
        }
    }
    Err(Status::modified(resource.kind(), call.name()))
}

/// Refuses what the namespace does not allow the changed object to be, also where the change is none.
async fn validate_change(
    call: &Call,
    resource: &Resource,
    target: Target,
    live: &Live,
    outcome: &Outcome,
) -> Result<(), Status> {
    if !admission::validates_change(resource, target, live.value()) {
        return Ok(());
    }
    let new = match outcome {
        Outcome::Unchanged => live.value(),
        Outcome::Write(new) | Outcome::Remove(new) => new,
    };
    admission::validate(resource, new, &call.core.limit_ranges(call.namespace()).await?)
}

/// Writes what an update decided. None: someone else was quicker.
pub(crate) async fn apply(
    core: &Core,
    resource: &Resource,
    key: &str,
    live: &Live,
    outcome: Outcome,
    dry_run: bool,
) -> Result<Option<Stored>, Status> {
    let (value, encoded, reservations) = match outcome {
        Outcome::Unchanged => {
            return Ok(Some(Stored { encoded: live.object.bytes().clone(), revision: Some(live.revision) }));
        }
        Outcome::Write(mut new) => {
            let reservations = match is_service(resource) {
                true => reserve(core, &mut new, Some(live.value())).await?,
                false => Reservations::default(),
            };
            let encoded = live.object.encode(&new);
            (Some(encoded.clone()), encoded, reservations)
        }
        Outcome::Remove(last) => (None, live.object.encode(&last), freed(resource, live.value())),
    };
    if dry_run {
        return Ok(Some(Stored { encoded, revision: Some(live.revision) }));
    }
    let change = Change { resource, key: key.to_owned().into(), expected: live.revision, value, reservations };
    Ok(match commit(core, change).await? {
        Committed::At(revision) => Some(Stored { encoded, revision: Some(revision) }),
        Committed::Changed | Committed::Taken => None,
    })
}

/// What an object gives back when it goes.
pub(crate) fn freed(resource: &Resource, object: &Value) -> Reservations {
    let free = if is_service(resource) { allocate::held(object) } else { Vec::new() };
    Reservations { take: Vec::new(), free }
}

fn answer(
    call: &Call,
    resource: &Resource,
    target: Target,
    shape: &Shape,
    stored: &Stored,
) -> Result<Response<Body>, Status> {
    let mut response = if target == Target::Scale {
        let value = decode_stored(&stored.encoded).map_err(Status::internal_error)?;
        let revision = stored.revision.unwrap_or_default().unsigned_abs();
        let scale = resource.scale(registry::Existing { object: &value, revision })?;
        respond::json(StatusCode::OK, &scale)
    } else {
        shape.one(StatusCode::OK, resource, &stored.encoded, stored.revision)
    };
    respond::warn(&mut response, &call.warnings);
    Ok(response)
}
