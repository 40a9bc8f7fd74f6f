//! What other members and their tools ask for on the peers' port in plain HTTP.

use axum::{
    Json, Router,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use store_api::Status;

use super::plain;
use crate::{config::Config, url};

/// `/version` of the clients' router, and `/members`.
pub fn router(config: &Config, status: &Status, clients: &Router) -> Router {
    let members: Value = json!([{
        "id": status.member_id,
        "peerURLs": url::texts(&config.advertise_peer_urls),
        "name": config.name,
        "clientURLs": url::texts(&config.advertise_client_urls),
    }]);
    let cluster = format!("{:x}", status.cluster_id);
    plain::only(clients, &["/version"]).route(
        "/members",
        get(async move || -> Response {
            let mut headers = HeaderMap::new();
            if let Ok(cluster) = cluster.parse() {
                headers.insert("x-etcd-cluster-id", cluster);
            }
            (headers, Json(members)).into_response()
        }),
    )
}
