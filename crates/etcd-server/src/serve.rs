//! Accepts connections, with TLS where the caller hands in an acceptor, and drains them on stop.

use std::{sync::Arc, time::Duration};

use grpc::Server;
use http::Extensions;
use runtime::{CancellationToken, Tasks};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{PeerName, fast::reply::Reply, http::HostTrusted};

/// Connections at one time, on one listener. One more is closed at once.
const MAX_CONNECTIONS: usize = 4096;
/// How long the first byte or a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
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

pub(crate) fn spawn(listener: Listener, tls: Option<TlsAcceptor>, server: Server<Reply>, tasks: &Tasks) {
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
            let (tls, server, stop) = (tls.clone(), server.clone(), connections.stopping());
            connections.spawn_to_end("connection", async move {
                let _slot = slot;
                let opened = tokio::select! {
                    opened = open(accepted, tls) => opened,
                    () = stop.cancelled() => None,
                };
                if let Some((stream, extensions)) = opened {
                    serve(stream, extensions, server, stop).await;
                }
            });
        }
    });
}

/// Waits for the peer's first byte, and does the handshake if there is one to do. Its requests carry the extensions.
async fn open(accepted: Accepted, tls: Option<TlsAcceptor>) -> Option<(Box<dyn Stream>, Extensions)> {
    let (stream, mut extensions) = (accepted.begun().await?, Extensions::new());
    let Some(acceptor) = tls else { return Some((stream, extensions)) };
    match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            if let Some(name) = certificate.and_then(|certificate| PeerName::of(certificate)) {
                extensions.insert(name);
            }
            extensions.insert(HostTrusted);
            return Some((Box::new(stream), extensions));
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
    None
}

/// Serves one connection, and after the stop for as long as the drain may take.
async fn serve(stream: Box<dyn Stream>, extensions: Extensions, server: Server<Reply>, stop: CancellationToken) {
    let serving = server.serve(stream, Arc::new(extensions), stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    let ended = tokio::select! {
        ended = serving => ended,
        () = overdue => return,
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
    }
}
