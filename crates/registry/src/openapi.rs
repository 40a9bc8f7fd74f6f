//! The OpenAPI documents: v3 per group-version and v2 for all, made from the schema table and the kinds' names.
//!
//! They are made on request and kept nowhere here: a whole document is some hundred kilobytes, and clients ask once.

mod descriptions;
mod paths;
pub mod protobuf;
mod types;

use kube_schema::{ObjectId, Schema, kinds::Kind};
use serde_json::{Map, Value, json};

use crate::Registry;

pub use descriptions::Descriptions;

/// Which of the two documents is made; they differ in how they refer and where parameters' types stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// Media types that bodies are taken in for PATCH. Apply is not among them until it is served.
const PATCH_TYPES: [&str; 3] = crate::patch::PatchKind::MEDIA_TYPES;
/// Types that operations name, beside those that kinds reach.
const COMMON_TYPES: [&str; 5] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
    "io.k8s.api.autoscaling.v1.Scale",
];

/// The root of a group-version's URLs, without the slash in front: `api/v1`, `apis/apps/v1`.
pub fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The v3 document of one group-version, with descriptions; none if nothing is served under it.
pub fn v3(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    v3_with(registry, group, version, Some(&Descriptions::load()))
}

/// The same with descriptions that were loaded before, or with none.
pub fn v3_with(registry: &Registry, group: &str, version: &str, descriptions: Option<&Descriptions>) -> Option<Value> {
    let kinds = registry.resources().iter().map(crate::Resource::kind);
    let kinds: Vec<&Kind> = kinds.filter(|kind| kind.group == group && kind.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let (types, paths) = parts(Dialect::V3, &kinds, descriptions);
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36"},
        "paths": paths,
        "components": {
            "schemas": types,
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
            }},
        },
    }))
}

/// The v2 document, with descriptions.
pub fn v2(registry: &Registry) -> Value {
    let descriptions = Descriptions::load();
    let kinds: Vec<&Kind> = registry.resources().iter().map(|resource| resource.kind()).collect();
    let (types, paths) = parts(Dialect::V2, &kinds, Some(&descriptions));
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36"},
        "paths": paths,
        "definitions": types,
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

fn parts(dialect: Dialect, kinds: &[&Kind], descriptions: Option<&Descriptions>) -> (Value, Value) {
    let schema = Schema::builtin();
    let roots: Vec<ObjectId> = kinds
        .iter()
        .flat_map(|kind| [kind.type_name.to_string(), format!("{}List", kind.type_name)])
        .chain(COMMON_TYPES.map(str::to_owned))
        .chain(["io.k8s.api.authentication.v1.TokenRequest".to_owned()])
        .filter_map(|name| schema.find(&name))
        .collect();
    let mut paths = Map::new();
    for kind in kinds {
        paths::add(&mut paths, dialect, kind);
    }
    (types::schemas(schema, dialect, roots, descriptions), Value::Object(paths))
}

fn reference(dialect: Dialect, name: &str) -> Value {
    match dialect {
        Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
        Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}
