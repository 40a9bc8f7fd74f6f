//! The OpenAPI documents hold together.

use registry::{Registry, openapi};
use serde_json::Value;

/// Every reference in a document leads somewhere.
fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            fields.values().for_each(|value| check_references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_types_are_described() {
    let registry = Registry::builtin();
    for (group, version) in registry.group_versions() {
        let document = openapi::v3(registry, group, version).unwrap();
        check_references(&document, &document);
    }
    let document = openapi::v2(registry);
    check_references(&document, &document);
    let container = &document["definitions"]["io.k8s.api.core.v1.Container"];
    assert!(container["description"].as_str().unwrap().contains("container"));
    assert!(container["properties"]["image"]["description"].is_string());
    assert_eq!(container["properties"]["ports"]["x-kubernetes-patch-merge-key"], "containerPort");
    assert!(openapi::v3(registry, "nobody", "v1").is_none());
}

#[test]
fn patches_take_field_validation() {
    let document = openapi::v3(Registry::builtin(), "apps", "v1").unwrap();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<&str> = patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert!(names.contains(&"fieldValidation"));
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    let list = &document["paths"]["/apis/apps/v1/deployments"]["get"];
    assert_eq!(list["operationId"], "listAppsV1DeploymentForAllNamespaces");
}

/// The fields of a message by number, read without knowing any of the encoder's tables.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a varint ends");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return value;
            }
        }
        panic!("a varint has ten bytes at most");
    }
    let mut out = vec![];
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => out.push((tag >> 3, varint(&mut bytes).to_le_bytes().to_vec())),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                out.push((tag >> 3, value.to_vec()));
            }
            kind => panic!("wire type {kind}"),
        }
    }
    out
}

fn field(bytes: &[u8], number: u64) -> Vec<u8> {
    fields(bytes).into_iter().find(|(n, _)| *n == number).map(|(_, value)| value).unwrap_or_default()
}

/// A message of `Named…` entries at `number`, by name.
fn named(bytes: &[u8], number: u64) -> std::collections::BTreeMap<String, Vec<u8>> {
    let entries = fields(bytes).into_iter().filter(|(n, _)| *n == number);
    entries.map(|(_, entry)| (String::from_utf8(field(&entry, 1)).unwrap(), field(&entry, 2))).collect()
}

fn text(bytes: &[u8], number: u64) -> String {
    String::from_utf8(field(bytes, number)).unwrap()
}

/// What a Schema message says must be what the JSON says.
fn check_schema(message: &[u8], json: &serde_json::Value) {
    let expected = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    for (number, name) in [(1, "$ref"), (2, "format"), (4, "description")] {
        assert_eq!(text(message, number), expected(name));
    }
    assert_eq!(text(&field(message, 22), 1), expected("type"));
    let properties = named(&field(message, 25), 1);
    assert_eq!(properties.len(), json["properties"].as_object().map_or(0, |p| p.len()));
    for (name, property) in &properties {
        check_schema(property, &json["properties"][name]);
    }
    for (number, name) in [(21, "additionalProperties"), (23, "items")] {
        if json[name].is_object() {
            check_schema(&field(&field(message, number), 1), &json[name]);
        }
    }
    for (name, any) in named(message, 31) {
        let yaml = text(&any, 2);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&yaml).unwrap(), json[&name], "{name}");
    }
}

#[test]
fn the_protobuf_form_says_what_the_json_says() {
    let document = openapi::v2(Registry::builtin());
    let bytes = openapi::protobuf::encode(&document);
    assert_eq!(text(&bytes, 1), "2.0");
    assert_eq!(text(&field(&bytes, 2), 1), "Kubernetes");
    let definitions = named(&field(&bytes, 9), 1);
    assert_eq!(definitions.len(), document["definitions"].as_object().unwrap().len());
    for (name, definition) in &definitions {
        check_schema(definition, &document["definitions"][name]);
    }
    let pod = named(&definitions["io.k8s.api.core.v1.Pod"], 31);
    assert!(text(&pod["x-kubernetes-group-version-kind"], 2).contains(r#""kind":"Pod""#));
    let paths = named(&field(&bytes, 8), 2);
    assert_eq!(paths.len(), document["paths"].as_object().unwrap().len());
    let pods = &paths["/api/v1/namespaces/{namespace}/pods"];
    let create = field(pods, 4);
    assert_eq!(text(&create, 5), "createCoreV1NamespacedPod");
    assert!(named(&create, 13).contains_key("x-kubernetes-group-version-kind"));
}
