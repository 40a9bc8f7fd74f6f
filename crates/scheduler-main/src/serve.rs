//! What kube-scheduler serves on its secure port: health, metrics and its configuration, to those who may see them.
//!
//! ```text
//!   listener ─▶ TLS ─▶ auth: who is it, may they ─▶ health │ metrics │ configz
//! ```

mod answers;
mod auth;
mod authorities;
mod health;
pub mod resources;
mod reviews;
mod slis;
mod tls;

pub use health::Health;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use runtime::{Clock, Tasks};
use sched_config::KubeSchedulerConfiguration;
use telemetry::Metrics;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::parse::Values;
use auth::Auth;
use resources::Resources;
pub use tls::{Certificate, certificate};

/// Connections that are open at one time; the next wait.
const MAX_CONNECTIONS: usize = 256;
/// Connections that the kernel keeps for us.
const BACKLOG: u32 = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADER: Duration = Duration::from_secs(32);
const HEADER_BYTES: usize = 64 * 1024;
/// Requests on one HTTP/2 connection unless a flag says otherwise, as in Go.
const STREAMS: u32 = 250;
/// How long open requests may take when the server stops.
const DRAIN: Duration = Duration::from_secs(1);
/// The pause after accepting failed, which happens when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is nothing served, in kube-scheduler's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("open {path}: {reason}")]
    File { path: String, reason: String },
    #[error("error creating self-signed certificates: {0}")]
    SelfSigned(String),
    #[error("tls: {path}: {reason}")]
    Pair { path: String, reason: String },
    #[error("failed to load SNI cert and key: {0}")]
    Sni(#[source] Box<ServeError>),
    #[error("unknown tls version {0:?}")]
    Version(String),
    #[error("Cipher suite {0} not supported or doesn't exist")]
    Cipher(String),
    #[error("{0}")]
    Tls(String),
    #[error(
        "failed to get delegated authentication kubeconfig: failed to get delegated authentication kubeconfig: {0}"
    )]
    AuthenticationKubeconfig(#[source] client::ConnectError),
    #[error("failed to get delegated authorization kubeconfig: {0}")]
    AuthorizationKubeconfig(#[source] client::ConnectError),
    #[error("unable to load client CA provider: {0}")]
    ClientCa(#[source] Box<ServeError>),
    #[error("unable to create request header authentication config: {0}")]
    HeaderCa(#[source] Box<ServeError>),
    #[error("unable to load configmap based request-header-client-ca-file: {0}")]
    Lookup(String),
    #[error("only trailing * allowed in {0:?}")]
    Path(String),
    #[error("failed to create listener: failed to listen on {address}: listen tcp {address}: bind: {reason}")]
    Listen { address: SocketAddr, reason: String },
}

/// The flags' part of serving.
pub struct Serving {
    address: SocketAddr,
    share_port: bool,
    http2: bool,
    streams: u32,
    tls: TlsAcceptor,
    auth: auth::Options,
}

/// What is served.
pub struct Served {
    configz: String,
    metrics: Metrics,
    health: Health,
    resources: Resources,
}

impl Served {
    pub fn new(document: &KubeSchedulerConfiguration, metrics: Metrics, health: Health, resources: Resources) -> Self {
        let configz = serde_json::json!({"componentconfig": sched_config::json(document)}).to_string();
        Served { configz, metrics, health, resources }
    }
}

impl Serving {
    /// Reads what serving needs. `None`: nothing is to be served.
    pub async fn new(values: &Values, certificate: Option<Certificate>) -> Result<Option<Self>, ServeError> {
        let Some(certificate) = certificate else { return Ok(None) };
        let http2 = !values.bool("disable-http2-serving");
        let tls = tls::acceptor(values, &certificate, http2)?;
        let auth = auth::Options::new(values).await?;
        let host = values.text("bind-address").parse().map_err(|error| ServeError::Tls(format!("{error}")))?;
        let port = u16::try_from(values.int("secure-port")).unwrap_or(0);
        let streams = u32::try_from(values.int("http2-max-streams-per-connection")).ok().filter(|streams| *streams > 0);
        Ok(Some(Serving {
            address: SocketAddr::new(host, port),
            share_port: values.bool("permit-port-sharing"),
            http2,
            streams: streams.unwrap_or(STREAMS),
            tls,
            auth,
        }))
    }

    /// Begins to serve.
    pub async fn start(&self, served: Served, clock: &Clock, tasks: &Tasks) -> Result<(), ServeError> {
        let listen =
            |error: io::Error| ServeError::Listen { address: self.address, reason: crate::setup::words(&error) };
        let listener = self.listen().map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let auth = Auth::new(&self.auth, clock.clone(), tasks).await;
        let server = Arc::new(Server {
            served,
            auth,
            tls: self.tls.clone(),
            http2: self.http2,
            streams: self.streams,
            tasks: tasks.clone(),
        });
        tracing::info!("Serving securely on {address}");
        tasks.spawn("accept", accept(server, listener));
        Ok(())
    }

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A port that was used a moment ago can be had again, as in Go; --permit-address-sharing asks for the same.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(self.share_port)?;
        socket.bind(self.address)?;
        socket.listen(BACKLOG)
    }
}

struct Server {
    served: Served,
    auth: Auth,
    tls: TlsAcceptor,
    http2: bool,
    streams: u32,
    tasks: Tasks,
}

async fn accept(server: Arc<Server>, listener: TcpListener) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let this = server.clone();
                server.tasks.spawn_to_end("connection", async move {
                    connection(this, stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(server: Arc<Server>, stream: TcpStream) {
    // Small answers must not wait for the peer's acknowledgement of the last.
    let _ = stream.set_nodelay(true);
    let stopping = server.tasks.stopping();
    let stream = tokio::select! {
        handshake = timeout(HANDSHAKE, server.tls.accept(stream)) => handshake,
        () = stopping.cancelled() => return,
    };
    let Ok(Ok(stream)) = stream else { return };
    let chain: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let chain = Arc::new(chain);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(HEADER_BYTES);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(server.streams);
    let builder = if server.http2 { builder } else { builder.http1_only() };
    let service = service_fn(|request: Request<Incoming>| {
        let (server, chain) = (server.clone(), chain.clone());
        async move { Ok::<_, Infallible>(handle(&server, request, &chain).await) }
    });
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            timeout(DRAIN, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended with an error");
    }
}

async fn handle(
    server: &Server,
    request: Request<Incoming>,
    chain: &[rustls::pki_types::CertificateDer<'static>],
) -> Response<Full<Bytes>> {
    let (parts, _body) = request.into_parts();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    if let Err(refused) = server.auth.check(&parts.method, path, &parts.headers, chain).await {
        return answers::refused(&refused);
    }
    let served = &server.served;
    let accept = parts.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    match path {
        "/metrics" => {
            let exposition = served.metrics.exposition(accept);
            answers::text(200, exposition.content_type, exposition.text)
        }
        "/metrics/slis" => {
            let exposition = served.health.slis(accept);
            answers::text(200, exposition.content_type, exposition.text)
        }
        "/metrics/resources" => {
            answers::text(200, "text/plain; version=0.0.4; charset=utf-8", served.resources.text().await)
        }
        "/configz" => answers::text(200, "application/json", served.configz.clone()),
        _ => match served.health.answer(path, query) {
            Some((code, text)) => answers::text(code, "text/plain; charset=utf-8", text),
            None => answers::text(404, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
        },
    }
}
