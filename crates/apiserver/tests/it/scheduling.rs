//! What the scheduler's road touches beside binding: evictions and budgets, events of both groups, topology labels, default
//! classes.

use serde_json::{Value, json};

use crate::harness::{Server, server};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn running_pod(server: &Server, name: &str) {
    let account = json!({ "metadata": { "name": "default" } });
    server.call("POST /api/v1/namespaces/default/serviceaccounts", account).await;
    let pod = json!({
        "metadata": { "name": name, "labels": { "app": "web" } },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "demo" }] },
    });
    server.call(&format!("POST {PODS}"), pod).await.expect(201);
    let ready = json!({ "type": "Ready", "status": "True" });
    let status = json!({ "status": { "phase": "Running", "conditions": [ready] } });
    server.call(&format!("PATCH {PODS}/{name}/status"), status).await.expect(200);
}

async fn evict(server: &Server, name: &str) -> crate::harness::Answer {
    let eviction = json!({ "kind": "Eviction", "apiVersion": "policy/v1", "metadata": { "name": name } });
    server.call(&format!("POST {PODS}/{name}/eviction"), eviction).await
}

#[tokio::test]
async fn evictions_are_counted_by_the_budget() {
    let server = server().await;
    for name in ["a", "b"] {
        running_pod(&server, name).await;
    }
    let selector = json!({ "matchLabels": { "app": "web" } });
    let budget = json!({ "metadata": { "name": "web" }, "spec": { "minAvailable": 1, "selector": selector } });
    server.call(&format!("POST {BUDGETS}"), budget).await.expect(201);
    let early = evict(&server, "a").await;
    assert_eq!(early.code, 429, "{}", early.text());
    let cause = json!({"reason": "DisruptionBudget", "message": "The disruption budget web is still being processed by the server."});
    assert_eq!(early.json["details"], json!({"causes": [cause], "retryAfterSeconds": 10}));

    let counted = json!({ "status": {
        "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
    } });
    server.call(&format!("PATCH {BUDGETS}/web/status"), counted).await.expect(200);
    let wrong = json!({ "metadata": { "name": "b" } });
    assert_eq!(server.call(&format!("POST {PODS}/a/eviction"), wrong).await.code, 400);
    evict(&server, "a").await.expect(201);
    let pod = server.get(&format!("{PODS}/a")).await.expect(200);
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let target = pod["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "DisruptionTarget");
    assert_eq!(target.unwrap()["reason"], "EvictionByEvictionAPI");
    let status = server.get(&format!("{BUDGETS}/web")).await.expect(200)["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["a"].is_string());

    let refused = evict(&server, "b").await;
    assert_eq!(refused.code, 429);
    assert_eq!(refused.json["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    let why = &refused.json["details"]["causes"][0]["message"];
    assert_eq!(why, "The disruption budget web does not allow evicting pods currently");
    // Who asks twice takes one disruption only, and who is gone already asks nobody.
    evict(&server, "a").await.expect(201);
}

#[tokio::test]
async fn both_groups_serve_all_events() {
    let server = server().await;
    let newer = json!({
        "metadata": { "name": "new" }, "regarding": { "kind": "Pod", "name": "p", "namespace": "default" },
        "note": "placed", "reason": "Scheduled", "type": "Normal", "action": "Binding",
        "reportingController": "default-scheduler", "reportingInstance": "x",
        "eventTime": "2024-01-01T00:00:00.000000Z",
    });
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let created = server.call(&format!("POST {events}"), newer).await.expect(201);
    assert_eq!((&created["apiVersion"], &created["note"]), (&json!("events.k8s.io/v1"), &json!("placed")));
    let core = server.get("/api/v1/namespaces/default/events/new").await.expect(200);
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("placed"), &json!("p")));
    assert_eq!((&core["apiVersion"], &core["metadata"]["uid"]), (&json!("v1"), &created["metadata"]["uid"]));
    let older = json!({
        "metadata": { "name": "old" }, "reason": "Test", "type": "Normal", "message": "seen", "count": 2,
        "involvedObject": { "kind": "Pod", "name": "q", "namespace": "default" },
    });
    server.call("POST /api/v1/namespaces/default/events", older).await.expect(201);
    let list = server.get(&format!("{events}?fieldSelector=regarding.name%3Dq")).await.expect(200);
    let [only] = list["items"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!((&only["note"], &only["deprecatedCount"]), (&json!("seen"), &json!(2)));
    let series = json!({ "series": { "count": 2, "lastObservedTime": "2024-01-01T00:01:00.000000Z" } });
    server.call(&format!("PATCH {events}/new"), series).await.expect(200);
    let core = server.get("/api/v1/namespaces/default/events/new").await.expect(200);
    assert_eq!((&core["series"]["count"], &core["message"]), (&json!(2), &json!("placed")));
    let refused = server.call(&format!("PATCH {events}/new"), json!({ "note": "other" })).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    assert_eq!(refused.json["details"]["causes"][0]["field"], "message");
    server.call(&format!("DELETE {events}/old"), json!({})).await.expect(200);
    server.get("/api/v1/namespaces/default/events/old").await.expect(404);
}

#[tokio::test]
async fn a_bound_pod_knows_its_zone() {
    let server = server().await;
    let labels = json!({ "topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x" });
    let node = json!({ "metadata": { "name": "n", "labels": labels } });
    server.call("POST /api/v1/nodes", node).await.expect(201);
    running_pod(&server, "born-there").await;
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "demo" }] } });
    server.call(&format!("POST {PODS}"), pod).await.expect(201);
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    server.call(&format!("POST {PODS}/p/binding"), binding).await.expect(201);
    for name in ["p", "born-there"] {
        let mut labels: Value = server.get(&format!("{PODS}/{name}")).await.expect(200)["metadata"]["labels"].clone();
        labels.as_object_mut().unwrap().remove("app");
        let expected = json!({ "topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1" });
        assert_eq!(labels, expected, "{name}");
    }
}

#[tokio::test]
async fn claims_get_the_default_class() {
    let server = server().await;
    let class = |name: &str, default: &str| {
        json!({
            "metadata": { "name": name, "annotations": { "storageclass.kubernetes.io/is-default-class": default } },
            "provisioner": "example.com/disk",
        })
    };
    for (name, default) in [("fast", "false"), ("usual", "true")] {
        server.call("POST /apis/storage.k8s.io/v1/storageclasses", class(name, default)).await.expect(201);
    }
    let path = "/api/v1/namespaces/default/persistentvolumeclaims";
    let resources = json!({ "requests": { "storage": "1Gi" } });
    for (given, expected) in [(Value::Null, "usual"), (json!(""), ""), (json!("fast"), "fast")] {
        let claim = json!({
            "metadata": { "generateName": "c-" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": given },
        });
        let created = server.call(&format!("POST {path}"), claim).await.expect(201);
        assert_eq!(created["spec"]["storageClassName"], expected);
    }
}

#[tokio::test]
async fn priority_classes_by_every_verb() {
    const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let server = server().await;
    for (name, value) in [("p1", 1), ("p2", 2)] {
        let class = json!({ "metadata": { "name": name, "labels": { "of": "us" } }, "value": value });
        let created = server.call(&format!("POST {CLASSES}"), class).await.expect(201);
        assert_eq!((&created["value"], &created["preemptionPolicy"]), (&json!(value), &json!("PreemptLowerPriority")));
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|c| c["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&server.get(&format!("{CLASSES}?labelSelector=of%3Dus")).await.expect(200)), ["p1", "p2"]);
    // What may change is replaced and patched; what may not is refused, whichever way.
    let path = format!("{CLASSES}/p1");
    let mut class = server.get(&path).await.expect(200);
    class["description"] = json!("first");
    let replaced = server.call(&format!("PUT {path}"), class.clone()).await.expect(200);
    assert_eq!((&replaced["description"], &replaced["metadata"]["uid"]), (&json!("first"), &class["metadata"]["uid"]));
    let patched = server.call(&format!("PATCH {path}"), json!({ "description": "second" })).await.expect(200);
    assert_eq!(patched["description"], "second");
    let refusal = "may not be changed in an update.";
    for (field, value) in [("value", json!(7)), ("preemptionPolicy", json!("Never"))] {
        let mut changed = patched.clone();
        changed[field] = value.clone();
        for refused in [
            server.call(&format!("PUT {path}"), changed).await,
            server.call(&format!("PATCH {path}"), json!({ field: value })).await,
        ] {
            assert_eq!((refused.code, &refused.json["details"]["causes"][0]["field"]), (422, &json!(field)));
            let why = refused.json["details"]["causes"][0]["message"].as_str().unwrap();
            assert!(field != "value" || why.ends_with(refusal), "{why}");
        }
    }
    server.call(&format!("DELETE {path}"), json!({})).await.expect(200);
    server.get(&path).await.expect(404);
    server.call(&format!("DELETE {CLASSES}?labelSelector=of%3Dus"), json!({})).await.expect(200);
    server.get(&format!("{CLASSES}/p2")).await.expect(404);
    // Those that every cluster has are still there.
    let left = names(&server.get(CLASSES).await.expect(200));
    assert_eq!(left, ["system-cluster-critical", "system-node-critical"]);
}
