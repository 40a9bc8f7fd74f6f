//! What etcd answers in plain HTTP on the port of its clients: health, `/version`, `/metrics`, and the JSON gateway.

mod access;
mod gateway;
mod health;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{
        HeaderMap, Method, StatusCode, Version,
        header::{ACCEPT, ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::any,
};

pub(crate) use access::HostTrusted;
pub use access::{AccessOptions, trust_hosts};

use crate::{codes, downgrade, shared::Shared};

/// What is served beside the services, and to whom.
pub(crate) struct Options {
    pub gateway: bool,
    pub access: AccessOptions,
}

/// Adds the paths to the router of the gRPC services; the metrics only where there are any, the gateway if it is wanted.
pub(crate) fn add(grpc: Router, shared: Arc<Shared>, metrics: Option<telemetry::Metrics>, options: Options) -> Router {
    let version_shared = shared.clone();
    let mut plain = Router::new()
        .route("/version", any(move |request: Request| version(version_shared.clone(), request)))
        .merge(health::router(shared.clone(), metrics.as_ref()));
    if options.gateway {
        plain = plain.merge(gateway::router(grpc.clone(), shared.max_request_bytes));
    }
    if let Some(metrics) = metrics {
        plain = plain.route("/metrics", any(async move |headers: HeaderMap| exposition(&metrics, &headers)));
    }
    grpc.fallback(unknown_path).merge(access::guard(plain, options.access))
}

/// gRPC's clients are told that there is no such method, others that there is no such page.
async fn unknown_path(request: Request) -> Response {
    let grpc = request.version() == Version::HTTP_2
        && request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc { codes::no_such_method(request.uri().path()).into_http() } else { not_found() }
}

async fn version(shared: Arc<Shared>, request: Request) -> Response {
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    let server = &shared.version;
    let cluster = downgrade::Version::read(server).map_or("not_decided".to_owned(), |version| version.to_string());
    let body = format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}"}}"#);
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn exposition(metrics: &telemetry::Metrics, headers: &HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = metrics.exposition(accept);
    ([(CONTENT_TYPE, exposition.content_type)], exposition.text).into_response()
}

/// A text that says why something is refused, in the form that etcd's HTTP library gives it.
fn refusal(code: StatusCode, text: &str) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (code, headers, format!("{text}\n")).into_response()
}

fn not_found() -> Response {
    refusal(StatusCode::NOT_FOUND, "404 page not found")
}

fn method_not_allowed() -> Response {
    ([(ALLOW, "GET")], refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")).into_response()
}
