//! One HTTP GET as kubelet's probes make it: any certificate will do, 200 to 399 is healthy, redirects to other hosts
//! are not followed, the body is read only so far as it is told.

use std::{io, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{host_of, port_of, tls};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub path: String,
    pub tls: bool,
    pub headers: Vec<(String, String)>,
}

/// Body bytes kept for the message.
const MAX_BODY: usize = 1024;

impl Target {
    pub fn of(action: &HTTPGetAction, container: &Container, ip: Option<IpAddr>) -> Option<Self> {
        let path = action.path.clone().unwrap_or_default();
        Some(Target {
            host: host_of(action.host.as_deref(), ip)?,
            port: port_of(&action.port, container)?,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            tls: action.scheme.as_deref() == Some("HTTPS"),
            headers: action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        })
    }

    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", join(&self.host, self.port), self.path)
    }
}

/// Host and port as one, with brackets around IPv6.
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A failed connection in Go's words, which users search for.
pub fn dial_error(address: &str, error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {text}")
}

/// Sends the request. The error is what a probe's event says.
pub async fn get(target: &Target, timeout: Duration) -> Result<u16, String> {
    let url = target.url();
    match tokio::time::timeout(timeout, exchange(target)).await {
        Ok(Ok((status, _))) if (200..400).contains(&status) => Ok(status),
        Ok(Ok((status, body))) => {
            tracing::debug!(%url, status, %body, "probe answered");
            Err(format!("HTTP probe failed with statuscode: {status}"))
        }
        Ok(Err(error)) => Err(format!("Get {url:?}: {error}")),
        Err(_) => {
            Err(format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"))
        }
    }
}

async fn exchange(target: &Target) -> Result<(u16, String), String> {
    let address = join(&target.host, target.port);
    let stream = TcpStream::connect(address.as_str()).await.map_err(|error| dial_error(&address, &error))?;
    match target.tls {
        true => ask(target, &address, tls::connect(&target.host, stream).await?).await,
        false => ask(target, &address, stream).await,
    }
}

async fn ask<S>(target: &Target, address: &str, stream: S) -> Result<(u16, String), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut request = Request::get(&target.path);
    let own =
        |name: header::HeaderName| target.headers.iter().any(|(known, _)| name.as_str().eq_ignore_ascii_case(known));
    if !own(header::HOST) {
        request = request.header(header::HOST, address);
    }
    if !own(header::USER_AGENT) {
        request = request.header(header::USER_AGENT, "kube-probe/1.36");
    }
    if !own(header::ACCEPT) {
        request = request.header(header::ACCEPT, "*/*");
    }
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request = request.header(header::CONNECTION, "close").body(Empty::new()).map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| words(&error))?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut text = Vec::new();
        while text.len() < MAX_BODY
            && let Some(Ok(frame)) = body.frame().await
        {
            text.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref()));
        }
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    };
    drive(answer, connection).await
}

/// Drives a connection, which has no task of its own, until the answer is there. A server that closes with its answer
/// ends the connection first: what it said is in the answer's hands all the same.
pub(super) async fn drive<T, C, E>(answer: impl Future<Output = Result<T, String>>, connection: C) -> Result<T, String>
where
    C: Future<Output = Result<(), E>>,
{
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

/// hyper's error in the words that kubelet's users know.
fn words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() { "EOF".to_owned() } else { error.to_string() }
}
