//! Answers with the headers that Kubernetes' components set.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use serde_json::json;

use super::auth::Refused;

pub fn text(code: u16, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The Status that says why.
pub fn refused(refused: &Refused) -> Response<Full<Bytes>> {
    let (code, reason) = match refused {
        Refused::Unauthorized => (401, "Unauthorized"),
        Refused::Forbidden { .. } => (403, "Forbidden"),
        Refused::Unknown(_) => (500, "InternalError"),
    };
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": refused.to_string(), "reason": reason, "code": code,
    });
    if matches!(refused, Refused::Forbidden { .. }) {
        status["details"] = json!({});
    }
    text(code, "application/json", status.to_string())
}
