//! Accepts connections, with TLS where the caller hands in an acceptor, and drains them on stop.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use runtime::{CancellationToken, Tasks};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// Connections at one time, on one listener. One more is closed at once.
const MAX_CONNECTIONS: usize = 4096;
/// Requests and streams at one time on one connection.
const MAX_STREAMS_PER_CONNECTION: u32 = 4096;
/// Bytes that a peer may send ahead on one stream, and on all streams of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How long the first byte, a TLS handshake or the head of a plain HTTP request may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A peer that is silent for so long is asked whether it is still there, and has so long to answer.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_LIMIT: Duration = Duration::from_secs(20);
/// How long requests in flight may take to end after the stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// The pause after a failed accept (no more file descriptors, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> std::io::Result<Accepted> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for the acknowledgement of earlier ones.
                stream.set_nodelay(true)?;
                Accepted::Tcp(stream)
            }
            Listener::Unix(listener) => Accepted::Unix(listener.accept().await?.0),
        })
    }
}

impl Accepted {
    /// The stream, once the peer has sent something; `None` if it stays silent for too long.
    async fn begun(self) -> Option<Box<dyn Stream>> {
        let begun = async {
            match &self {
                Accepted::Tcp(stream) => stream.readable().await,
                Accepted::Unix(stream) => stream.readable().await,
            }
        };
        timeout(HANDSHAKE_LIMIT, begun).await.ok()?.ok()?;
        Some(match self {
            Accepted::Tcp(stream) => Box::new(stream),
            Accepted::Unix(stream) => Box::new(stream),
        })
    }
}

pub(crate) fn spawn(listener: Listener, tls: Option<TlsAcceptor>, router: Router, tasks: &Tasks) {
    // The same group, so that whoever joins it waits for the drain.
    let connections = tasks.clone();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tasks.spawn("accept", async move {
        loop {
            let accepted = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                tracing::warn!(limit = MAX_CONNECTIONS, "too many connections: one is refused");
                continue;
            };
            let (tls, router, stop) = (tls.clone(), router.clone(), connections.stopping());
            connections.spawn_to_end("connection", async move {
                let _slot = slot;
                let opened = tokio::select! {
                    opened = open(accepted, tls) => opened,
                    () = stop.cancelled() => None,
                };
                if let Some(stream) = opened {
                    serve(stream, router, stop).await;
                }
            });
        }
    });
}

/// Waits for the peer's first byte, and does the handshake if there is one to do.
async fn open(accepted: Accepted, tls: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    let stream = accepted.begun().await?;
    let Some(acceptor) = tls else { return Some(stream) };
    match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(Box::new(stream)),
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
    None
}

/// Serves one connection: HTTP/2 for gRPC, HTTP/1 for health checks.
async fn serve(stream: impl Stream + 'static, router: Router, stop: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LIMIT);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_LIMIT);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(DRAIN_LIMIT, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "connection ended");
    }
}
