//! What other members and their tools ask for on the peers' port in plain HTTP.

use axum::{
    Json, Router,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use store::Store;
use store_api::Member;

use super::plain;

/// `/version` of the clients' router, and `/members`.
pub fn router(store: &Store, clients: &Router) -> Router {
    let store = store.clone();
    plain::only(clients, &["/version"]).route(
        "/members",
        get(async move || -> Response {
            let mut headers = HeaderMap::new();
            if let Ok(cluster) = format!("{:x}", store.identity().0).parse() {
                headers.insert("x-etcd-cluster-id", cluster);
            }
            let members: Vec<Value> = store.membership().0.iter().map(member).collect();
            (headers, Json(members)).into_response()
        }),
    )
}

fn member(member: &Member) -> Value {
    let mut value = json!({
        "id": member.id,
        "peerURLs": member.peer_urls,
        "name": member.name,
        "clientURLs": member.client_urls,
    });
    if member.is_learner {
        value["isLearner"] = true.into();
    }
    value
}
