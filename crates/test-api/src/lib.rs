//! A Kubernetes API in memory, as small as informers need: list and watch, and what a test adds for writes.
//!
//! For tests of what reads the API through `client`, where the real `apiserver` would be more than the test is about.
//! Objects are told apart by resource and name; it knows no namespaces, no schema and no validation.

#![allow(clippy::unwrap_used, reason = "this crate is only ever part of tests")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use client::{Client, kube::client::Body};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tokio::sync::watch;

/// No test waits longer for an object.
const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The API; clones are the same one.
#[derive(Clone, Default)]
pub struct Api {
    state: Arc<Mutex<State>>,
    version: Arc<watch::Sender<usize>>,
}

#[derive(Default)]
struct State {
    /// By resource and name.
    objects: BTreeMap<(String, String), Value>,
    /// Event n made version n + 1.
    events: Vec<(String, Value)>,
}

/// A request that is neither list nor watch.
#[derive(Clone, Debug)]
pub struct Write {
    pub method: Method,
    pub path: String,
    /// Null when what was sent is not JSON.
    pub body: Value,
}

impl Api {
    pub fn new() -> Self {
        Api::default()
    }

    /// Creates or replaces an object, and tells the watchers.
    pub fn put(&self, resource: &str, object: Value) {
        self.change(resource, object, false);
    }

    pub fn delete(&self, resource: &str, name: &str) {
        let object = self.get(resource, name).unwrap();
        self.change(resource, object, true);
    }

    pub fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&(resource.to_owned(), name.to_owned())).cloned()
    }

    /// Waits until an object of this resource satisfies `holds`; `what` names it for whom the wait disappoints.
    pub async fn wait(&self, resource: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut version = self.version.subscribe();
        let found = async {
            loop {
                version.borrow_and_update();
                if let Some(object) = self.find(resource, &holds) {
                    return object;
                }
                version.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("{resource} {what}: not within {PATIENCE:?}"))
    }

    fn find(&self, resource: &str, holds: impl Fn(&Value) -> bool) -> Option<Value> {
        let state = self.state.lock().unwrap();
        let mut all = state.objects.iter().filter(|((r, _), _)| r == resource).map(|(_, object)| object);
        all.find(|object| holds(object)).cloned()
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

    /// A client that only reads.
    pub fn client(&self) -> Client {
        self.client_with(|_, write| panic!("nothing was to be written: {write:?}"))
    }

    /// A client whose writes `writes` answers, with a status code and a body.
    pub fn client_with(&self, writes: impl Fn(&Api, Write) -> (u16, Value) + Send + Sync + 'static) -> Client {
        let (this, writes) = (self.clone(), Arc::new(writes));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (this, writes) = (this.clone(), writes.clone());
            async move { Ok::<_, Infallible>(this.answer(request, &*writes).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>, writes: &impl Fn(&Api, Write) -> (u16, Value)) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if parts.method != Method::GET {
            let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or(Value::Null);
            let (code, answer) = writes(self, Write { method: parts.method, path: path.to_owned(), body });
            return Response::builder().status(code).body(full(&answer)).unwrap();
        }
        let resource = path.rsplit('/').next().unwrap();
        let query: BTreeMap<&str, &str> =
            parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        if query.get("watch").is_some_and(|value| *value == "true" || *value == "1") {
            let from = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
            return Response::new(self.watch(resource.to_owned(), from));
        }
        let state = self.state.lock().unwrap();
        if let [.., of, name] = path.split('/').collect::<Vec<_>>().as_slice()
            && let Some(object) = state.objects.get(&((*of).to_owned(), (*name).to_owned()))
        {
            return Response::new(full(object));
        }
        let items: Vec<&Value> = state.objects.iter().filter(|((r, _), _)| *r == resource).map(|(_, o)| o).collect();
        let metadata = json!({"resourceVersion": state.events.len().to_string()});
        Response::new(full(&json!({"metadata": metadata, "items": items})))
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

fn full(value: &Value) -> UnsyncBoxBody<Bytes, Infallible> {
    Full::new(Bytes::from(value.to_string())).boxed_unsync()
}
