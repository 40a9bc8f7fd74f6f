//! Accepts connections: a bounded number, each with a bound on every wait, so that a peer that opens a thousand of them
//! or sends a byte a minute costs the others nothing.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use runtime::{CancellationToken, Clock};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    body,
    core::Core,
    pipeline::{self, Peer},
    tls,
};

/// The pause after accepting failed, which happens when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long open requests may take when the server stops.
const DRAIN: Duration = Duration::from_secs(1);
/// HTTP/2 peers that do not answer a ping in time are gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes in flight to the server per HTTP/2 stream and connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that a response may queue on an HTTP/2 stream.
const SEND_BUFFER: usize = 256 * 1024;

/// The connections that are open.
pub(crate) struct Connections {
    max: usize,
    clock: Clock,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
}

/// One connection, as requests see it.
pub(crate) struct Connection {
    /// Ends the connection.
    pub cancel: CancellationToken,
    /// Whether ending it ends one request only.
    pub one_request_at_a_time: std::sync::atomic::AtomicBool,
    in_flight: AtomicUsize,
    /// Milliseconds of the monotonic clock.
    last_active: AtomicU64,
    clock: Clock,
}

impl Connection {
    /// Counts a request until the value is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    fn touch(&self) {
        self.last_active.store(millis(&self.clock), Ordering::Release);
    }
}

/// A request on a connection.
pub(crate) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

fn millis(clock: &Clock) -> u64 {
    u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX)
}

impl Connections {
    pub fn new(max: usize, clock: Clock) -> Self {
        Connections { max, clock, next: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Takes in a connection; the one that has been idle longest makes room when there is none. None when all are busy.
    fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let mut open = self.open.lock();
        if open.len() >= self.max {
            let idle = open.iter().filter(|(_, c)| c.in_flight.load(Ordering::Acquire) == 0);
            let oldest = idle.min_by_key(|(_, c)| c.last_active.load(Ordering::Acquire)).map(|(id, _)| *id)?;
            if let Some(connection) = open.remove(&oldest) {
                connection.cancel.cancel();
            }
        }
        let connection = Arc::new(Connection {
            cancel: CancellationToken::new(),
            one_request_at_a_time: true.into(),
            in_flight: AtomicUsize::new(0),
            last_active: AtomicU64::new(millis(&self.clock)),
            clock: self.clock.clone(),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(id, connection.clone());
        Some(Admitted { connections: self.clone(), id, connection })
    }
}

struct Admitted {
    connections: Arc<Connections>,
    id: u64,
    connection: Arc<Connection>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.id);
    }
}

/// Accepts on one address until the task is stopped.
pub(crate) async fn accept(core: Arc<Core>, listener: TcpListener, tls: TlsAcceptor, connections: Arc<Connections>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match connections.admit() {
                Some(admitted) => {
                    let serve = serve(core.clone(), stream, peer, tls.clone(), admitted);
                    core.tasks.spawn_to_end("connection", serve);
                }
                None => tracing::warn!(%peer, "all connections are busy; a new one was closed"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(core: Arc<Core>, stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, admitted: Admitted) {
    let connection = admitted.connection.clone();
    core.metrics.connections.inc();
    tokio::select! {
        () = connection.cancel.cancelled() => tracing::debug!(%peer, "connection closed by the server"),
        () = handshake_and_serve(&core, stream, peer, tls, &connection) => {}
    }
    core.metrics.connections.dec();
}

async fn handshake_and_serve(
    core: &Arc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    connection: &Arc<Connection>,
) {
    // Small responses must not wait for the peer's acknowledgement of the last.
    let _ = stream.set_nodelay(true);
    let stopping = core.tasks.stopping();
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(core.limits.connections.handshake, tls.accept(stream)) => handshake,
        () = stopping.cancelled() => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            core.metrics.tls_errors.inc();
            tracing::debug!(%peer, %error, "TLS handshake error");
            return;
        }
        Err(_) => {
            core.metrics.tls_errors.inc();
            tracing::debug!(%peer, "TLS handshake took too long");
            return;
        }
    };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(|chain| tls::identity(chain.first()?));
    let http2 = session.alpn_protocol() == Some(b"h2");
    connection.one_request_at_a_time.store(!http2, Ordering::Release);
    let peer = Peer::Remote { certificate, connection: connection.clone() };
    let service = service_fn(|request: Request<Incoming>| {
        let response = pipeline::handle(core.clone(), peer.clone(), request.map(body::incoming));
        async { Ok::<_, Infallible>(response.await) }
    });
    let limits = core.limits.connections;
    let result = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            result = serving.as_mut() => result,
            () = stopping.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN, serving).await.unwrap_or(Ok(()))
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(limits.header_bytes);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        tokio::select! {
            result = serving.as_mut() => result,
            () = stopping.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN, serving).await.unwrap_or(Ok(()))
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn the_longest_idle_connection_makes_room() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let connections = Arc::new(Connections::new(2, clock.clone()));
        let first = connections.admit().unwrap();
        clock.advance(Duration::from_millis(5));
        let second = connections.admit().unwrap();
        let busy = first.connection.busy();
        let third = connections.admit().unwrap();
        assert!(second.connection.cancel.is_cancelled() && !first.connection.cancel.is_cancelled());
        drop(second);
        let also_busy = third.connection.busy();
        assert!(connections.admit().is_none());
        drop((busy, also_busy));
        assert!(connections.admit().is_some());
    }
}
