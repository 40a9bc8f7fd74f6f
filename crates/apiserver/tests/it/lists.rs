//! Lists: selectors, pages, revisions, shapes.

use serde_json::{Value, json};

use crate::{
    crud::config_map,
    harness::{Answer, Server, server},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn fill(server: &Server, count: usize) {
    for n in 0..count {
        let mut object = config_map(&format!("x{n}"), "1");
        object["metadata"]["labels"] = json!({ "n": n.to_string() });
        server.call(&format!("POST {MAPS}"), object).await.expect(201);
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect()
}

async fn list(server: &Server, query: &str) -> Value {
    server.get(&format!("{MAPS}?{query}")).await.expect(200)
}

#[tokio::test]
async fn pages_show_one_revision_whatever_happens_meanwhile() {
    let server = server().await;
    fill(&server, 5).await;
    let first = list(&server, "limit=2").await;
    assert_eq!(names(&first), ["x0", "x1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.call(&format!("DELETE {MAPS}/x3"), json!({})).await.expect(200);
    server.call(&format!("POST {MAPS}"), config_map("x2a", "1")).await.expect(201);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = list(&server, &format!("limit=2&continue={token}")).await;
    assert_eq!(names(&second), ["x2", "x3"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["metadata"]["remainingItemCount"], 1);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = list(&server, &format!("limit=2&continue={token}")).await;
    assert_eq!(names(&last), ["x4"]);
    assert!(last["metadata"].get("continue").is_none());

    let old = list(&server, &format!("resourceVersionMatch=Exact&resourceVersion={}", version(&first))).await;
    assert_eq!(names(&old), ["x0", "x1", "x2", "x3", "x4"]);
    assert_eq!(names(&list(&server, "").await), ["x0", "x1", "x2", "x2a", "x4"]);
}

fn version(list: &Value) -> i64 {
    list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_token_older_than_the_history_comes_with_one_that_goes_on() {
    let server = server().await;
    fill(&server, 4).await;
    let first = list(&server, "limit=2").await;
    server.call(&format!("DELETE {MAPS}/x3"), json!({})).await.expect(200);
    let now = version(&list(&server, "").await);
    server.store.compact(now, true).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = server.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((expired.code, expired.json["reason"].as_str()), (410, Some("Expired")));
    let token = expired.json["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&list(&server, &format!("limit=2&continue={token}")).await), ["x2"]);
    let gone = server.get(&format!("{MAPS}?resourceVersionMatch=Exact&resourceVersion={}", version(&first))).await;
    assert_eq!((gone.code, gone.json["reason"].as_str()), (410, Some("Expired")));
}

#[tokio::test]
async fn selectors_choose() {
    let server = server().await;
    fill(&server, 4).await;
    for (query, expected) in [
        ("labelSelector=n%3D2", vec!["x2"]),
        ("labelSelector=n+in+(1,3)", vec!["x1", "x3"]),
        ("labelSelector=n!%3D0,n", vec!["x1", "x2", "x3"]),
        ("labelSelector=!n", vec![]),
        ("fieldSelector=metadata.name%3Dx1", vec!["x1"]),
        ("fieldSelector=metadata.name!%3Dx1&limit=2", vec!["x0", "x2"]),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
    ] {
        assert_eq!(names(&list(&server, query).await), expected, "{query}");
    }
    assert_eq!(server.get(&format!("{MAPS}?labelSelector=a%20b%20c")).await.code, 400);
    assert_eq!(server.get(&format!("{MAPS}?fieldSelector=data.a%3D1")).await.code, 400);
    let all = server.get("/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault").await.expect(200);
    assert_eq!(names(&all).len(), 4);
}

#[tokio::test]
async fn revisions_in_the_query_follow_the_documented_table() {
    let server = server().await;
    fill(&server, 2).await;
    let now = version(&list(&server, "").await);
    for (query, code) in [
        ("resourceVersion=0".to_owned(), 200),
        (format!("resourceVersion={now}"), 200),
        (format!("resourceVersion={now}&resourceVersionMatch=NotOlderThan"), 200),
        ("resourceVersion=0&resourceVersionMatch=Exact".to_owned(), 422),
        ("resourceVersionMatch=Exact".to_owned(), 422),
        ("resourceVersion=x".to_owned(), 400),
        ("resourceVersion=1&resourceVersionMatch=What".to_owned(), 422),
        ("continue=nonsense".to_owned(), 400),
        ("limit=x".to_owned(), 400),
    ] {
        assert_eq!(server.get(&format!("{MAPS}?{query}")).await.code, code, "{query}");
    }
    let future = server.get(&format!("{MAPS}?resourceVersion={}", now + 1000)).await;
    assert_eq!((future.code, future.json["reason"].as_str()), (504, Some("Timeout")));
    assert_eq!(future.json["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(future.headers["retry-after"], "1");
}

async fn accept(server: &Server, path: &str, accept: &str) -> Answer {
    server.call_with(&format!("GET {path}"), &[("accept", accept)], "").await
}

#[tokio::test]
async fn tables_and_metadata() {
    let server = server().await;
    fill(&server, 2).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let list = accept(&server, MAPS, table).await.expect(200);
    assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("Table"), Some("meta.k8s.io/v1")));
    assert_eq!(list["columnDefinitions"][0]["name"], "Name");
    assert_eq!(list["rows"][1]["cells"][0], "x1");
    assert_eq!(list["rows"][1]["object"]["kind"], "PartialObjectMetadata");
    let one = accept(&server, &format!("{MAPS}/x0?includeObject=Object"), table).await.expect(200);
    assert_eq!(one["rows"][0]["object"]["data"]["a"], "1");
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = accept(&server, MAPS, metadata).await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0]["metadata"]["resourceVersion"].is_string() && list["items"][0].get("data").is_none());
    assert_eq!(accept(&server, MAPS, "application/vnd.kubernetes.protobuf").await.code, 406);
    let both = accept(&server, MAPS, "application/vnd.kubernetes.protobuf,application/json").await.expect(200);
    assert_eq!(both["kind"], "ConfigMapList");
}

#[tokio::test]
async fn a_long_list_comes_in_pieces_and_whole() {
    let server = server().await;
    let data = "d".repeat(1000);
    futures::future::join_all((0..300).map(|n| {
        let (server, object) = (&server, config_map(&format!("x{n:03}"), &data));
        async move { server.call(&format!("POST {MAPS}"), object).await.expect(201) }
    }))
    .await;
    let answer = server.get(MAPS).await;
    assert!(!answer.headers.contains_key("content-length"));
    let list = answer.expect(200);
    let names = names(&list);
    assert_eq!((names.len(), names[0], names[299]), (300, "x000", "x299"));
    assert!(names.is_sorted());
}
