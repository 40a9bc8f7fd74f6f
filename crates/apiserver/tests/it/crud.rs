//! Create, read, update, patch, delete.

use serde_json::{Value, json};

use crate::harness::{Server, server};

pub fn config_map(name: &str, data: &str) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": { "a": data } })
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(server: &Server, name: &str) -> Value {
    server.call(&format!("POST {MAPS}"), config_map(name, "1")).await.expect(201)
}

#[tokio::test]
async fn an_object_lives_and_goes() {
    let server = server().await;
    let created = create(&server, "x").await;
    let version = created["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert!(created["metadata"]["uid"].as_str().is_some_and(|uid| uid.len() == 36));
    assert_eq!(server.get(&format!("{MAPS}/x")).await.expect(200), created);
    server.call(&format!("POST {MAPS}"), config_map("x", "2")).await.expect_error(
        409,
        "AlreadyExists",
        "configmaps \"x\" already exists",
    );

    let mut new = created.clone();
    new["data"]["a"] = "2".into();
    let updated = server.call(&format!("PUT {MAPS}/x"), new.clone()).await.expect(200);
    assert_ne!(updated["metadata"]["resourceVersion"], version);
    server.call(&format!("PUT {MAPS}/x"), new).await.expect_error(
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your changes to the latest version and try again",
    );
    // Nothing changes: nothing is written.
    let same = server.call(&format!("PUT {MAPS}/x"), updated.clone()).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);
    // Without a version the last one wins.
    let unconditional = server.call(&format!("PUT {MAPS}/x"), config_map("x", "3")).await.expect(200);
    assert_eq!(unconditional["data"]["a"], "3");

    let gone = server.call(&format!("DELETE {MAPS}/x"), json!({})).await.expect(200);
    assert_eq!((gone["kind"].as_str(), gone["status"].as_str()), (Some("Status"), Some("Success")));
    server.get(&format!("{MAPS}/x")).await.expect_error(404, "NotFound", "configmaps \"x\" not found");
    server.call(&format!("DELETE {MAPS}/x"), json!({})).await.expect_error(
        404,
        "NotFound",
        "configmaps \"x\" not found",
    );
}

#[tokio::test]
async fn patches_of_three_kinds() {
    let server = server().await;
    create(&server, "x").await;
    let path = format!("PATCH {MAPS}/x");
    for (media, body, expected) in [
        ("application/merge-patch+json", json!({"data": {"b": "2"}}), json!({"a": "1", "b": "2"})),
        ("application/strategic-merge-patch+json", json!({"data": {"a": null, "c": "3"}}), json!({"b": "2", "c": "3"})),
        (
            "application/json-patch+json",
            json!([{"op": "test", "path": "/data/b", "value": "2"}, {"op": "remove", "path": "/data/b"}]),
            json!({"c": "3"}),
        ),
    ] {
        let patched = server.call_with(&path, &[("content-type", media)], body.to_string()).await.expect(200);
        assert_eq!(patched["data"], expected, "{media}");
    }
    let refused = server.call_with(&path, &[("content-type", "application/apply-patch+yaml")], "{}").await;
    assert_eq!(refused.code, 415);
    assert!(refused.json["message"].as_str().unwrap().contains("server-side apply"));
    let missing = server.call(&format!("PATCH {MAPS}/none"), json!({})).await;
    missing.expect_error(404, "NotFound", "configmaps \"none\" not found");
}

#[tokio::test]
async fn concurrent_patches_all_win() {
    let server = server().await;
    create(&server, "x").await;
    let patches = (0..6).map(|n| {
        let body = json!({ "data": { format!("k{n}"): "v" } });
        let server = &server;
        async move { server.call(&format!("PATCH {MAPS}/x"), body).await.expect(200) }
    });
    futures::future::join_all(patches).await;
    let object = server.get(&format!("{MAPS}/x")).await.expect(200);
    assert_eq!(object["data"].as_object().unwrap().len(), 7);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let server = server().await;
    let seen = server.call(&format!("POST {MAPS}?dryRun=All"), config_map("dry", "1")).await.expect(201);
    assert_eq!(seen["metadata"]["name"], "dry");
    server.get(&format!("{MAPS}/dry")).await.expect(404);
    let created = create(&server, "x").await;
    let patched = server.call(&format!("PATCH {MAPS}/x?dryRun=All"), json!({"data": {"a": "2"}})).await.expect(200);
    assert_eq!(patched["data"]["a"], "2");
    server.call(&format!("DELETE {MAPS}/x?dryRun=All"), json!({})).await.expect(200);
    assert_eq!(server.get(&format!("{MAPS}/x")).await.expect(200), created);
    assert_eq!(server.call(&format!("POST {MAPS}?dryRun=Some"), config_map("y", "1")).await.code, 422);
}

#[tokio::test]
async fn fields_are_validated_as_asked() {
    let server = server().await;
    let body = |name: &str| json!({ "metadata": { "name": name }, "foo": 1, "data": { "a": "1" } });
    let warned = server.call(&format!("POST {MAPS}"), body("warn")).await;
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"foo\\\"\"");
    assert!(warned.expect(201).get("foo").is_none());
    let silent = server.call(&format!("POST {MAPS}?fieldValidation=Ignore"), body("ignore")).await;
    assert!(!silent.headers.contains_key("warning"));
    silent.expect(201);
    let strict = server.call(&format!("POST {MAPS}?fieldValidation=Strict"), body("strict")).await;
    assert!(strict.json["message"].as_str().unwrap().contains("strict decoding error: unknown field \"foo\""));
    strict.expect(400);
}

#[tokio::test]
async fn names_are_generated_and_namespaces_checked() {
    let server = server().await;
    let body = json!({ "metadata": { "generateName": "gen-" } });
    let first = server.call(&format!("POST {MAPS}"), body.clone()).await.expect(201);
    let second = server.call(&format!("POST {MAPS}"), body).await.expect(201);
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&first).starts_with("gen-") && name(&first).len() == 9 && name(&first) != name(&second));
    let elsewhere = server.call("POST /api/v1/namespaces/none/configmaps", config_map("x", "1")).await;
    elsewhere.expect_error(404, "NotFound", "namespaces \"none\" not found");
    let bad = server.call(&format!("POST {MAPS}"), config_map("X_", "1")).await;
    assert_eq!((bad.code, bad.json["reason"].as_str()), (422, Some("Invalid")));
}

#[tokio::test]
async fn bodies_may_be_yaml_and_must_be_known() {
    let server = server().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yam\ndata:\n  a: \"1\"\n";
    let created =
        server.call_with(&format!("POST {MAPS}"), &[("content-type", "application/yaml")], yaml).await.expect(201);
    assert_eq!(created["data"]["a"], "1");
    for (media, body, code) in [
        ("application/vnd.kubernetes.protobuf", "x", 400),
        ("application/cbor", "x", 415),
        ("application/json", "{", 400),
        ("application/json", "[]", 400),
        ("application/json", r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"z"}}"#, 400),
        ("application/yaml", "a: [", 400),
    ] {
        let answer = server.call_with(&format!("POST {MAPS}"), &[("content-type", media)], body).await;
        assert_eq!(answer.code, code, "{media} {body}: {}", answer.text());
        assert_eq!(answer.json["kind"], "Status");
    }
}

#[tokio::test]
async fn preconditions_guard_a_delete() {
    let server = server().await;
    let created = create(&server, "x").await;
    let wrong = server.call(&format!("DELETE {MAPS}/x"), json!({ "preconditions": { "uid": "other" } })).await;
    assert_eq!((wrong.code, wrong.json["reason"].as_str()), (409, Some("Conflict")));
    let right = json!({ "preconditions": { "uid": created["metadata"]["uid"] } });
    server.call(&format!("DELETE {MAPS}/x"), right).await.expect(200);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let server = server().await;
    let mut object = config_map("x", "1");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.call(&format!("POST {MAPS}"), object).await.expect(201);
    let going = server.call(&format!("DELETE {MAPS}/x"), json!({})).await.expect(200);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    server.get(&format!("{MAPS}/x")).await.expect(200);
    server.call(&format!("PATCH {MAPS}/x"), json!({ "metadata": { "finalizers": null } })).await.expect(200);
    server.get(&format!("{MAPS}/x")).await.expect(404);
}

#[tokio::test]
async fn a_collection_goes_at_once() {
    let server = server().await;
    for n in 0..5 {
        let mut object = config_map(&format!("x{n}"), "1");
        object["metadata"]["labels"] = json!({ "even": (n % 2 == 0).to_string() });
        server.call(&format!("POST {MAPS}"), object).await.expect(201);
    }
    let list = server.call(&format!("DELETE {MAPS}?labelSelector=even%3Dtrue"), json!({})).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    let left = server.get(MAPS).await.expect(200);
    let names: Vec<_> = left["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["x1", "x3"]);
}

#[tokio::test]
async fn unknown_places_and_methods() {
    let server = server().await;
    server.get("/api/v1/nothings").await.expect_error(
        404,
        "NotFound",
        "the server could not find the requested resource",
    );
    server.get("/apis/none/v1/pods").await.expect(404);
    server.get("/nothing").await.expect(404);
    server.call("PUT /api/v1/namespaces/default/configmaps", json!({})).await.expect(405);
    server.call("DELETE /api/v1/namespaces", json!({})).await.expect(405);
    server.get("/api/v1/namespaces/default/nodes").await.expect(404);
}
