//! Writes kube-schema's table from Kubernetes' OpenAPI v2 document.
//!
//! The document is 4 MB, most of it descriptions; the table keeps the facts only. It is committed, so that a build needs
//! neither the document nor this chore; run it again when the API's version moves.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kube-schema/src/schema.txt");
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Reads the document at `openapi` and replaces the table.
pub fn run(openapi: &Path) -> Result<()> {
    let text = fs::read(openapi).with_context(|| format!("reading {}", openapi.display()))?;
    let document: Value = serde_json::from_slice(&text).with_context(|| format!("parsing {}", openapi.display()))?;
    let table = table(&document)?;
    fs::write(TABLE, &table).context("writing the table")?;
    println!("{} bytes", table.len());
    Ok(())
}

fn table(document: &Value) -> Result<String> {
    let definitions = document["definitions"].as_object().context("the document has no definitions")?;
    let mut out =
        String::from("# Kubernetes v1.36's types. Written by `xtask gen-schema`; the format is told in table.rs.\n");
    for (name, definition) in definitions {
        let Some(properties) = definition["properties"].as_object() else { continue };
        write!(out, "type {name}")?;
        if let Some([gvk]) = definition["x-kubernetes-group-version-kind"].as_array().map(Vec::as_slice) {
            let part = |key: &str| gvk[key].as_str().unwrap_or_default();
            write!(out, " gvk={}/{}/{}", part("group"), part("version"), part("kind"))?;
        }
        if definition["x-kubernetes-map-type"] == "atomic" {
            out.push_str(" atomic");
        }
        out.push('\n');
        let required: Vec<&str> =
            definition["required"].as_array().into_iter().flatten().flat_map(Value::as_str).collect();
        for (field, property) in properties {
            write!(out, " {field} {}", shape(definitions, property).with_context(|| format!("{name}.{field}"))?)?;
            write_attributes(&mut out, property, required.contains(&field.as_str()))?;
            out.push('\n');
        }
    }
    Ok(out)
}

fn write_attributes(out: &mut String, property: &Value, required: bool) -> Result<()> {
    match property["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            let keys = property["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().flat_map(Value::as_str);
            write!(out, " keys={}", keys.collect::<Vec<_>>().join(","))?;
        }
        Some(kind) if property["type"] == "array" => write!(out, " {kind}")?,
        _ => {}
    }
    if property["x-kubernetes-map-type"] == "atomic" && property["type"] == "object" {
        out.push_str(" atomic");
    }
    for strategy in property["x-kubernetes-patch-strategy"].as_str().into_iter().flat_map(|s| s.split(',')) {
        match (strategy, property["x-kubernetes-patch-merge-key"].as_str()) {
            ("merge", Some(key)) => write!(out, " merge={key}")?,
            ("merge" | "retainKeys", _) => write!(out, " {strategy}")?,
            ("replace", _) => {}
            (other, _) => bail!("unknown patch strategy {other}"),
        }
    }
    if required {
        out.push_str(" required");
    }
    Ok(())
}

fn shape(definitions: &serde_json::Map<String, Value>, property: &Value) -> Result<String> {
    if let Some(reference) = property["$ref"].as_str() {
        let name = reference.strip_prefix("#/definitions/").context("a reference outside the definitions")?;
        let scalar = match name.strip_prefix(META) {
            Some("Time") => Some("time"),
            Some("MicroTime") => Some("microtime"),
            _ if name.ends_with(".resource.Quantity") => Some("quantity"),
            _ if name.ends_with(".intstr.IntOrString") => Some("intorstring"),
            _ => None,
        };
        let has_fields = definitions.get(name).is_some_and(|d| d["properties"].is_object());
        return Ok(match scalar {
            Some(scalar) => scalar.to_owned(),
            None if has_fields => format!("@{name}"),
            None => "any".to_owned(),
        });
    }
    Ok(match (property["type"].as_str(), property["format"].as_str()) {
        (Some("array"), _) => format!("[{}", shape(definitions, &property["items"])?),
        (Some("object"), _) if property["additionalProperties"].is_object() => {
            format!("{{{}", shape(definitions, &property["additionalProperties"])?)
        }
        (Some("object") | None, _) => "any".to_owned(),
        (Some("string"), Some("byte")) => "bytes".to_owned(),
        (Some("string"), None) => "string".to_owned(),
        (Some("boolean"), _) => "bool".to_owned(),
        (Some("integer"), Some("int64")) => "int64".to_owned(),
        (Some("integer"), _) => "int32".to_owned(),
        (Some("number"), _) => "double".to_owned(),
        (kind, format) => bail!("unknown type {kind:?} with format {format:?}"),
    })
}
