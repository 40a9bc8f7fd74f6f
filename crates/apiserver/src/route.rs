//! Which handler answers a request. Each handler's future is boxed here: they are large, and the pipeline's own wraps them
//! several times over, by copying.

use futures::FutureExt;
use http::{Response, StatusCode};
use registry::{Status, Target};

use crate::{
    body::Body, commit, delete, discovery, evict, health, list, node_proxy, openapi, pipeline::Call, respond, reviews,
    subresource, view::Shape, watch, write,
};

pub(crate) async fn route(call: Call) -> Result<Response<Body>, Status> {
    match &call.info.resource {
        Some(target) if !target.resource.is_empty() => resource(call).await,
        _ => path(call).await,
    }
}

async fn path(call: Call) -> Result<Response<Body>, Status> {
    if !matches!(call.info.verb, "get" | "head") {
        return Err(Status::method_not_allowed());
    }
    let path = call.info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => health::health(&call, &parts),
        ["version"] => Ok(health::version()),
        ["metrics"] => Ok(health::metrics(&call)),
        ["api" | "apis", ..] => discovery::discovery(&call, &parts),
        ["openapi", rest @ ..] => openapi::serve(&call, rest).boxed().await,
        [".well-known", "openid-configuration"] => Ok(discovery::openid_configuration(&call)),
        ["openid", "v1", "jwks"] => Ok(discovery::key_set(&call)),
        [""] => Ok(discovery::paths(&call)),
        _ => Err(Status::no_such_path()),
    }
}

async fn resource(call: Call) -> Result<Response<Body>, Status> {
    let core = call.core.clone();
    let target = call.target();
    let Some(served) = core.find(&target.group, &target.version, &target.resource) else {
        return discovery::custom_resource_definitions(&call).ok_or_else(Status::no_such_path);
    };
    let kind = served.resource.kind();
    if target.namespace.is_some() && !kind.namespaced {
        return Err(Status::no_such_path());
    }
    if target.name.is_some() && kind.namespaced && target.namespace.is_none() {
        return Err(Status::no_such_path());
    }
    if !target.subresource.is_empty() {
        return self::subresource(call, served).await;
    }
    if !kind.verbs.contains(&call.info.verb) {
        return Err(Status::method_not_allowed());
    }
    match (call.info.verb, target.name.is_some()) {
        ("create", false) if !kind.stored() => reviews::create(call, served).boxed().await,
        ("create", false) => write::create(call, served).boxed().await,
        ("get", true) => get(call, served, Target::Object).boxed().await,
        ("list", false) => list::list(call, served).boxed().await,
        ("watch", _) => watch::watch(call, served).boxed().await,
        ("update", true) => write::update(call, served, Target::Object).boxed().await,
        ("patch", true) => write::patch(call, served, Target::Object).boxed().await,
        ("delete", true) => delete::delete(call, served).boxed().await,
        ("deletecollection", false) => delete::delete_collection(call, served).boxed().await,
        _ => Err(Status::method_not_allowed()),
    }
}

async fn subresource(call: Call, served: &crate::core::Served) -> Result<Response<Body>, Status> {
    let target = call.target();
    // Portforward and the like are one path part; a proxy path with more is not served.
    let Some(known) = served.resource.kind().subresource(&target.subresource) else {
        return Err(Status::no_such_path());
    };
    if !known.verbs.contains(&call.info.verb) {
        return Err(Status::method_not_allowed());
    }
    match known.name {
        "binding" => return subresource::bind(call, served).boxed().await,
        "eviction" => return evict::evict(call, served).boxed().await,
        "token" => return subresource::token(call, served).boxed().await,
        "log" => return node_proxy::log(call, served).boxed().await,
        "exec" | "attach" | "portforward" => return node_proxy::stream(call, served).boxed().await,
        _ => {}
    }
    let written = Target::from_subresource(known.name).ok_or_else(Status::no_such_path)?;
    match call.info.verb {
        "get" => get(call, served, written).boxed().await,
        "update" => write::update(call, served, written).boxed().await,
        "patch" => write::patch(call, served, written).boxed().await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Answers a get, from the store itself, so that a client always sees what it has written.
async fn get(call: Call, served: &crate::core::Served, target: Target) -> Result<Response<Body>, Status> {
    let shape = Shape::of(&call)?;
    let resource = served.resource;
    let key = resource.key(call.namespace(), call.name());
    if target == Target::Scale {
        let live = commit::live(&call.core, resource, &key).await?;
        let live = live.ok_or_else(|| Status::not_found(resource.kind(), call.name()))?;
        return Ok(respond::json(StatusCode::OK, &resource.scale(live.existing())?));
    }
    let kv = call.core.read(key).await?.ok_or_else(|| Status::not_found(resource.kind(), call.name()))?;
    let (value, revision) = (resource.from_stored(kv.value), kv.mod_revision);
    Ok(shape.one(StatusCode::OK, resource, &value, Some(revision)))
}
