//! The simulated API: what a scheduler asks of a real one, with faults, and the judge looking on.
//!
//! A request is carried out by a task of its own, so that a scheduler that stops, or a connection that breaks, does not
//! take it back.

#[path = "api/claims.rs"]
mod claims;
#[path = "api/volumes.rs"]
mod volumes;
#[path = "api/watch.rs"]
mod watch;
#[path = "api/writes.rs"]
mod writes;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use client::{Client, kube::client::Body};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use runtime::{Clock, Tasks};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::{
    faults::{Class, Faults, LATEST, Lost},
    judge::{Judge, Told},
    store::{self, Store},
    story::Story,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

pub struct State {
    pub store: Store,
    pub judge: Judge,
    pub story: Story,
    pub faults: Faults,
    /// How many bindings were sent.
    pub bindings: usize,
    /// Lists that are handed out by pages: version and objects that are left.
    pages: BTreeMap<String, (usize, Vec<Value>)>,
}

impl State {
    /// A scheduler gets an answer.
    fn tell(&mut self, call: &Call, reply: &Reply, now: Duration) {
        let resource = call.resource();
        for object in &reply.tells {
            self.judge.told(call.scheduler, &Told::One { resource, object }, now);
        }
        if let Some(version) = reply.all {
            self.judge.told(call.scheduler, &Told::All { resource, version }, now);
        }
    }
}

/// Clones are the same API.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    changes: Arc<Notify>,
    pub clock: Clock,
    tasks: Tasks,
}

/// One request that is not a watch.
struct Call {
    scheduler: u32,
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    body: Value,
}

/// What a request came to.
struct Reply {
    code: u16,
    body: Value,
    /// The objects that whoever reads it is told of.
    tells: Vec<Value>,
    /// It is the last of a list, as of this version.
    all: Option<usize>,
}

impl Reply {
    fn ok(body: Value) -> Self {
        Reply { code: 200, tells: vec![body.clone()], body, all: None }
    }

    fn refusal(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason, "code": code});
        Reply { code, body, tells: Vec::new(), all: None }
    }
}

impl Api {
    pub fn new(faults: Faults, whole_story: bool, clock: Clock, tasks: Tasks) -> Self {
        let state = State {
            store: Store::default(),
            judge: Judge::default(),
            story: Story::new(whole_story),
            faults,
            bindings: 0,
            pages: BTreeMap::new(),
        };
        Api { state: Arc::new(Mutex::new(state)), changes: Arc::default(), clock, tasks }
    }

    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes something, and tells the watches.
    pub fn change<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.lock();
        let answer = change(&mut state, self.now());
        self.changes.notify_waiters();
        answer
    }

    /// From now on nothing goes wrong any more.
    pub fn calm(&self) {
        self.change(|state, now| {
            state.faults.on = false;
            state.story.say(now, format_args!("from now on nothing goes wrong"));
        });
    }

    /// Deletes a pod as the real API does: one on a node leaves after its grace period.
    pub fn delete_pod(&self, name: &str, grace: Duration) {
        let leaves = self.change(|state, _| {
            let mut pod = state.store.get("pods", name).cloned()?;
            let (uid, bound) = (store::uid(&pod).to_owned(), store::node_of(&pod).is_some());
            let finalizer = state.judge.demands.get(&uid).is_some_and(|demand| demand.finalizer);
            if !bound && !finalizer {
                state.judge.pod_is_gone(&uid);
                state.store.remove("pods", name);
                return None;
            }
            if !store::is_leaving(&pod) {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                state.store.put("pods", pod);
            }
            Some(uid)
        });
        let Some(uid) = leaves else { return };
        let (api, name) = (self.clone(), name.to_owned());
        self.tasks.spawn("grace", async move {
            tokio::time::sleep(grace).await;
            api.remove_pod(&name, &uid);
        });
    }

    /// The pod is gone at once.
    pub fn remove_pod(&self, name: &str, uid: &str) {
        self.change(|state, now| {
            if state.store.get("pods", name).is_some_and(|pod| store::uid(pod) == uid) {
                state.judge.pod_is_gone(uid);
                state.store.remove("pods", name);
                state.story.say(now, format_args!("pod {uid} is gone"));
            }
        });
    }

    /// A client for the scheduler of this number.
    pub fn client(&self, scheduler: u32) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { api.receive(scheduler, request).await }
        });
        Client::new(service, "default")
    }

    async fn receive(self, scheduler: u32, request: Request<Body>) -> Result<Answer, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let call = Call {
            scheduler,
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        };
        if call.query.get("watch").is_some_and(|value| value == "true") {
            return Ok(self.watch(&call));
        }
        let (sender, receiver) = oneshot::channel();
        let api = self.clone();
        self.tasks.spawn("request", async move { api.serve(call, sender).await });
        receiver.await.unwrap_or_else(|_| Err("the connection was reset".into()))
    }

    async fn serve(&self, call: Call, answer: oneshot::Sender<Result<Answer, BoxError>>) {
        let class = call.class();
        let resource = if matches!(class, Class::Read) { call.path.as_str() } else { "" };
        let fate = self.lock().faults.fate(call.scheduler, class, resource);
        let binding = self.binding_arrives(&call);
        let mut answer = Some(answer);
        let mut before = fate.before;
        if fate.lost == Lost::Early {
            drop(answer.take());
            // Two status patches, one of them lost and late, are in no order that a client could make.
            before = if class == Class::Status { Duration::ZERO } else { before.max(LATEST / 4) };
        }
        if !before.is_zero() {
            tokio::time::sleep(before).await;
        }
        let reply = match fate.refused {
            Some(code) => Reply::refusal(code, reason(code), "not now"),
            None => self.carry_out(&call),
        };
        if let Some((pod, node)) = binding {
            self.lock().judge.binding_is_over(call.scheduler, &pod, &node);
        }
        let dull = class == Class::Event || class == Class::Read && reply.code < 400;
        if !dull {
            let (now, Call { scheduler, method, path, .. }) = (self.now(), &call);
            let message = reply.body["message"].as_str().unwrap_or_default();
            let lost = if fate.lost == Lost::No { String::new() } else { format!(", lost: {:?}", fate.lost) };
            let what = format_args!("scheduler {scheduler}: {method} {path}: {} {message}{lost}", reply.code);
            self.lock().story.say(now, what);
        }
        match (fate.lost, answer) {
            (_, None) | (Lost::Early | Lost::Reset, _) => {}
            (Lost::Silence, Some(answer)) => {
                std::future::pending::<()>().await;
                drop(answer);
            }
            (Lost::Internal, Some(answer)) => {
                let _ = answer.send(Ok(respond(&Reply::refusal(500, "InternalError", "it may have been done"))));
            }
            (Lost::No, Some(answer)) => {
                let now = self.now();
                self.lock().tell(&call, &reply, now);
                let _ = answer.send(Ok(respond(&reply)));
            }
        }
    }

    /// A page of a list, or an object.
    fn read(&self, scheduler: u32, path: &[&str], query: &BTreeMap<String, String>) -> Reply {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let ["api", "v1", "namespaces", _, resource, name]
        | ["apis", _, _, "namespaces", _, resource, name]
        | ["api", "v1", resource @ "persistentvolumes", name] = path
        {
            return match state.store.get(resource, name) {
                Some(object) => Reply::ok(object.clone()),
                None => Reply::refusal(404, "NotFound", format!("{resource} {name:?} not found")),
            };
        }
        if path.last().copied() == state.faults.forbidden {
            return Reply::refusal(403, "Forbidden", "the scheduler's role has no rule for it");
        }
        let (version, mut items) = match query.get("continue") {
            Some(token) => match state.pages.remove(token) {
                Some(rest) => rest,
                None => return Reply::refusal(410, "Expired", "the continue token is too old"),
            },
            None => {
                let resource = path.last().copied().unwrap_or_default();
                (state.store.version(), state.store.all(resource).cloned().collect())
            }
        };
        let resource = path.last().copied().unwrap_or_default();
        let page = state.faults.page(scheduler, resource);
        let mut metadata = json!({"resourceVersion": version.to_string()});
        let all = (items.len() <= page).then_some(version);
        if items.len() > page {
            let rest = items.split_off(page);
            let token = format!("{scheduler}-{resource}-{version}-{}", rest.len());
            metadata["continue"] = json!(token);
            state.pages.insert(token, (version, rest));
        }
        Reply { code: 200, tells: items.clone(), body: json!({"metadata": metadata, "items": items}), all }
    }
}

impl Call {
    fn segments(&self) -> Vec<&str> {
        self.path.trim_start_matches('/').split('/').collect()
    }

    /// The kind that it is about.
    fn resource(&self) -> &str {
        match self.segments().as_slice() {
            ["api", _, "namespaces", _, resource, ..]
            | ["apis", _, _, "namespaces", _, resource, ..]
            | ["api", _, resource, ..]
            | ["apis", _, _, resource, ..] => resource,
            _ => "",
        }
    }

    fn class(&self) -> Class {
        match (&self.method, self.segments().as_slice()) {
            (_, [.., "binding"]) => Class::Binding,
            (&Method::GET, _) => Class::Read,
            (&Method::DELETE, _) => Class::Deletion,
            (&Method::PUT, [.., "resourceclaims", _] | [.., "resourceclaims", _, "status"]) => Class::Claim,
            (_, [.., "persistentvolumes" | "persistentvolumeclaims", _]) => Class::Storage,
            (_, [.., "status"]) => Class::Status,
            _ => Class::Event,
        }
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "ServiceUnavailable",
    }
}

fn respond(reply: &Reply) -> Answer {
    let body = Full::new(Bytes::from(reply.body.to_string())).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(reply.code).body(body).unwrap()
}
