//! An extender that lets every node pass and remembers which there were: the nodes that fit a pod by the scheduler which asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use runtime::Tasks;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Clone, Default)]
pub struct Listener {
    heard: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl Listener {
    /// Listens until the tasks end. The text is the configuration's part about it.
    pub async fn start(tasks: &Tasks) -> (Self, String) {
        let (listener, socket) = (Listener::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let (serving, inner) = (listener.clone(), tasks.clone());
        tasks.spawn("listener", async move {
            while let Ok((connection, _)) = socket.accept().await {
                let listener = serving.clone();
                inner.spawn("connection", async move {
                    let service = service_fn(move |request| answer(listener.clone(), request));
                    let connection = TokioIo::new(connection);
                    // Whoever hangs up has had its answers.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(connection, service).await;
                });
            }
        });
        let extender = format!("{{urlPrefix: \"http://{address}\", filterVerb: filter, nodeCacheCapable: true}}");
        (listener, format!("extenders: [{extender}]\n"))
    }

    /// The nodes that fitted a pod when it was asked about last; `None`: it never was.
    pub fn fitting(&self, pod: &str) -> Option<BTreeSet<String>> {
        self.heard.lock().get(pod).cloned()
    }
}

async fn answer(listener: Listener, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let args: Value = serde_json::from_slice(&body).unwrap_or_default();
    let names: Vec<&str> = args["NodeNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(pod) = args["Pod"]["metadata"]["name"].as_str() {
        let nodes = names.iter().map(|name| (*name).to_owned()).collect();
        listener.heard.lock().insert(pod.to_owned(), nodes);
    }
    let answer = json!({"nodenames": names}).to_string();
    Ok(Response::builder().header("content-type", "application/json").body(answer.into()).unwrap())
}
