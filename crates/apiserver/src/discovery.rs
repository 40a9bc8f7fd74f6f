//! What the API serves, told to clients: discovery in both forms, and the token issuer's documents.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use kube_schema::kinds::Kind;
use registry::{Registry, Status};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{body::Body, negotiate, pipeline::Call, respond};

/// `/api…` and `/apis…` down to a group version.
pub(crate) fn discovery(call: &Call, parts: &[&str]) -> Result<Response<Body>, Status> {
    let registry = call.core.registry;
    let document = match *parts {
        ["api"] | ["apis"] => {
            let core = parts == ["api"];
            if let Some(version) = negotiate::aggregated_discovery(&call.headers) {
                return Ok(aggregated(call, registry, core, version));
            }
            if core { api_versions(call) } else { group_list(registry) }
        }
        ["apis", group] => group_document(registry, group).ok_or_else(Status::no_such_path)?,
        ["api", version] => resource_list(registry, "", version).ok_or_else(Status::no_such_path)?,
        ["apis", group, version] => resource_list(registry, group, version).ok_or_else(Status::no_such_path)?,
        _ => return Err(Status::no_such_path()),
    };
    Ok(respond::json(StatusCode::OK, &document))
}

/// `/`: the paths that are served.
pub(crate) fn paths(call: &Call) -> Response<Body> {
    let mut paths: Vec<String> = ["/.well-known/openid-configuration", "/api", "/apis", "/healthz", "/livez"]
        .into_iter()
        .chain(["/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"])
        .map(str::to_owned)
        .collect();
    for (group, version) in call.core.registry.group_versions() {
        paths.push(group_path(group, version));
    }
    paths.sort();
    respond::json(StatusCode::OK, &json!({ "paths": paths }))
}

fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

fn api_versions(call: &Call) -> Value {
    let host = call.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let host = host.or_else(|| call.request.uri().host()).unwrap_or_default();
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": host }],
    })
}

fn group(registry: &Registry, name: &str) -> Option<Value> {
    let versions: Vec<Value> = registry
        .group_versions()
        .into_iter()
        .filter(|(group, _)| *group == name && !name.is_empty())
        .map(|(group, version)| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({ "name": name, "versions": versions, "preferredVersion": preferred }))
}

fn group_document(registry: &Registry, name: &str) -> Option<Value> {
    let mut document = group(registry, name)?;
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

fn group_names(registry: &Registry) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (group, _) in registry.group_versions() {
        if !group.is_empty() && !names.contains(&group) {
            names.push(group);
        }
    }
    names
}

fn group_list(registry: &Registry) -> Value {
    let groups: Vec<Value> = group_names(registry).into_iter().filter_map(|name| group(registry, name)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

fn kinds<'a>(registry: &'a Registry, group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Kind> + 'a {
    registry.resources().iter().map(|r| r.kind()).filter(move |k| k.group == group && k.version == version)
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds(registry, group, version) {
        let mut resource = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": kind.verbs,
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        if kind.stored() {
            resource["storageVersionHash"] = storage_hash(registry, kind).into();
        }
        resources.push(resource);
        for sub in kind.subresources.iter() {
            let mut resource = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced,
                "kind": sub.kind, "verbs": sub.verbs,
            });
            if sub.group != kind.group {
                resource["group"] = sub.group.into();
                resource["version"] = sub.version.into();
            }
            resources.push(resource);
        }
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty())
        .then(|| json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources }))
}

/// Tells clients when a kind is stored in another version. Of kinds that share their objects, the first says how these
/// are stored.
fn storage_hash(registry: &Registry, kind: &Kind) -> String {
    use base64::Engine;
    let mut kinds = registry.resources().iter().map(|resource| resource.kind());
    let kind = kinds.find(|other| other.storage_prefix == kind.storage_prefix).unwrap_or(kind);
    let hash = Sha256::digest(format!("{}/{}/{}", kind.group, kind.version, kind.kind));
    base64::prelude::BASE64_STANDARD.encode(&hash[..8])
}

/// The aggregated form (apidiscovery.k8s.io): everything in one document with a tag, so that it is fetched once.
fn aggregated(call: &Call, registry: &Registry, core: bool, version: &'static str) -> Response<Body> {
    let groups: Vec<(&str, Vec<&str>)> = if core {
        vec![("", vec!["v1"])]
    } else {
        let versions = |name: &str| {
            registry.group_versions().into_iter().filter(|(g, _)| *g == name).map(|(_, v)| v).collect::<Vec<_>>()
        };
        group_names(registry).into_iter().map(|name| (name, versions(name))).collect()
    };
    let items: Vec<Value> = groups
        .into_iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> = kinds(registry, name, version).map(aggregated_resource).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            json!({ "metadata": { "name": name, "creationTimestamp": null }, "versions": versions })
        })
        .collect();
    let document = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items,
    });
    let body = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let media = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let mut response = tagged(call, body);
    if let Ok(value) = HeaderValue::from_str(&media) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

fn aggregated_resource(kind: &'static Kind) -> Value {
    let response_kind =
        |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let mut resource = json!({
        "resource": kind.plural, "responseKind": response_kind(&kind.group, &kind.version, &kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            json!({
                "subresource": sub.name, "responseKind": response_kind(sub.group, sub.version, sub.kind),
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

/// A document with its tag, or nothing when the client has it.
fn tagged(call: &Call, body: Bytes) -> Response<Body> {
    let tag = format!("\"{}\"", tag(&body));
    let known = call.headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        respond::bytes(StatusCode::OK, body)
    };
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn tag(body: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(body).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// The list of custom resource definitions, which is empty until such are served: `kubectl` reads it to learn whether a
/// kind that it does not know is a custom one, and takes a 404 for a broken server. Discovery does not name the resource.
pub(crate) fn custom_resource_definitions(call: &Call) -> Option<Response<Body>> {
    let target = call.target();
    let wanted = ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "", "list");
    let asked = (&*target.group, &*target.version, &*target.resource, &*target.subresource, call.info.verb);
    (asked == wanted && target.name.is_none()).then(|| {
        respond::json(
            StatusCode::OK,
            &json!({
                "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
                "metadata": {}, "items": [],
            }),
        )
    })
}

pub(crate) fn openid_configuration(call: &Call) -> Response<Body> {
    let issuer = call.core.tokens.issuer();
    let uri = format!("{}/openid/v1/jwks", issuer.trim_end_matches('/'));
    respond::json(StatusCode::OK, &call.core.tokens.configuration(&uri))
}

pub(crate) fn key_set(call: &Call) -> Response<Body> {
    let mut response = respond::json(StatusCode::OK, &call.core.tokens.key_set());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    response
}
