//! Types as OpenAPI schemas.

use std::collections::BTreeSet;

use kube_schema::{Field, ListKind, Object, ObjectId, Schema, Shape};
use serde_json::{Map, Value, json};

use super::{Descriptions, Dialect, reference};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Every type that `roots` reach, by name.
pub(super) fn schemas(
    schema: &Schema,
    dialect: Dialect,
    roots: Vec<ObjectId>,
    descriptions: Option<&Descriptions>,
) -> Value {
    let mut out = scalars(dialect, descriptions);
    let mut seen = BTreeSet::new();
    let mut queue = roots;
    while let Some(id) = queue.pop() {
        let object = schema.object(id);
        if !seen.insert(object.name.as_ref()) {
            continue;
        }
        for field in &object.fields {
            reach(&field.shape, &mut queue);
        }
        out.insert(object.name.to_string(), object_schema(schema, dialect, object, descriptions));
    }
    Value::Object(out)
}

fn reach(shape: &Shape, queue: &mut Vec<ObjectId>) {
    match shape {
        Shape::Object(id) => queue.push(*id),
        Shape::Map { value, .. } => reach(value, queue),
        Shape::List { item, .. } => reach(item, queue),
        _ => {}
    }
}

/// The types that are no objects but have names.
fn scalars(dialect: Dialect, descriptions: Option<&Descriptions>) -> Map<String, Value> {
    let either = |types: [&str; 2]| types.map(|kind| json!({"type": kind}));
    let (quantity, int_or_string) = match dialect {
        Dialect::V2 => (json!({"type": "string"}), json!({"type": "string", "format": "int-or-string"})),
        Dialect::V3 => (
            json!({"oneOf": either(["string", "number"])}),
            json!({"format": "int-or-string", "oneOf": either(["integer", "string"])}),
        ),
    };
    let time = json!({"type": "string", "format": "date-time"});
    let all = [
        (QUANTITY, quantity),
        (INT_OR_STRING, int_or_string),
        (TIME, time.clone()),
        (MICRO_TIME, time),
        (PATCH, json!({"type": "object"})),
    ];
    let mut out = Map::new();
    for (name, mut scalar) in all {
        if let Some(text) = descriptions.and_then(|d| d.of_type(name)) {
            scalar["description"] = text.into();
        }
        out.insert(name.to_owned(), scalar);
    }
    out
}

fn object_schema(schema: &Schema, dialect: Dialect, object: &Object, descriptions: Option<&Descriptions>) -> Value {
    let mut properties = Map::new();
    for field in &object.fields {
        let text = descriptions.and_then(|d| d.of_field(&object.name, &field.name));
        properties.insert(field.name.to_string(), property(schema, dialect, field, text));
    }
    let mut out = json!({"type": "object", "properties": properties});
    let required: Vec<&str> = object.fields.iter().filter(|f| f.required).map(|f| f.name.as_ref()).collect();
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if object.atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some((group, version, kind)) = &object.gvk {
        out["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
    }
    if let Some(text) = descriptions.and_then(|d| d.of_type(&object.name)) {
        out["description"] = text.into();
    }
    out
}

fn property(schema: &Schema, dialect: Dialect, field: &Field, description: Option<&str>) -> Value {
    let mut out = shape(schema, dialect, &field.shape);
    // Beside a `$ref` nothing else counts in v3, so that the reference moves into an `allOf`.
    if dialect == Dialect::V3 && out.get("$ref").is_some() {
        out = json!({"allOf": [out]});
    }
    match &field.shape {
        Shape::List { kind, .. } => match kind {
            ListKind::Atomic => out["x-kubernetes-list-type"] = "atomic".into(),
            ListKind::Set => out["x-kubernetes-list-type"] = "set".into(),
            ListKind::Map(keys) => {
                out["x-kubernetes-list-type"] = "map".into();
                out["x-kubernetes-list-map-keys"] = json!(keys);
            }
        },
        Shape::Map { atomic: true, .. } => out["x-kubernetes-map-type"] = "atomic".into(),
        _ => {}
    }
    let strategies: Vec<&str> = [("merge", field.patch.merge), ("retainKeys", field.patch.retain_keys)]
        .into_iter()
        .filter(|s| s.1)
        .map(|s| s.0)
        .collect();
    if !strategies.is_empty() {
        out["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
    if let Some(key) = &field.patch.merge_key {
        out["x-kubernetes-patch-merge-key"] = key.as_ref().into();
    }
    if let Some(text) = description {
        out["description"] = text.into();
    }
    out
}

fn shape(schema: &Schema, dialect: Dialect, value: &Shape) -> Value {
    match value {
        Shape::Any => json!({"type": "object"}),
        Shape::String => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Time => reference(dialect, TIME),
        Shape::MicroTime => reference(dialect, MICRO_TIME),
        Shape::Quantity => reference(dialect, QUANTITY),
        Shape::IntOrString => reference(dialect, INT_OR_STRING),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Double => json!({"type": "number", "format": "double"}),
        Shape::Object(id) => reference(dialect, &schema.object(*id).name),
        Shape::Map { value, .. } => json!({"type": "object", "additionalProperties": shape(schema, dialect, value)}),
        Shape::List { item, .. } => json!({"type": "array", "items": shape(schema, dialect, item)}),
    }
}
