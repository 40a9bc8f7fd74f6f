//! Just enough of the Kubernetes API for a scheduler, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use client::Client;
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

const LIMIT: Duration = Duration::from_secs(10);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    /// Told after each change.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By resource, then by name.
    objects: HashMap<String, BTreeMap<String, Value>>,
    watchers: HashMap<String, Vec<mpsc::UnboundedSender<Bytes>>>,
    refusals: usize,
}

impl Default for FakeApi {
    fn default() -> Self {
        FakeApi { state: Arc::default(), changed: watch::channel(0).0 }
    }
}

impl FakeApi {
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        Client::new(service, "default")
    }

    pub fn refuse_bindings(&self, count: usize) {
        self.state.lock().refusals = count;
    }

    /// Creates or replaces an object, and tells the watchers.
    pub fn set(&self, resource: &str, mut object: Value) {
        let mut state = self.state.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let before = state.objects.entry(resource.to_owned()).or_default().insert(name, object.clone());
        state.tell(resource, if before.is_some() { "MODIFIED" } else { "ADDED" }, object);
        self.changed.send_replace(state.version);
    }

    pub fn delete(&self, resource: &str, name: &str) {
        let mut state = self.state.lock();
        state.version += 1;
        let mut object = state.objects.get_mut(resource).unwrap().remove(name).unwrap();
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.tell(resource, "DELETED", object);
        self.changed.send_replace(state.version);
    }

    /// The object, once `holds` is true of it.
    pub async fn wait(&self, resource: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{resource} {name}");
        self.look(&what, |objects| objects.get(resource)?.get(name).filter(|object| holds(object)).cloned()).await
    }

    /// The first event with this reason.
    pub async fn event(&self, reason: &str) -> Value {
        let what = format!("event {reason}");
        self.look(&what, |objects| objects.get("events")?.values().find(|event| event["reason"] == reason).cloned())
            .await
    }

    async fn look(
        &self,
        what: &str,
        find: impl Fn(&HashMap<String, BTreeMap<String, Value>>) -> Option<Value>,
    ) -> Value {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                changed.borrow_and_update();
                if let Some(object) = find(&self.state.lock().objects) {
                    return object;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
    }

    async fn serve(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let sent: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let path: Vec<&str> = parts.uri.path().trim_start_matches("/api/v1/").split('/').collect();
        let watching = parts.uri.query().is_some_and(|query| query.contains("watch=true"));
        match (&parts.method, path.as_slice()) {
            (&Method::GET, [resource]) if watching => self.watch(resource),
            (&Method::GET, [resource]) => self.list(resource),
            (&Method::POST, ["namespaces", _, "pods", name, "binding"]) => self.bind(name, &sent),
            (&Method::PATCH, ["namespaces", _, "pods", name, "status"]) => {
                let mut pod = self.state.lock().objects["pods"][*name].clone();
                pod["status"]["conditions"] = sent["status"]["conditions"].clone();
                self.set("pods", pod.clone());
                json_answer(200, &pod)
            }
            (&Method::POST, ["namespaces", _, "events"]) => {
                self.set("events", sent.clone());
                json_answer(201, &sent)
            }
            (&Method::PATCH, ["namespaces", _, "events", name]) => {
                json_answer(200, &self.state.lock().objects["events"][*name])
            }
            (method, path) => panic!("unexpected request: {method} {path:?}"),
        }
    }

    fn list(&self, resource: &str) -> Answer {
        let state = self.state.lock();
        let items: Vec<&Value> = state.objects.get(resource).into_iter().flat_map(BTreeMap::values).collect();
        let metadata = json!({"resourceVersion": state.version.to_string()});
        json_answer(200, &json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}))
    }

    /// A real watch begins at the revision of the list; here, every object is told again, which is as good.
    fn watch(&self, resource: &str) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state.lock();
        for object in state.objects.get(resource).into_iter().flat_map(BTreeMap::values) {
            let _ = sender.send(line("MODIFIED", object));
        }
        state.watchers.entry(resource.to_owned()).or_default().push(sender);
        let lines = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        let frames = lines.map(|line| Ok::<_, Infallible>(Frame::data(line)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn bind(&self, name: &str, binding: &Value) -> Answer {
        let mut pod = {
            let mut state = self.state.lock();
            if state.refusals > 0 {
                state.refusals -= 1;
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "not now", "reason": "ServiceUnavailable", "code": 503});
                return json_answer(503, &status);
            }
            state.objects["pods"][name].clone()
        };
        assert_eq!(pod["metadata"]["uid"], binding["metadata"]["uid"]);
        assert!(pod["spec"]["nodeName"].is_null(), "{name} is bound twice");
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.set("pods", pod);
        json_answer(201, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
    }
}

impl State {
    fn tell(&mut self, resource: &str, kind: &str, mut object: Value) {
        object["apiVersion"] = "v1".into();
        object["kind"] = if resource == "pods" { "Pod" } else { "Node" }.into();
        if let Some(watchers) = self.watchers.get_mut(resource) {
            watchers.retain(|watcher| watcher.send(line(kind, &object)).is_ok());
        }
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(code).body(body.boxed_unsync()).unwrap()
}
