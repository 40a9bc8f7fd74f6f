//! Status, scale, binding; Services' addresses; events' leases; what every cluster has.

use serde_json::{Value, json};

use crate::harness::{Server, server};

fn pod(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "demo" }] } })
}

async fn account(server: &Server) {
    let account = json!({ "metadata": { "name": "default" } });
    server.call("POST /api/v1/namespaces/default/serviceaccounts", account).await.expect(201);
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_pod_is_bound_once_and_its_status_is_its_own() {
    let server = server().await;
    let orphan = server.call(&format!("POST {PODS}"), pod("p")).await;
    assert_eq!(orphan.code, 403, "{}", orphan.text());
    account(&server).await;
    let created = server.call(&format!("POST {PODS}"), pod("p")).await.expect(201);
    assert_eq!((created["status"]["phase"].as_str(), created["spec"]["priority"].as_i64()), (Some("Pending"), Some(0)));
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "a" } });
    server.call(&format!("POST {PODS}/p/binding"), binding.clone()).await.expect(201);
    assert_eq!(server.call(&format!("POST {PODS}/p/binding"), binding).await.code, 409);
    let bound = server.get(&format!("{PODS}?fieldSelector=spec.nodeName%3Da")).await.expect(200);
    assert_eq!(bound["items"][0]["metadata"]["name"], "p");

    let patch = json!({ "status": { "phase": "Running" }, "spec": { "nodeName": "b" } });
    let patched = server.call(&format!("PATCH {PODS}/p/status"), patch).await.expect(200);
    assert_eq!((&patched["status"]["phase"], &patched["spec"]["nodeName"]), (&json!("Running"), &json!("a")));
    let refused = server.call(&format!("PATCH {PODS}/p"), json!({ "spec": { "nodeName": "b" } })).await;
    assert_eq!((refused.code, refused.json["reason"].as_str()), (422, Some("Invalid")));

    // A pod on a node goes in two steps: the node stops it, then deletes it for good.
    let going = server.call(&format!("DELETE {PODS}/p"), json!({})).await.expect(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    server.get(&format!("{PODS}/p")).await.expect(200);
    server.call(&format!("DELETE {PODS}/p?gracePeriodSeconds=0"), json!({})).await.expect(200);
    server.get(&format!("{PODS}/p")).await.expect(404);
}

#[tokio::test]
async fn scale_is_a_view_of_replicas() {
    let server = server().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "a": "b" } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": pod("x")["spec"] },
        },
    });
    server.call(&format!("POST {path}"), deployment).await.expect(201);
    let scale = server.get(&format!("{path}/web/scale")).await.expect(200);
    assert_eq!((scale["kind"].as_str(), scale["spec"]["replicas"].as_i64()), (Some("Scale"), Some(1)));
    let patched =
        server.call(&format!("PATCH {path}/web/scale"), json!({ "spec": { "replicas": 4 } })).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 4);
    // The version of the first answer is old by now.
    assert_eq!(server.call(&format!("PUT {path}/web/scale"), scale).await.code, 409);
    let object = server.get(&format!("{path}/web")).await.expect(200);
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(4), &json!(2)));
}

fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["ports"] = json!([{ "port": 80 }]);
    json!({ "metadata": { "name": name }, "spec": spec })
}

#[tokio::test]
async fn services_get_addresses_and_give_them_back() {
    let server = server().await;
    let path = "/api/v1/namespaces/default/services";
    let own = server.get(&format!("{path}/kubernetes")).await.expect(200);
    assert_eq!(own["spec"]["clusterIP"], "10.43.0.1");
    let fixed = service("a", json!({ "clusterIP": "10.43.0.9", "type": "NodePort" }));
    let first = server.call(&format!("POST {path}"), fixed.clone()).await.expect(201);
    let port = first["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&port));
    let mut second = fixed.clone();
    second["metadata"]["name"] = "b".into();
    let taken = server.call(&format!("POST {path}"), second.clone()).await;
    assert_eq!(taken.code, 422);
    assert!(taken.text().contains("provided IP is already allocated"), "{}", taken.text());
    server.call(&format!("DELETE {path}/a"), json!({})).await.expect(200);
    server.call(&format!("POST {path}"), second).await.expect(201);
    let changed = server.call(&format!("PATCH {path}/b"), json!({ "spec": { "type": "ClusterIP" } })).await;
    assert_eq!(changed.expect(200)["spec"]["clusterIP"], "10.43.0.9");
    let many = (0..20).map(|n| {
        let (server, object) = (&server, service(&format!("s{n}"), json!({})));
        async move { server.call(&format!("POST {path}"), object).await.expect(201) }
    });
    let mut addresses: Vec<String> = futures::future::join_all(many)
        .await
        .iter()
        .map(|service| service["spec"]["clusterIP"].as_str().unwrap().to_owned())
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 20);
}

#[tokio::test]
async fn events_share_a_lease() {
    let server = server().await;
    for n in 0..2 {
        let event = json!({
            "metadata": { "name": format!("e{n}") }, "reason": "Test", "type": "Normal",
            "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
        });
        server.call("POST /api/v1/namespaces/default/events", event).await.expect(201);
    }
    let leases = server.store.leases().await.unwrap();
    assert_eq!(leases.len(), 1);
    let status = server.store.lease_time_to_live(leases[0], true).await.unwrap();
    assert_eq!((status.keys.len(), status.granted_ttl), (2, 3660));
}

#[tokio::test]
async fn every_cluster_has_its_ground() {
    let server = server().await;
    for path in [
        "/api/v1/namespaces/default",
        "/api/v1/namespaces/kube-system",
        "/api/v1/namespaces/kube-public",
        "/api/v1/namespaces/kube-node-lease",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-cluster-critical",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
    ] {
        server.get(path).await.expect(200);
    }
    let endpoints = server.get("/api/v1/namespaces/default/endpoints/kubernetes").await.expect(200);
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], server.address().port());
    let slice = server.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await.expect(200);
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["127.0.0.1"]));
}

#[tokio::test]
async fn a_namespace_goes_when_its_finalizer_does() {
    let server = server().await;
    server.call("POST /api/v1/namespaces", json!({ "metadata": { "name": "a" } })).await.expect(201);
    let going = server.call("DELETE /api/v1/namespaces/a", json!({})).await.expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = server.call("POST /api/v1/namespaces/a/configmaps", json!({ "metadata": { "name": "x" } })).await;
    refused.expect_error(
        403,
        "Forbidden",
        "configmaps \"x\" is forbidden: unable to create new content in namespace a because it is being terminated",
    );
    let mut namespace = server.get("/api/v1/namespaces/a").await.expect(200);
    namespace["spec"]["finalizers"] = json!([]);
    server.call("PUT /api/v1/namespaces/a/finalize", namespace).await.expect(200);
    server.get("/api/v1/namespaces/a").await.expect(404);
}

#[tokio::test]
async fn figures_are_told() {
    let server = server().await;
    server.get("/api/v1/namespaces").await.expect(200);
    let text = server.get("/metrics").await.text();
    for line in [
        "apiserver_request_total{verb=\"LIST\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"namespaces\",subresource=\"\",scope=\"cluster\",component=\"apiserver\",code=\"200\"} 1",
        "apiserver_storage_objects{resource=\"namespaces\"} 4",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"}",
        "apiserver_request_duration_seconds_bucket",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    for (accept, content_type, ends) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", false),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8", true),
    ] {
        let answer = server.call_with("GET /metrics", &[("accept", accept)], "").await;
        assert_eq!(answer.headers["content-type"], content_type);
        assert_eq!(answer.text().ends_with("# EOF\n"), ends, "{accept}");
    }
}

#[tokio::test]
async fn discovery_in_both_forms() {
    let server = server().await;
    let groups = server.get("/apis").await.expect(200);
    assert_eq!((groups["kind"].as_str(), groups["groups"][0]["name"].as_str()), (Some("APIGroupList"), Some("apps")));
    let core = server.get("/api/v1").await.expect(200);
    let find = |name: &str| core["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).cloned().unwrap();
    assert_eq!(find("pods")["shortNames"], json!(["po"]));
    assert_eq!(find("pods/binding")["kind"], "Binding");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let all = server.call_with("GET /apis", &[("accept", accept)], "").await;
    assert!(all.headers["content-type"].to_str().unwrap().contains("as=APIGroupDiscoveryList"));
    let tag = all.headers["etag"].to_str().unwrap().to_owned();
    let document = all.expect(200);
    assert_eq!(document["items"][0]["versions"][0]["resources"][0]["resource"], "deployments");
    let same = server.call_with("GET /apis", &[("accept", accept), ("if-none-match", &tag)], "").await;
    assert_eq!((same.code, same.bytes.len()), (304, 0));
    let index = server.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = server.get(url).await.expect(200);
    assert!(document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
}
