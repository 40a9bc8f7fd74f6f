//! Plain HTTP for the listeners that serve a few paths and no gRPC: metrics, and what members tell each other.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::IntoResponse,
};
use etcd_server::Listener;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use peers::{Network, Stream};
use runtime::{CancellationToken, Tasks};
use tokio::{sync::Semaphore, time::timeout};
use tokio_rustls::TlsAcceptor;

/// Connections at one time, on one listener. One more is closed at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a handshake or the head of a request may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long requests in flight may take to end after the stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Only these paths of a router; one that ends with a slash stands for all below it.
pub fn only(router: &Router, paths: &'static [&'static str]) -> Router {
    let filter = middleware::from_fn(async move |request: Request, next: Next| {
        let path = request.uri().path();
        let known = paths.iter().any(|known| path == *known || (known.ends_with('/') && path.starts_with(known)));
        if known { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
    });
    router.clone().layer(filter)
}

/// Serves until the group stops. With `members`, other members speak on the same port.
pub fn spawn(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    router: Router,
    members: Option<Arc<Network>>,
    tasks: &Tasks,
) {
    let connections = tasks.clone();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tasks.spawn("accept-plain", async move {
        loop {
            let accepted = match accept(&listener).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
            let (tls, router, stop, members) = (tls.clone(), router.clone(), connections.stopping(), members.clone());
            connections.spawn_to_end("connection-plain", async move {
                let _slot = slot;
                let opened = tokio::select! {
                    opened = open(accepted, tls, members) => opened,
                    () = stop.cancelled() => None,
                };
                if let Some(stream) = opened {
                    serve(stream, router, stop).await;
                }
            });
        }
    });
}

async fn accept(listener: &Listener) -> std::io::Result<Box<dyn Stream>> {
    Ok(match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Listener::Unix(listener) => Box::new(listener.accept().await?.0),
    })
}

async fn open(
    stream: Box<dyn Stream>,
    tls: Option<TlsAcceptor>,
    members: Option<Arc<Network>>,
) -> Option<Box<dyn Stream>> {
    let stream = match tls {
        None => stream,
        Some(acceptor) => match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Box::new(stream),
            _ => return None,
        },
    };
    match members {
        None => Some(stream),
        Some(members) => members.take(stream).await,
    }
}

async fn serve(stream: Box<dyn Stream>, router: Router, stop: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_LIMIT);
    builder.http2().timer(TokioTimer::new());
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // What has not ended by now is cut.
            let _ = timeout(DRAIN_LIMIT, connection).await;
        }
    }
}
