//! The kubelet-compatible HTTP service over any stream: logs, pods, metrics, and the way to streaming. Whoever brings
//! the stream has checked who speaks; nothing here authenticates.

mod logs;
mod stats;

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use telemetry::Metrics;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    directory::Directory,
    streaming::{self, StreamingState},
};

/// What every answer's body is.
pub type Body = BoxBody<Bytes, io::Error>;

/// A short text answer.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A body that is there already.
pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, value.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The service; a clone serves the same node.
#[derive(Clone)]
pub(crate) struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    node_name: String,
    directory: Directory,
    streaming: StreamingState,
    metrics: Metrics,
}

impl Server {
    pub fn new(node_name: String, streaming: StreamingState, metrics: Metrics) -> Self {
        let directory = streaming.directory.clone();
        Server { shared: Arc::new(Shared { node_name, directory, streaming, metrics }) }
    }

    /// Serves HTTP/1.1 with upgrades on `stream` until it closes.
    pub async fn serve<S>(&self, stream: S) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_matches('/').split('/');
        match parts.next().unwrap_or_default() {
            "exec" | "attach" | "portForward" => streaming::handle(self.shared.streaming.clone(), request).await,
            _ if request.method() != Method::GET => text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n"),
            "healthz" => text(StatusCode::OK, "ok"),
            "pods" | "runningpods" => self.pods(),
            "metrics" if path == "/metrics/resource" => self.resource_metrics().await,
            "metrics" => self.metrics(request.headers()),
            "stats" if path == "/stats/summary" => self.summary().await,
            "containerLogs" => self.logs(parts.collect(), request.uri().query().unwrap_or_default()).await,
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn pods(&self) -> Response<Body> {
        let items: Vec<_> = self
            .shared
            .directory
            .list()
            .iter()
            .filter_map(|entry| serde_json::to_value(entry.pod.as_ref()).ok())
            .collect();
        json(&json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let exposition = self.shared.metrics.exposition(accept);
        let mut response = text(StatusCode::OK, exposition.text);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(exposition.content_type));
        response
    }

    async fn logs(&self, parts: Vec<&str>, query: &str) -> Response<Body> {
        let (namespace, pod, container) = match parts.as_slice() {
            [namespace, pod, container] | [namespace, pod, _, container] => (*namespace, *pod, *container),
            _ => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        let options = match logs::LogOptions::parse(query) {
            Ok(options) => options,
            Err(message) => return text(StatusCode::BAD_REQUEST, message),
        };
        let state = &self.shared.streaming;
        match logs::open(state, namespace, pod, container, options).await {
            Ok(body) => {
                let mut response = text(StatusCode::OK, Bytes::new());
                *response.body_mut() = body;
                response
            }
            Err(logs::LogError::PodNotFound(message)) => text(StatusCode::NOT_FOUND, message),
            Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}
