//! What etcd answers in plain HTTP on the port of its clients: health, `/version`, `/metrics`, and the JSON gateway.

mod gateway;
mod health;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
        header::{
            ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
            CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::any,
};

use crate::{codes, downgrade, shared::Shared};

/// What browsers are told, as etcd tells them by default (`--cors '*'`).
const CORS: [(HeaderName, &str); 3] = [
    (ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE"),
    (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (ACCESS_CONTROL_ALLOW_HEADERS, "accept, content-type, authorization"),
];

/// Adds the paths to the router of the gRPC services; the metrics only where there are any.
pub(crate) fn add(grpc: Router, shared: Arc<Shared>, metrics: Option<telemetry::Metrics>) -> Router {
    let version_shared = shared.clone();
    let mut plain = Router::new()
        .route("/version", any(move |request: Request| version(version_shared.clone(), request)))
        .merge(health::router(shared.clone(), metrics.as_ref()))
        .merge(gateway::router(grpc.clone(), shared.max_request_bytes));
    if let Some(metrics) = metrics {
        plain = plain.route("/metrics", any(async move |headers: HeaderMap| exposition(&metrics, &headers)));
    }
    grpc.fallback(unknown_path).merge(plain.layer(middleware::from_fn(cors)))
}

/// Lets a browser's page of any origin ask, and answers the question whether it may.
async fn cors(request: Request, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight { StatusCode::OK.into_response() } else { next.run(request).await };
    for (name, value) in CORS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
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
