//! Pods of one template, of which the server remembers what became of their spec: they are what the first one was, and what
//! changes around them counts at once.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, server};

const PODS: &str = "POST /api/v1/namespaces/default/pods";
const ACCOUNT: &str = "/api/v1/namespaces/default/serviceaccounts/default";

/// More than it takes until the server remembers.
const OFTEN: usize = 4;

async fn server_with_account() -> Server {
    let server = server().await;
    let account = json!({ "metadata": { "name": "default" } });
    server.call("POST /api/v1/namespaces/default/serviceaccounts", account).await.expect(201);
    server
}

async fn create(server: &Server, metadata: Value) -> Answer {
    let container = json!({ "name": "c", "image": "demo", "resources": { "requests": { "cpu": "1000m" } } });
    let pod = json!({ "metadata": metadata, "spec": { "containers": [container], "priority": null } });
    server.call(PODS, pod).await
}

/// A pod without what is each one's own: names, uid, times, and the drawn part of its token volume's name.
fn common(pod: &Value) -> String {
    let mut pod = pod.clone();
    for field in ["name", "generateName", "uid", "creationTimestamp", "resourceVersion", "labels"] {
        pod["metadata"].as_object_mut().unwrap().remove(field);
    }
    let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap_or("none").to_owned();
    pod.to_string().replace(&volume, "volume")
}

#[tokio::test]
async fn they_are_alike_and_each_has_its_own() {
    let server = server_with_account().await;
    let first = create(&server, json!({ "name": "p-0" })).await.expect(201);
    assert!(first["spec"]["volumes"][0]["name"].as_str().unwrap().starts_with("kube-api-access-"));
    let mut volumes = vec![first["spec"]["volumes"][0]["name"].clone()];
    for at in 1..=OFTEN {
        let metadata = json!({ "generateName": "p-", "labels": { "at": at.to_string() } });
        let pod = create(&server, metadata).await.expect(201);
        assert_eq!(common(&pod), common(&first));
        assert_eq!(pod["metadata"]["labels"], json!({ "at": at.to_string() }));
        let name = pod["metadata"]["name"].as_str().unwrap();
        assert_eq!(server.get(&format!("/api/v1/namespaces/default/pods/{name}")).await.expect(200), pod);
        volumes.push(pod["spec"]["volumes"][0]["name"].clone());
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], volumes[at]);
    }
    volumes.sort_by_key(ToString::to_string);
    volumes.dedup();
    assert_eq!(volumes.len(), OFTEN + 1);
}

#[tokio::test]
async fn they_are_refused_as_others_are() {
    let server = server_with_account().await;
    for at in 0..OFTEN {
        create(&server, json!({ "name": format!("p-{at}") })).await.expect(201);
    }
    create(&server, json!({ "name": "p-0" })).await.expect_error(409, "AlreadyExists", "pods \"p-0\" already exists");
    assert_eq!(create(&server, json!({ "name": "P" })).await.code, 422);
    assert_eq!(create(&server, json!({ "name": "q", "namespace": "other" })).await.code, 400);
    let warned = create(&server, json!({ "name": "q", "unknown": 1 })).await;
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"metadata.unknown\\\"\"");
    server.call(&format!("DELETE {ACCOUNT}"), json!({})).await.expect(200);
    assert_eq!(create(&server, json!({ "name": "r" })).await.code, 403);
}

#[tokio::test]
async fn changed_neighbours_count_at_once() {
    let server = server_with_account().await;
    for at in 0..OFTEN {
        let pod = create(&server, json!({ "name": format!("a-{at}") })).await.expect(201);
        assert_eq!((&pod["spec"]["priority"], &pod["spec"]["imagePullSecrets"]), (&json!(0), &Value::Null));
    }
    let patch = json!({ "imagePullSecrets": [{ "name": "s" }], "automountServiceAccountToken": false });
    server.call(&format!("PATCH {ACCOUNT}"), patch).await.expect(200);
    for at in 0..OFTEN {
        let pod = create(&server, json!({ "name": format!("b-{at}") })).await.expect(201);
        assert_eq!(pod["spec"]["imagePullSecrets"], json!([{ "name": "s" }]));
        assert_eq!(pod["spec"]["volumes"], Value::Null);
    }
    let class = json!({ "metadata": { "name": "usual" }, "value": 7, "globalDefault": true });
    server.call("POST /apis/scheduling.k8s.io/v1/priorityclasses", class).await.expect(201);
    for at in 0..OFTEN {
        let pod = create(&server, json!({ "name": format!("c-{at}") })).await.expect(201);
        assert_eq!((&pod["spec"]["priority"], &pod["spec"]["priorityClassName"]), (&json!(7), &json!("usual")));
    }
}
