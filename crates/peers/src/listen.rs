//! Lets peers in: greets, checks who they are, and takes what they bring.

use std::{io::Cursor, sync::Arc, time::Duration};

use replica::snapshot::Point;
use runtime::Tasks;
use store::Store;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    PeerError,
    frame::{self, Greeting, Kind},
    metrics::Metrics,
    network::Stream,
    wire,
};

/// Connections at one time: a member needs three, and each has at most a few peers.
const MAX_CONNECTIONS: usize = 256;
/// How long TLS and the greeting may take.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// How long a peer may be silent while it sends a snapshot or asks.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// The pause after a failed accept (no more file descriptors, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub fn spawn(listener: TcpListener, tls: Option<TlsAcceptor>, store: Store, metrics: Metrics, tasks: &Tasks) {
    let (slots, connections) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), tasks.clone());
    tasks.spawn("peer-accept", async move {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                tracing::warn!(limit = MAX_CONNECTIONS, "too many connections from peers: one is refused");
                continue;
            };
            let (tls, store, metrics) = (tls.clone(), store.clone(), metrics.clone());
            connections.spawn("peer-in", async move {
                let _slot = slot;
                if let Err(error) = serve(stream, tls, store, &metrics).await {
                    tracing::debug!(%from, %error, "a peer's connection ended");
                }
            });
        }
    });
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, store: Store, metrics: &Metrics) -> Result<(), PeerError> {
    stream.set_nodelay(true)?;
    let mut stream: Box<dyn Stream> = match tls {
        Some(acceptor) => {
            Box::new(timeout(GREETING_LIMIT, acceptor.accept(stream)).await.map_err(|_| PeerError::Late)??)
        }
        None => Box::new(stream),
    };
    let begun = timeout(GREETING_LIMIT, begins(&mut stream)).await.map_err(|_| PeerError::Late)??;
    if begun.is_some() {
        return Err(PeerError::Protocol("not a member's greeting"));
    }
    member(stream, store, metrics).await
}

/// Serves a member's connection to its end. What does not begin as one is handed back, with what was read of it.
pub async fn take(
    mut stream: Box<dyn Stream>,
    store: Store,
    metrics: &Metrics,
) -> Result<Option<Box<dyn Stream>>, PeerError> {
    match timeout(GREETING_LIMIT, begins(&mut stream)).await.map_err(|_| PeerError::Late)?? {
        None => member(stream, store, metrics).await.map(|()| None),
        Some(read) => {
            let (reader, writer) = tokio::io::split(stream);
            Ok(Some(Box::new(tokio::io::join(Cursor::new(read).chain(reader), writer))))
        }
    }
}

/// Reads until it is clear what begins; `None` if it is a member's greeting, else what was read.
async fn begins(stream: &mut Box<dyn Stream>) -> Result<Option<Vec<u8>>, PeerError> {
    let mut read = Vec::with_capacity(frame::MAGIC.len());
    while read.len() < frame::MAGIC.len() {
        let missing = (frame::MAGIC.len() - read.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut read).await? == 0 || !frame::MAGIC.starts_with(&read) {
            return Ok(Some(read));
        }
    }
    Ok(None)
}

async fn member(mut stream: Box<dyn Stream>, store: Store, metrics: &Metrics) -> Result<(), PeerError> {
    let greeted = async {
        let greeting = Greeting::read(&mut stream).await?;
        let refusal = check(&store, greeting);
        frame::write(&mut stream, refusal.as_deref().unwrap_or_default().as_bytes()).await?;
        match refusal {
            Some(why) => Err(PeerError::Refused(why)),
            None => Ok((stream, greeting)),
        }
    };
    let (stream, greeting) = timeout(GREETING_LIMIT, greeted).await.map_err(|_| PeerError::Late)??;
    match greeting.kind {
        Kind::Messages => {
            let ended = messages(stream, store.clone(), |bytes| metrics.received(greeting.from, bytes)).await;
            // A connection that breaks says nothing of the peer; one that is closed does.
            if matches!(&ended, Err(PeerError::Io(error)) if is_closed(error)) {
                store.gone(greeting.from);
            }
            ended
        }
        Kind::Snapshot => snapshot(stream, store).await,
        Kind::Question => question(stream, store).await,
    }
}

/// The other side's kernel has said that the connection is no more.
fn is_closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset)
}

/// Why a peer is not let in.
fn check(store: &Store, greeting: Greeting) -> Option<String> {
    let (cluster, me) = store.identity();
    if greeting.cluster == 0 && greeting.kind == Kind::Question {
        return None;
    }
    if greeting.cluster != cluster {
        return Some(format!("cluster ID mismatch: {:x} is not {cluster:x}", greeting.cluster));
    }
    if greeting.to != me {
        return Some(format!("member ID mismatch: {:x} is not {me:x}", greeting.to));
    }
    if store.membership().1.contains(&greeting.from) {
        return Some("the member has been permanently removed from the cluster".to_owned());
    }
    None
}

async fn messages(mut stream: Box<dyn Stream>, store: Store, received: impl Fn(usize)) -> Result<(), PeerError> {
    loop {
        let body = frame::read(&mut stream).await?;
        received(body.len());
        for (group, message) in wire::messages(body)? {
            // A full inbox drops it; Raft sends again.
            drop(store.receive(group, message));
        }
    }
}

async fn snapshot(mut stream: Box<dyn Stream>, store: Store) -> Result<(), PeerError> {
    let mut next = async || timeout(SILENCE_LIMIT, frame::read(&mut stream)).await.map_err(|_| PeerError::Late)?;
    let (group, message) = wire::message(&mut next().await?)?;
    let metadata = message.get_snapshot().get_metadata();
    let point = Point { group, index: metadata.index, term: metadata.term };
    let mut incoming = Some(store.receive_snapshot(point));
    let stored = loop {
        let portion = next().await?;
        let taken = match incoming.take() {
            Some(Ok(taken)) => taken,
            // Its portions are read to the end, so that the peer hears why.
            Some(Err(error)) if portion.is_empty() => break Err(error),
            other => {
                incoming = other;
                continue;
            }
        };
        let (last, message) = (portion.is_empty(), message.clone());
        let step = runtime::blocking(move || {
            let mut taken = taken;
            match last {
                true => taken.finish(message).map(|()| None),
                false => taken.portion(&portion).map(|()| Some(taken)),
            }
        });
        match step.await {
            Ok(None) => break Ok(()),
            Ok(Some(taken)) => incoming = Some(Ok(taken)),
            Err(error) if last => break Err(error),
            Err(error) => incoming = Some(Err(error)),
        }
    };
    let answer = stored.err().map(|e| e.to_string()).unwrap_or_default();
    frame::write(&mut stream, answer.as_bytes()).await
}

async fn question(mut stream: Box<dyn Stream>, store: Store) -> Result<(), PeerError> {
    loop {
        let body = timeout(SILENCE_LIMIT, frame::read(&mut stream)).await.map_err(|_| PeerError::Late)??;
        let question = wire::question(body).map_err(|_| PeerError::Protocol("the question cannot be read"))?;
        let reply = store.answer(question).await;
        frame::write(&mut stream, &wire::put_reply(store.identity().0, &reply)).await?;
    }
}
