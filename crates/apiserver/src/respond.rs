//! Makes HTTP responses of objects and of errors. The one place that turns the store's errors into `Status` objects.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use registry::Status;
use serde_json::Value;
use store_api::{Retry, StoreError};

use crate::body::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Warnings sent with one response; the rest would only fill headers.
const MAX_WARNINGS: usize = 16;
/// A longer warning is cut.
const MAX_WARNING: usize = 512;

/// A JSON response of ready bytes.
pub(crate) fn bytes(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    with_body(code, Body::full(body))
}

pub(crate) fn with_body(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A JSON response.
pub(crate) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    bytes(code, serde_json::to_vec(value).unwrap_or_default())
}

pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = bytes(code, text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// The response of a failure.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &status.to_value());
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds `Warning` headers (RFC 7234, code 299), as `kubectl` shows them.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings.iter().take(MAX_WARNINGS) {
        let mut text = String::from("299 - \"");
        for c in warning.chars().filter(|c| !c.is_control()).take(MAX_WARNING) {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// What a client is told of a store's error.
pub(crate) fn store_error(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        StoreError::FutureRevision { requested, current } => {
            Status::too_large_resource_version(requested.unsigned_abs(), current.unsigned_abs(), 1)
        }
        StoreError::TooLarge { .. } => Status::request_entity_too_large(error.to_string()),
        StoreError::TooManyRequests => Status::too_many_requests("Too many requests, please try again later.", 1),
        error if error.retry() == Retry::Later => Status::service_unavailable(error.to_string()).retry_after(1),
        StoreError::Stopped => Status::service_unavailable(error.to_string()).retry_after(1),
        error => Status::internal_error(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_cannot_break_out_of_its_header() {
        let mut response = bytes(StatusCode::OK, "");
        warn(&mut response, &["unknown field \"spec.foo\"\r\nX: y".to_owned()]);
        let value = response.headers().get("warning").unwrap();
        assert_eq!(value, "299 - \"unknown field \\\"spec.foo\\\"X: y\"");
    }

    #[test]
    fn errors_that_pass_say_when_to_retry() {
        let response = failure(&store_error(&StoreError::TooManyRequests));
        assert_eq!((response.status().as_u16(), response.headers()["retry-after"].as_bytes()), (429, &b"1"[..]));
        assert_eq!(store_error(&StoreError::Compacted { requested: 1, compacted: 2 }).code, 410);
    }
}
