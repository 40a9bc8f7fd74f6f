//! What etcd answers in plain HTTP on the port of its clients: `/health`, `/version` and `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{maintenance, shared::Shared};

/// Adds the paths to the router of the gRPC services; the metrics only where there are any.
pub(crate) fn add(router: Router, shared: Arc<Shared>, metrics: Option<telemetry::Metrics>) -> Router {
    let (health_shared, version_shared) = (shared.clone(), shared);
    let router = router
        .route("/health", get(move || health(health_shared.clone())))
        .route("/version", get(move || version(version_shared.clone())));
    match metrics {
        None => router,
        Some(metrics) => router.route(
            "/metrics",
            get(async move |headers: HeaderMap| {
                let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
                let exposition = metrics.exposition(accept);
                ([(CONTENT_TYPE, exposition.content_type)], exposition.text).into_response()
            }),
        ),
    }
}

async fn health(shared: Arc<Shared>) -> Response {
    let (code, healthy, reason) = match shared.status().await {
        Ok(status) => match maintenance::alarms(&status).first() {
            Some(alarm) => (StatusCode::SERVICE_UNAVAILABLE, false, format!("ALARM {}", alarm.alarm().as_str_name())),
            None => (StatusCode::OK, true, String::new()),
        },
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, false, "RANGE ERROR".to_owned()),
    };
    json(code, format!(r#"{{"health":"{healthy}","reason":"{reason}"}}"#))
}

async fn version(shared: Arc<Shared>) -> Response {
    match shared.status().await {
        Ok(status) => {
            let minor: Vec<&str> = status.version.split('.').take(2).collect();
            let cluster = minor.join(".");
            json(StatusCode::OK, format!(r#"{{"etcdserver":"{}","etcdcluster":"{cluster}.0"}}"#, status.version))
        }
        Err(_) => json(StatusCode::SERVICE_UNAVAILABLE, "{}".to_owned()),
    }
}

fn json(code: StatusCode, body: String) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], body).into_response()
}
