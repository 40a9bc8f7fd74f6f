//! One call of `grpc.health.v1.Health/Check` over plain HTTP/2: two small messages, written and read by hand.

use std::{convert::Infallible, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::http::dial_error;

/// Answers longer than this are no health answers.
const MAX_ANSWER: usize = 4096;

/// Asks for the health of `service` (empty: the whole server). The error is what a probe's event says.
pub async fn check(address: &str, service: &str, timeout: Duration) -> Result<(), String> {
    let seconds = timeout.as_secs();
    match tokio::time::timeout(timeout, exchange(address, service)).await {
        Ok(Ok(1)) => Ok(()),
        Ok(Ok(status)) => Err(format!("service unhealthy (responded with {:?})", status_name(status))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("timeout: failed to connect service {address:?} within {seconds}s")),
    }
}

fn status_name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNRECOGNIZED",
    }
}

async fn exchange(address: &str, service: &str) -> Result<u64, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| dial_error(address, &error))?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::<Bytes>::new(request(service)).map_err(|never: Infallible| match never {}))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        grpc_status(response.headers())?;
        read(response.into_body()).await
    };
    super::http::drive(answer, connection).await
}

async fn read<B>(mut body: B) -> Result<u64, String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            grpc_status(trailers)?;
        }
        if bytes.len() > MAX_ANSWER {
            return Err("the answer is too long for a health answer".to_owned());
        }
    }
    status(&bytes).ok_or_else(|| "the answer is no health answer".to_owned())
}

/// An error for every `grpc-status` but OK, which is also what its absence in the headers means.
fn grpc_status(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some("12") => Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".into()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(format!("error: health rpc failed: rpc error: code = {code} desc = {message}"))
        }
    }
}

/// `HealthCheckRequest{service = 1}` in gRPC's five-byte frame.
fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message);
    frame.freeze()
}

fn put_varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// The `status = 1` of a framed, uncompressed `HealthCheckResponse`; 0 when it is left out.
fn status(bytes: &[u8]) -> Option<u64> {
    let (head, message) = bytes.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || message.len() != length {
        return None;
    }
    let Some((tag, rest)) = message.split_first() else { return Some(0) };
    if *tag != 0x08 {
        return None;
    }
    let mut value = 0u64;
    for (index, byte) in rest.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages() {
        assert_eq!(request("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(&[0, 0, 0, 0, 2, 8]), None);
        assert_eq!(status(&[1, 0, 0, 0, 2, 8, 1]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = status(&bytes);
        }
    }
}
