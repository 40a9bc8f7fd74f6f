//! A Kubernetes API in memory, as small as informers need: list and watch.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use client::{Client, kube::client::Body};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tokio::sync::watch;

#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    version: Arc<watch::Sender<usize>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(String, String), Value>,
    /// Event n made version n + 1.
    events: Vec<(String, Value)>,
}

impl Api {
    pub fn new() -> Self {
        Api { state: Arc::default(), version: Arc::new(watch::channel(0).0) }
    }

    pub fn put(&self, resource: &str, object: Value) {
        self.change(resource, object, false);
    }

    fn change(&self, resource: &str, mut object: Value, gone: bool) {
        let mut state = self.state.lock().unwrap();
        let version = state.events.len() + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let key = (resource.to_owned(), object["metadata"]["name"].as_str().unwrap().to_owned());
        let old = if gone { state.objects.remove(&key) } else { state.objects.insert(key, object.clone()) };
        let kind = match (gone, old) {
            (true, _) => "DELETED",
            (false, None) => "ADDED",
            (false, Some(_)) => "MODIFIED",
        };
        state.events.push((resource.to_owned(), json!({"type": kind, "object": object})));
        self.version.send_replace(version);
    }

    pub fn client(&self) -> Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = this.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    fn answer(&self, request: &Request<Body>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let resource = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let query: BTreeMap<&str, &str> =
            request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        if query.get("watch").is_some_and(|value| *value == "true" || *value == "1") {
            let from = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
            return Response::new(self.watch(resource, from));
        }
        let state = self.state.lock().unwrap();
        let items: Vec<&Value> = state.objects.iter().filter(|((r, _), _)| *r == resource).map(|(_, o)| o).collect();
        let list = json!({"metadata": {"resourceVersion": state.events.len().to_string()}, "items": items});
        Response::new(Full::new(Bytes::from(list.to_string())).boxed_unsync())
    }

    fn watch(&self, resource: String, from: usize) -> UnsyncBoxBody<Bytes, Infallible> {
        let (state, version) = (self.state.clone(), self.version.subscribe());
        let stream = futures::stream::unfold((from, version), move |(mut next, mut version)| {
            let (state, resource) = (state.clone(), resource.clone());
            async move {
                loop {
                    let event = state.lock().unwrap().events.get(next).cloned();
                    match event {
                        Some((of, event)) => {
                            next += 1;
                            if of == resource {
                                let line = Bytes::from(format!("{event}\n"));
                                return Some((Ok(http_body::Frame::data(line)), (next, version)));
                            }
                        }
                        None => version.wait_for(|version| *version > next).await.map(drop).ok()?,
                    }
                }
            }
        });
        StreamBody::new(stream).boxed_unsync()
    }
}
