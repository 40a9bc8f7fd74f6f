//! Answers in JSON: a message, a line for each message of a stream, or an error.

use std::convert::Infallible;

use axum::{
    body::Body,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::json;
use tonic::{Code, Status, Streaming};

const JSON: &str = "application/json";
/// etcd's gateway shows what it was answered with itself.
const GRPC: [(&str, &str); 2] = [("content-type", JSON), ("grpc-metadata-content-type", "application/grpc")];

pub(super) fn message(message: &DynamicMessage) -> Result<Response, Status> {
    let mut body = Vec::new();
    write(message, &mut body)?;
    Ok((GRPC, body).into_response())
}

/// Each message in a line of its own, as soon as it is there.
pub(super) fn lines(messages: Streaming<DynamicMessage>) -> Response {
    let lines = stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        match messages.message().await.and_then(|message| message.map(|message| line(&message)).transpose()) {
            Ok(Some(line)) => Some((Ok::<_, Infallible>(line), Some(messages))),
            Ok(None) => None,
            Err(status) => Some((Ok(error_line(&status)), None)),
        }
    });
    (GRPC, Body::from_stream(lines)).into_response()
}

/// A failure, under the code that belongs to it in HTTP.
pub(super) fn error(status: &Status) -> Response {
    refusal(http_code(status.code()), status)
}

pub(super) fn refusal(code: StatusCode, status: &Status) -> Response {
    let (text, number) = (status.message(), i32::from(status.code()));
    let body = json!({ "error": text, "code": number, "message": text });
    (code, [(CONTENT_TYPE, JSON)], body.to_string()).into_response()
}

fn line(message: &DynamicMessage) -> Result<Bytes, Status> {
    let mut line = br#"{"result":"#.to_vec();
    write(message, &mut line)?;
    line.extend_from_slice(b"}\n");
    Ok(line.into())
}

/// A failure after the answer has begun. Both generations of etcd's gateway find the names they look for.
fn error_line(status: &Status) -> Bytes {
    let (number, code) = (i32::from(status.code()), http_code(status.code()));
    let error = json!({
        "grpc_code": number,
        "http_code": code.as_u16(),
        "code": number,
        "message": status.message(),
        "http_status": code.canonical_reason(),
    });
    format!("{}\n", json!({ "error": error })).into()
}

/// Names as in the .proto files, 64-bit numbers as strings, nothing that has its default.
fn write(message: &DynamicMessage, to: &mut Vec<u8>) -> Result<(), Status> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let written = message.serialize_with_options(&mut serde_json::Serializer::new(to), &options);
    written.map_err(|error| Status::internal(error.to_string()))
}

/// The table of Google's API design guide, with the exceptions of grpc-gateway's first generation.
fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
