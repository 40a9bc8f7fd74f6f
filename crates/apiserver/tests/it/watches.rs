//! Watches: what is delivered, in which order, and how they begin and end.

use serde_json::json;

use crate::{
    crud::config_map,
    harness::{Lines, Server, server},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn watch(server: &Server, query: &str) -> Lines<apiserver::Body> {
    Lines::new(server.open(&format!("GET {MAPS}?watch=1&{query}"), &[]).await)
}

async fn put(server: &Server, name: &str, label: &str) {
    let mut object = config_map(name, label);
    object["metadata"]["labels"] = json!({ "l": label });
    let answer = server.call(&format!("PUT {MAPS}/{name}"), object.clone()).await;
    if answer.code == 404 {
        server.call(&format!("POST {MAPS}"), object).await.expect(201);
    }
}

async fn version(server: &Server) -> String {
    server.get(MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn changes_arrive_in_order_from_a_revision_on() {
    let server = server().await;
    put(&server, "before", "1").await;
    let from = version(&server).await;
    put(&server, "a", "1").await;
    let mut lines = watch(&server, &format!("resourceVersion={from}")).await;
    assert_eq!(lines.take(1).await, ["ADDED a"]);
    put(&server, "a", "2").await;
    server.call(&format!("DELETE {MAPS}/a"), json!({})).await.expect(200);
    server.call("POST /api/v1/namespaces/kube-system/configmaps", config_map("elsewhere", "1")).await.expect(201);
    put(&server, "b", "1").await;
    assert_eq!(lines.take(3).await, ["MODIFIED a", "DELETED a", "ADDED b"]);
}

#[tokio::test]
async fn a_watch_without_a_revision_begins_with_the_state() {
    let server = server().await;
    put(&server, "a", "1").await;
    put(&server, "b", "1").await;
    for query in ["", "resourceVersion=0"] {
        let mut lines = watch(&server, query).await;
        assert_eq!(lines.take(2).await, ["ADDED a", "ADDED b"], "{query}");
    }
}

#[tokio::test]
async fn the_end_of_the_initial_state_is_marked_when_asked() {
    let server = server().await;
    put(&server, "a", "1").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = watch(&server, query).await;
    assert_eq!(lines.take(1).await, ["ADDED a"]);
    let mark = lines.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    put(&server, "b", "1").await;
    assert_eq!(lines.take(1).await, ["ADDED b"]);
    for bad in ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan"] {
        assert_eq!(server.get(&format!("{MAPS}?watch=1&{bad}")).await.code, 422, "{bad}");
    }
}

#[tokio::test]
async fn a_selection_sees_objects_come_and_go() {
    let server = server().await;
    put(&server, "a", "in").await;
    let from = version(&server).await;
    let mut lines = watch(&server, &format!("labelSelector=l%3Din&resourceVersion={from}")).await;
    put(&server, "a", "out").await;
    put(&server, "b", "out").await;
    put(&server, "b", "in").await;
    server.call(&format!("DELETE {MAPS}/a"), json!({})).await.expect(200);
    put(&server, "b", "in").await;
    server.call(&format!("PATCH {MAPS}/b"), json!({ "data": { "more": "x" } })).await.expect(200);
    let gone = lines.next().await.unwrap();
    assert_eq!((gone["type"].as_str(), gone["object"]["data"]["a"].as_str()), (Some("DELETED"), Some("in")));
    assert_eq!(lines.take(2).await, ["ADDED b", "MODIFIED b"]);
}

#[tokio::test]
async fn one_name_may_be_watched() {
    let server = server().await;
    put(&server, "a", "1").await;
    let mut lines = watch(&server, "fieldSelector=metadata.name%3Da").await;
    put(&server, "b", "1").await;
    put(&server, "a", "2").await;
    assert_eq!(lines.take(2).await, ["ADDED a", "MODIFIED a"]);
}

#[tokio::test]
async fn a_revision_that_is_forgotten_is_an_error_event() {
    let server = server().await;
    put(&server, "a", "1").await;
    version(&server).await;
    let mut lines = watch(&server, "resourceVersion=1").await;
    let event = lines.next().await.unwrap();
    assert_eq!((event["type"].as_str(), event["object"]["code"].as_i64()), (Some("ERROR"), Some(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(event["object"]["message"].as_str().unwrap().starts_with("too old resource version: 1 ("));
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn a_watch_ends_at_its_time_with_a_bookmark() {
    let server = server().await;
    put(&server, "a", "1").await;
    let from = version(&server).await;
    let mut lines = watch(&server, &format!("resourceVersion={from}&timeoutSeconds=1&allowWatchBookmarks=true")).await;
    let event = lines.next().await.unwrap();
    assert_eq!(
        (event["type"].as_str(), &event["object"]["metadata"]["resourceVersion"]),
        (Some("BOOKMARK"), &json!(from))
    );
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn tables_are_watched_with_their_columns_once() {
    let server = server().await;
    put(&server, "a", "1").await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut lines = Lines::new(server.open(&format!("GET {MAPS}?watch=1"), &accept).await);
    let first = lines.next().await.unwrap();
    assert_eq!((first["type"].as_str(), first["object"]["kind"].as_str()), (Some("ADDED"), Some("Table")));
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    put(&server, "a", "2").await;
    let second = lines.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "a");
}

#[tokio::test]
async fn a_client_library_follows_a_kind() {
    use futures::{StreamExt, pin_mut};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{DeleteParams, PostParams},
        runtime::watcher,
    };
    let server = server().await;
    let api = Api::<ConfigMap>::default_namespaced(server.client());
    let mut object = ConfigMap::default();
    object.metadata.name = Some("a".into());
    api.create(&PostParams::default(), &object).await.unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let stream = watcher(api.clone(), config);
        pin_mut!(stream);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.push(match crate::harness::within("event", stream.next()).await.unwrap().unwrap() {
                watcher::Event::Init => "init".to_owned(),
                watcher::Event::InitApply(o) => format!("had {}", o.metadata.name.unwrap()),
                watcher::Event::InitDone => "done".to_owned(),
                watcher::Event::Apply(o) => format!("apply {}", o.metadata.name.unwrap()),
                watcher::Event::Delete(o) => format!("delete {}", o.metadata.name.unwrap()),
            });
        }
        assert_eq!(seen, ["init", "had a", "done"]);
        object.metadata.name = Some("b".into());
        api.create(&PostParams::default(), &object).await.unwrap();
        let event = crate::harness::within("event", stream.next()).await.unwrap().unwrap();
        assert!(matches!(event, watcher::Event::Apply(o) if o.metadata.name.as_deref() == Some("b")));
        api.delete("b", &DeleteParams::default()).await.unwrap();
        let event = crate::harness::within("event", stream.next()).await.unwrap().unwrap();
        assert!(matches!(event, watcher::Event::Delete(_)));
    }
}
