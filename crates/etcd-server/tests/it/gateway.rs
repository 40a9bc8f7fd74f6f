//! The JSON gateway, as `curl` uses it.

use hyper::Method;
use serde_json::Value;

use crate::{
    plain::{self, Lines},
    served::Served,
};

/// The answer without the header, which is checked once.
fn without_header(body: &str) -> Value {
    let mut value: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    for at in ["", "/result"] {
        if let Some(Value::Object(fields)) = value.pointer_mut(at) {
            fields.remove("header");
        }
    }
    value
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn check(served: &Served, path: &str, body: &str, code: u16, expected: &str) {
    let answer = plain::ask(&served.tasks, &served.url, Method::POST, path, body).await;
    assert_eq!((answer.0, answer.1.as_str()), (code, "application/json"), "{path} {body}: {}", answer.2);
    assert_eq!(without_header(&answer.2), json(expected), "{path} {body}");
}

fn error(code: u16, text: &str) -> String {
    serde_json::json!({ "error": text, "code": code, "message": text }).to_string()
}

#[tokio::test]
async fn keys_are_written_and_read_in_json() {
    let served = Served::start().await;
    let answer =
        plain::ask(&served.tasks, &served.url, Method::POST, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#).await;
    let header = json(&answer.2);
    assert_eq!(header["header"]["revision"], "2");
    assert!(header["header"]["cluster_id"].is_string() && header["header"]["member_id"].is_string(), "{header}");
    let found =
        r#"{"count":"1","kvs":[{"create_revision":"2","key":"Zm9v","mod_revision":"2","value":"YmFy","version":"1"}]}"#;
    for (path, body) in [
        ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
        ("/v3beta/kv/range", r#"{"key":"Zm9v"}"#),
        ("/v3/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","sortOrder":"DESCEND","sort_target":4}"#),
        ("/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","limit":"5","revision":2,"unknown":{"a":[1]}}"#),
    ] {
        check(&served, path, body, 200, found).await;
    }
    let txn = r#"{"compare":[{"key":"Zm9v","target":"CREATE","createRevision":"2"}],
                  "success":[{"requestPut":{"key":"Zm9v","value":"YmF6"}}],
                  "failure":[{"request_range":{"key":"Zm9v"}}]}"#;
    let answer = plain::ask(&served.tasks, &served.url, Method::POST, "/v3/kv/txn", txn).await;
    let value = json(&answer.2);
    assert_eq!(
        (&value["succeeded"], &value["responses"][0]["response_put"]["header"]["revision"]),
        (&true.into(), &"3".into())
    );
    check(&served, "/v3/kv/deleterange", r#"{"key":"Zm9v"}"#, 200, r#"{"deleted":"1"}"#).await;
    check(&served, "/v3/kv/range", r#"{"key":"Zm9v"}"#, 200, "{}").await;
}

#[tokio::test]
async fn errors_have_the_codes_of_http_and_grpc() {
    let served = Served::start().await;
    let future = error(11, "etcdserver: mvcc: required revision is a future revision");
    check(&served, "/v3/kv/range", r#"{"key":"Zm9v","revision":"999"}"#, 400, &future).await;
    check(&served, "/v3/kv/range", "", 400, &error(3, "etcdserver: key is not provided")).await;
    check(&served, "/v3/kv/range", r#"{"key":"#, 400, &error(3, "unexpected EOF")).await;
    check(&served, "/v3/kv/nothing", "{}", 404, &error(5, "Not Found")).await;
    check(&served, "/v3/lease/revoke", r#"{"ID":"7"}"#, 404, &error(5, "etcdserver: requested lease not found")).await;
    let unknown = error(2, "etcdserver: requested lease not found");
    check(&served, "/v3/lock/lock", r#"{"name":"bQ==","lease":"7"}"#, 500, &unknown).await;
    let large = format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "A".repeat(4 << 20));
    check(&served, "/v3/kv/put", &large, 400, &error(3, "etcdserver: request is too large")).await;
    for bad in [r#"{"key":"!!"}"#, r#"{"limit":"x"}"#, "[]", "7"] {
        let (code, _, body) = plain::ask(&served.tasks, &served.url, Method::POST, "/v3/kv/range", bad).await;
        assert_eq!((code, body.contains(r#""code":3"#)), (400, true), "{bad}: {body}");
    }
    let (code, _, body) = plain::ask(&served.tasks, &served.url, Method::PUT, "/v3/kv/range", "{}").await;
    assert_eq!((code, json(&body)), (405, json(&error(12, "Method Not Allowed"))));
    // A browser asks first whether it may.
    let (code, _, body) = plain::ask(&served.tasks, &served.url, Method::OPTIONS, "/v3/kv/range", "").await;
    assert_eq!((code, body.as_str()), (200, ""));
}

#[tokio::test]
async fn streams_are_lines() {
    let served = Served::start().await;
    let put = async |value: &str| {
        let body = format!(r#"{{"key":"Zm9v","value":"{value}"}}"#);
        plain::ask(&served.tasks, &served.url, Method::POST, "/v3/kv/put", &body).await
    };
    put("YQ==").await;
    let watch = r#"{"create_request":{"key":"Zm9v","start_revision":"1"}} {"createRequest":{"key":"YmFy"}}"#;
    let mut lines = Lines::post(&served.tasks, &served.url, "/v3/watch", watch).await;
    let event = |revision: u64, version: u64, value: &str| {
        let (mod_revision, version) = (revision.to_string(), version.to_string());
        let kv = serde_json::json!({
            "key": "Zm9v", "create_revision": "2", "mod_revision": mod_revision, "version": version, "value": value,
        });
        serde_json::json!({ "result": { "events": [{ "kv": kv }] } })
    };
    // The first watch's event and the second watch's creation come in either order.
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(without_header(&lines.next().await));
    }
    assert_eq!(told[0], json(r#"{"result":{"created":true}}"#));
    assert!(told.contains(&json(r#"{"result":{"created":true,"watch_id":"1"}}"#)), "{told:?}");
    assert!(told.contains(&event(2, 1, "YQ==")), "{told:?}");
    put("Yg==").await;
    assert_eq!(without_header(&lines.next().await), event(3, 2, "Yg=="));

    check(&served, "/v3/lease/grant", r#"{"TTL":"100","ID":4660}"#, 200, r#"{"ID":"4660","TTL":"100"}"#).await;
    let kept = r#"{"ID":"4660"}{"ID":"1"}"#;
    let answer = plain::ask(&served.tasks, &served.url, Method::POST, "/v3/lease/keepalive", kept).await;
    let told: Vec<Value> = answer.2.lines().map(without_header).collect();
    assert_eq!(told, [r#"{"result":{"ID":"4660","TTL":"100"}}"#, r#"{"result":{"ID":"1"}}"#].map(json));
}
