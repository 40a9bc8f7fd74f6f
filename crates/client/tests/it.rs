//! Events as an API in memory gets them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/feed.rs"]
mod feed;

use std::{collections::BTreeMap, time::Duration};

use client::{EventType, Recorder, kube::api::ListParams};
use http::Method;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use runtime::{Clock, Tasks};
use serde_json::{Value, json};
use test_api::{Api, Write};

/// Keeps events. A change of one that is not there is refused.
fn answer(api: &Api, write: Write) -> (u16, Value) {
    let name = write.path.rsplit('/').next().unwrap().to_owned();
    match write.method {
        Method::POST => {
            api.put("events", write.body.clone());
            (201, write.body)
        }
        Method::PATCH => match api.get("events", &name) {
            Some(mut event) => {
                event["count"] = write.body["count"].clone();
                api.put("events", event.clone());
                (200, event)
            }
            None => (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})),
        },
        _ => panic!("unexpected: {write:?}"),
    }
}

fn about(name: &str) -> ObjectReference {
    ObjectReference { name: Some(name.into()), namespace: Some("default".into()), ..ObjectReference::default() }
}

/// Records about objects of these names at once; gives how often the API has heard of each in the end, and how many
/// were discarded.
async fn record(names: &[String]) -> (BTreeMap<String, i32>, u64) {
    let api = Api::new();
    let tasks = Tasks::root();
    let client = api.client_with(answer);
    let recorder = Recorder::new(client, "tester", "", Clock::system(), &tasks);
    for name in names {
        recorder.event(&about(name), EventType::Normal, "Tested", "it was");
    }
    let discarded = recorder.discarded().get();
    // The writer ends when all is written and nobody can record any more.
    drop(recorder);
    assert!(tasks.join(Duration::from_secs(20)).await);
    let events = client::Api::<Event>::all(api.client()).list(&ListParams::default()).await.unwrap();
    let count = events.items.len();
    let counts: BTreeMap<String, i32> =
        events.items.into_iter().map(|event| (event.involved_object.name.unwrap(), event.count.unwrap())).collect();
    assert_eq!(counts.len(), count, "each object has one event");
    (counts, discarded)
}

#[tokio::test]
async fn repetitions_are_counted_in_one_event() {
    let names: Vec<String> = (0..300).map(|n| format!("pod-{}", n % 3)).collect();
    let (counts, discarded) = record(&names).await;
    let expected = ["pod-0", "pod-1", "pod-2"].map(|name| (name.to_owned(), 100));
    assert_eq!((counts, discarded), (BTreeMap::from(expected), 0));
}

#[tokio::test]
async fn what_cannot_wait_is_discarded_and_counted() {
    // Nothing is written before the first wait.
    let names: Vec<String> = (0..10_000).map(|n| format!("pod-{n}")).collect();
    let (counts, discarded) = record(&names).await;
    assert_eq!(counts.len() as u64 + discarded, 10_000);
    assert_eq!(discarded, 10_000 - 4096);
}
