//! The way from an HTTP request to a WebSocket (RFC 6455), and nothing beyond.

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use http_body_util::{BodyExt, Empty};
use hyper::{Response, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::server::Body;

/// Kubernetes' clients send at most 32 KiB at once.
const MAX_MESSAGE: usize = 1024 * 1024;
/// What may wait to be written to a slow client.
const MAX_UNSENT: usize = 2 * 1024 * 1024;

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a header's comma-separated list has `token`.
fn has_token(headers: &HeaderMap, name: http::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The key of a request that wants a WebSocket.
pub fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let wanted = has_token(headers, UPGRADE, "websocket") && has_token(headers, CONNECTION, "upgrade");
    headers.get(SEC_WEBSOCKET_KEY).filter(|_| wanted).map(HeaderValue::as_bytes)
}

/// All subprotocols that the client offers, as one list.
pub fn offered(headers: &HeaderMap) -> String {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",")
}

/// `101 Switching Protocols`.
pub fn accept(key: &[u8], protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let accept = HeaderValue::from_str(&derive_accept_key(key)).expect("base64 is a header value");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

/// The socket after the upgrade.
pub async fn open(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .max_write_buffer_size(MAX_UNSENT);
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// The last message of a session that went as it should. Without a code in it, clients report an error.
pub fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}
