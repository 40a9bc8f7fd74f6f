//! The same requests to this server and to a real etcd, answer by answer.

use std::time::Duration;

use hyper::Method;
use runtime::Tasks;
use serde_json::Value;

use crate::{etcd, etcdctl, plain, served::Served};

/// What belongs to one server only; the rest must be equal.
const OWN: [&str; 18] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "leader",
    "hash",
    "hash_revision",
    "took",
    "ttl",
    "Endpoint",
    "endpoint",
    "ID",
    "peerURLs",
    "clientURLs",
];

/// Requests to the gateway, in an order that makes the same revisions on both sides.
const REQUESTS: [(&str, &str); 61] = [
    ("kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    ("kv/range", r#"{"key":"Zm9v"}"#),
    ("kv/range", r#"{"key":"AA==","rangeEnd":"AA==","keysOnly":true}"#),
    ("kv/range", r#"{"key":"AA==","range_end":"AA==","count_only":true,"unknown":1}"#),
    ("kv/range", r#"{"key":"Zm9v","revision":"999"}"#),
    ("kv/range", "{}"),
    ("kv/range", ""),
    ("kv/range", r#"{"key":"#),
    ("kv/nothing", "{}"),
    (
        "kv/txn",
        r#"{"compare":[{"key":"Zm9v","target":"VALUE","value":"YmFy"}],"success":[{"requestRange":{"key":"Zm9v"}}]}"#,
    ),
    (
        "kv/txn",
        r#"{"compare":[{"key":"Zm9v","target":"CREATE","create_revision":"1"}],"failure":[{"request_put":{"key":"Zm9v"}}]}"#,
    ),
    ("kv/txn", r#"{"success":[{"requestPut":{"key":"YQ=="}},{"requestPut":{"key":"YQ=="}}]}"#),
    ("kv/txn", r#"{"success":[{}]}"#),
    ("kv/put", r#"{"key":"Zm9v","ignore_value":true,"prev_kv":true}"#),
    ("kv/put", r#"{"key":"YmF6","ignoreValue":true}"#),
    ("kv/put", r#"{"key":"YmF6","lease":"99"}"#),
    ("kv/deleterange", r#"{"key":"Zm9v","prevKv":true}"#),
    ("kv/compaction", r#"{"revision":"3"}"#),
    ("kv/compaction", r#"{"revision":"3"}"#),
    ("kv/range", r#"{"key":"Zm9v","revision":"2"}"#),
    ("lease/grant", r#"{"TTL":"100","ID":"4660"}"#),
    ("lease/grant", r#"{"TTL":100,"ID":4660}"#),
    ("lease/leases", "{}"),
    ("kv/lease/timetolive", r#"{"ID":"77"}"#),
    ("lease/keepalive", r#"{"ID":"4660"}{"ID":"1"}"#),
    ("lease/revoke", r#"{"ID":"77"}"#),
    ("lock/lock", r#"{"name":"bXk=","lease":"99"}"#),
    ("lock/lock", r#"{"name":"bXk=","lease":"4660"}"#),
    ("lock/lock", r#"{"name":"bXk=","lease":"4660"}"#),
    ("lock/unlock", r#"{"key":"bXkvMTIzNA=="}"#),
    ("election/leader", r#"{"name":"ZQ=="}"#),
    ("election/proclaim", "{}"),
    ("election/resign", r#"{"leader":{"name":"ZQ==","key":"ZQ==","rev":"3","lease":"4660"}}"#),
    ("election/proclaim", r#"{"leader":{"name":"ZQ==","key":"ZQ==","rev":"3","lease":"4660"}}"#),
    ("election/campaign", r#"{"name":"ZQ==","lease":"4660","value":"djE="}"#),
    ("election/campaign", r#"{"name":"ZQ==","lease":"4660","value":"djI="}"#),
    ("election/leader", r#"{"name":"ZQ=="}"#),
    ("maintenance/status", "{}"),
    ("maintenance/alarm", "{}"),
    ("maintenance/hashkv", "{}"),
    ("maintenance/transfer-leadership", r#"{"targetID":"7"}"#),
    ("maintenance/downgrade", r#"{"action":"VALIDATE","version":"3.4"}"#),
    ("maintenance/downgrade", r#"{"action":"VALIDATE","version":"3"}"#),
    ("maintenance/downgrade", r#"{"action":"CANCEL"}"#),
    ("maintenance/downgrade", r#"{"action":9}"#),
    ("maintenance/defragment", "{}"),
    ("maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"5","alarm":"NOSPACE"}"#),
    ("maintenance/alarm", r#"{"alarm":"NOSPACE"}"#),
    ("maintenance/alarm", r#"{"alarm":"CORRUPT"}"#),
    ("maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"5"}"#),
    ("maintenance/status", "{}"),
    ("maintenance/alarm", r#"{"action":"DEACTIVATE","memberID":"5"}"#),
    ("maintenance/alarm", r#"{"action":"DEACTIVATE","memberID":"5","alarm":"NOSPACE"}"#),
    ("cluster/member/list", "{}"),
    ("cluster/member/list", r#"{"linearizable":true}"#),
    ("cluster/member/add", r#"{"peerURLs":["x"]}"#),
    ("cluster/member/add", r#"{"peerURLs":[]}"#),
    ("cluster/member/add", r#"{"peerURLs":["http://127.0.0.1:1/path"],"isLearner":true}"#),
    ("cluster/member/remove", r#"{"ID":"7"}"#),
    ("cluster/member/update", r#"{"ID":"7","peerURLs":["http://127.0.0.1:1"]}"#),
    ("cluster/member/promote", r#"{"ID":"7"}"#),
];

/// Requests whose answers do not end, and how many lines are compared.
const STREAMS: [(&str, &str, usize); 5] = [
    ("watch", r#"{"create_request":{"key":"AA==","range_end":"AA==","start_revision":"4","prev_kv":true}}"#, 2),
    ("watch", r#"{"create_request":{"key":"Zm9v","watch_id":"7"}}{"cancel_request":{"watch_id":"7"}}"#, 2),
    ("watch", r#"{"create_request":{"key":"Yg==","range_end":"YQ=="}}"#, 1),
    ("election/observe", r#"{"name":"ZQ=="}"#, 1),
    ("lease/keepalive", r#"{"ID":"4660"}"#, 1),
];

/// Paths that are asked with GET, and with POST.
const PATHS: [&str; 8] = [
    "/health",
    "/health?serializable=true",
    "/livez",
    "/livez?verbose",
    "/readyz",
    "/readyz/non_learner",
    "/version",
    "/no",
];

/// What the command line says as JSON.
const COMMANDS: [&str; 9] = [
    "endpoint status -w json",
    "endpoint health -w json",
    "endpoint hashkv -w json",
    "alarm list -w json",
    "member list -w json",
    "get e --prefix -w json",
    "lease list -w json",
    "lease timetolive 1234 --keys -w json",
    "compaction 4 -w json",
];

#[tokio::test]
async fn answers_are_those_of_a_real_etcd() {
    let real = etcd::Etcd::start();
    let (served, tasks) = (Served::member().await, Tasks::root());
    etcd::connected(&real.url).await;
    for (path, body) in REQUESTS {
        let path = format!("/v3/{path}");
        let ours = plain::ask(&tasks, &served.url, Method::POST, &path, body).await;
        let theirs = plain::ask(&tasks, &real.url, Method::POST, &path, body).await;
        assert_eq!((ours.0, &ours.1), (theirs.0, &theirs.1), "{path} {body}\nours {}\ntheirs {}", ours.2, theirs.2);
        assert_eq!(lines(&ours.2), lines(&theirs.2), "{path} {body}\nours {}\ntheirs {}", ours.2, theirs.2);
    }
    for (path, body, number) in STREAMS {
        let path = format!("/v3/{path}");
        let mut ours = plain::Lines::post(&tasks, &served.url, &path, body).await;
        let mut theirs = plain::Lines::post(&tasks, &real.url, &path, body).await;
        for _ in 0..number {
            let (ours, theirs) = (ours.next().await, theirs.next().await);
            assert_eq!(lines(&ours), lines(&theirs), "{path} {body}\nours {ours}\ntheirs {theirs}");
        }
    }
    for path in PATHS {
        for method in [Method::GET, Method::POST] {
            let ours = plain::ask(&tasks, &served.url, method.clone(), path, "").await;
            let theirs = plain::ask(&tasks, &real.url, method.clone(), path, "").await;
            assert_eq!(ours, theirs, "{method} {path}");
        }
    }
    let our_ctl = etcdctl::Ctl::new(&served.url);
    let their_ctl = etcdctl::Ctl::new(&real.url);
    for command in COMMANDS {
        let (ours, theirs) = (our_ctl.run(command).await, their_ctl.run(command).await);
        assert_eq!(lines(&ours), lines(&theirs), "{command}\nours {ours}\ntheirs {theirs}");
    }
    tasks.stop();
    tokio::time::timeout(Duration::from_secs(5), tasks.join(Duration::from_secs(5))).await.unwrap();
}

/// The values of an answer, without what belongs to one server only.
fn lines(text: &str) -> Vec<Value> {
    let value = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
    text.lines().map(value).map(common).collect()
}

fn common(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            // The first generation of etcd's gateway says an error twice, the second once.
            let kept = fields.into_iter().filter(|(name, _)| name != "error" && !OWN.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name, common(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(common).collect()),
        other => other,
    }
}
