//! A feed against a server that answers by a script: whatever it does, the reader's picture ends up true.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use client::{
    Client,
    feed::{Closed, Event, Fed, Identity, Sink, feed},
    kube::client::Body,
};
use http::{Request, Response};
use http_body_util::Full;
use runtime::Tasks;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Thing {
    metadata: Identity,
    /// A thing whose size is no number cannot be read.
    #[allow(dead_code, reason = "only its type is of use")]
    size: Option<u32>,
}

impl Fed for Thing {
    const PATH: &'static str = "/api/v1/things";

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        &self.metadata.name
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }
}

/// A kind that need not be there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
struct Extra(Thing);

impl Fed for Extra {
    const PATH: &'static str = Thing::PATH;
    const OPTIONAL: bool = true;

    fn namespace(&self) -> &str {
        self.0.namespace()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn uid(&self) -> &str {
        self.0.uid()
    }

    fn version(&self) -> &str {
        self.0.version()
    }
}

struct Told(mpsc::UnboundedSender<String>);

impl<K: Fed> Sink<K> for Told {
    async fn take(&mut self, event: Event<K>) -> Result<(), Closed> {
        let words = match event {
            Event::Is(thing) => format!("{} is {}", thing.name(), thing.uid()),
            Event::Gone { name, uid, .. } => format!("{name} was {uid}"),
            Event::Synced => "synced".to_owned(),
        };
        self.0.send(words).map_err(|_| Closed)
    }
}

/// What must be asked, and the answer: a status code and a body.
type Turn = (&'static str, u16, String);

fn thing(name: &str, uid: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "uid": uid, "resourceVersion": version.to_string()}})
}

fn list(version: u32, next: &str, items: &[Value]) -> String {
    json!({"metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": items}).to_string()
}

fn watch(lines: &[(&str, Value)]) -> String {
    lines.iter().map(|(kind, object)| format!("{}\n", json!({"type": kind, "object": object}))).collect()
}

async fn check(script: Vec<Turn>, expected: &[&str]) {
    check_of::<Thing>(script, expected).await;
}

async fn check_of<K: Fed>(script: Vec<Turn>, expected: &[&str]) {
    let turns = Arc::new(Mutex::new(VecDeque::from(script)));
    let left = turns.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let turn = turns.lock().unwrap().pop_front();
        async move {
            // A server that has nothing more to say.
            let Some((asked, status, body)) = turn else { return std::future::pending().await };
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(query.contains(asked), "{query}: not {asked}");
            let body = Full::new(Bytes::from(body));
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    let (sender, mut told) = mpsc::unbounded_channel();
    let tasks = Tasks::root();
    tasks.spawn("feed", feed::<K>(Client::new(service, "default"), Told(sender)));
    let mut words = Vec::new();
    while words.len() < expected.len() {
        let next = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        words.push(next.unwrap_or_else(|_| panic!("nothing after {words:?}")).unwrap());
    }
    assert_eq!(words, expected);
    assert!(left.lock().unwrap().is_empty(), "the script is not at its end");
    tasks.stop();
}

fn gone() -> Value {
    json!({"kind": "Status", "code": 410, "message": "too old resource version", "status": "Failure"})
}

#[tokio::test]
async fn what_a_watch_missed_is_made_up_for_by_a_list() {
    let unreadable = |name: &str, uid: &str, version: u32| {
        let mut thing = thing(name, uid, version);
        thing["size"] = json!("large");
        thing
    };
    let script = vec![
        // What cannot be read is left out, and nothing else.
        ("limit=", 200, list(5, "", &[thing("a", "a1", 1), unreadable("z", "z1", 3), thing("b", "b1", 2)])),
        (
            "resourceVersion=5",
            200,
            watch(&[("ADDED", thing("c", "c1", 6)), ("MODIFIED", unreadable("a", "a1", 7)), ("ERROR", gone())]),
        ),
        // In between b was deleted and made again.
        ("limit=", 200, list(9, "", &[thing("b", "b2", 8), thing("c", "c1", 6)])),
        ("resourceVersion=9", 200, watch(&[("BOOKMARK", thing("", "", 11))])),
        // A watch that just ends goes on where it was.
        ("resourceVersion=11", 200, watch(&[("DELETED", thing("c", "c1", 12))])),
        ("resourceVersion=12", 200, watch(&[("ADDED", thing("d", "d1", 13))])),
    ];
    let expected = [
        "a is a1", "b is b1", "synced", "c is c1", "a was a1", "b was b1", "b is b2", "c is c1", "c was c1", "d is d1",
    ];
    check(script, &expected).await;
}

#[tokio::test]
async fn a_version_that_is_refused_is_listed_anew() {
    let script = vec![
        ("limit=", 200, list(5, "", &[thing("a", "a1", 1)])),
        ("resourceVersion=5", 410, gone().to_string()),
        ("limit=", 200, list(9, "", &[])),
    ];
    check(script, &["a is a1", "synced", "a was a1"]).await;
}

#[tokio::test]
async fn a_failure_of_the_connection_loses_no_place() {
    let script = vec![
        ("limit=", 500, json!({"kind": "Status", "code": 500, "message": "not now"}).to_string()),
        ("limit=", 200, "[]".to_owned()),
        ("limit=", 200, list(5, "", &[])),
        ("resourceVersion=5", 503, json!({"kind": "Status", "code": 503, "message": "not now"}).to_string()),
        ("resourceVersion=5", 200, format!("{}{{\"type\":\"ADD", watch(&[("ADDED", thing("a", "a1", 6))]))),
        ("resourceVersion=6", 200, watch(&[("ADDED", thing("b", "b1", 7))])),
    ];
    check(script, &["synced", "a is a1", "b is b1"]).await;
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let script = vec![
        ("limit=", 200, list(5, "x/y", &[thing("a", "a1", 1)])),
        ("continue=x%2Fy", 200, list(5, "", &[thing("b", "b1", 2)])),
    ];
    check(script, &["a is a1", "b is b1", "synced"]).await;
}

#[tokio::test]
async fn a_kind_that_is_not_there_is_empty() {
    let absent = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such path"});
    check(vec![("limit=", 404, absent.to_string())], &["synced"]).await;
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_is_empty_if_one_can_do_without() {
    let forbidden = json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "not for you"}).to_string();
    check_of::<Extra>(vec![("limit=", 403, forbidden.clone())], &["synced"]).await;
    // Otherwise it is asked for again, until somebody allows it.
    let script = vec![("limit=", 403, forbidden), ("limit=", 200, list(5, "", &[thing("a", "a1", 1)]))];
    check(script, &["a is a1", "synced"]).await;
}
