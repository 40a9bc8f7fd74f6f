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
