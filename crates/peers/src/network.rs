//! The handle on the network, and what it knows of the others.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::BytesMut;
use parking_lot::Mutex;
use replica::{GroupId, Message};
use runtime::Tasks;
use store::{Peers, Question, Reply, Store};
use store_api::{Member, StoreError};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    PeerError,
    frame::{self, Greeting, Kind},
    link::Link,
    listen,
    metrics::Metrics,
    wire,
};

/// How long connecting, the handshakes and the greeting may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer to a question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(7);

pub struct Options {
    pub tasks: Tasks,
    /// Needed where a peer's URL is https.
    pub tls: Option<TlsConnector>,
}

/// A cluster that a member may join.
#[derive(Clone, Debug)]
pub struct Joining {
    pub cluster: u64,
    pub members: Vec<Member>,
    /// How many groups its keys are divided among.
    pub groups: GroupId,
}

/// Carries messages to the other members and takes theirs in.
pub struct Network {
    tasks: Tasks,
    runtime: tokio::runtime::Handle,
    tls: Option<TlsConnector>,
    /// Set when the store is open; what comes before is dropped.
    store: OnceLock<Store>,
    links: Mutex<HashMap<u64, Link>>,
    pub(crate) metrics: Metrics,
}

/// An open connection of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Network {
    /// Made inside the async runtime that will carry it.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Network {
            tasks: options.tasks,
            runtime: tokio::runtime::Handle::current(),
            tls: options.tls,
            store: OnceLock::new(),
            links: Mutex::default(),
            metrics: Metrics::default(),
        })
    }

    /// Adds the figures of the traffic, under etcd's names.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        self.metrics.register(registry);
    }

    /// Lets peers in, for the store that sends through this network. `known` are the members of whom a member that
    /// joins has been told; one that has a state knows them by itself.
    pub fn start(
        self: &Arc<Self>,
        store: &Store,
        listeners: Vec<(TcpListener, Option<TlsAcceptor>)>,
        known: Vec<Member>,
    ) {
        // It is started once, by whoever opened the store.
        drop(self.store.set(store.clone()));
        let own = store.membership().0;
        self.update(if own.is_empty() { known } else { own });
        for (listener, acceptor) in listeners {
            listen::spawn(listener, acceptor, store.clone(), self.metrics.clone(), &self.tasks);
        }
    }

    /// Serves a connection on a port that others use too: a member's to its end; any other is handed back, with what
    /// was read of it.
    pub async fn take(&self, stream: Box<dyn Stream>) -> Option<Box<dyn Stream>> {
        let store = self.store()?.clone();
        match listen::take(stream, store, &self.metrics).await {
            Ok(other) => other,
            Err(error) => {
                tracing::debug!(%error, "a peer's connection ended");
                None
            }
        }
    }

    /// Asks whoever listens at one of the URLs what there is to join.
    pub async fn discover(&self, urls: &[String]) -> Result<Joining, PeerError> {
        let greeting = Greeting { kind: Kind::Question, cluster: 0, from: 0, to: 0 };
        let mut stream = self.connect(urls, greeting).await?;
        let (cluster, reply) = exchange(&mut stream, &Question::Joining).await?;
        match reply {
            Ok(Reply::Joining(members, groups)) => Ok(Joining { cluster, members, groups }),
            Ok(_) => Err(PeerError::Protocol("the answer is to another question")),
            Err(error) => Err(PeerError::Refused(error.to_string())),
        }
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// Connects to one of the URLs and introduces itself.
    pub(crate) async fn connect(&self, urls: &[String], greeting: Greeting) -> Result<Box<dyn Stream>, PeerError> {
        let mut last = PeerError::NoAddress(greeting.to);
        for url in urls {
            match timeout(CONNECT_LIMIT, self.open(url, greeting)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = PeerError::Late,
            }
        }
        Err(last)
    }

    async fn open(&self, url: &str, greeting: Greeting) -> Result<Box<dyn Stream>, PeerError> {
        let (https, authority) = parse(url).ok_or(PeerError::NoAddress(greeting.to))?;
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match (&self.tls, https) {
            (_, false) => Box::new(stream),
            (None, true) => return Err(PeerError::Protocol("the peer wants TLS, and there is no certificate")),
            (Some(tls), true) => {
                let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
                let name = rustls::pki_types::ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                let name = name.map_err(|_| PeerError::Protocol("the peer's URL has no name for TLS"))?;
                Box::new(tls.connect(name, stream).await?)
            }
        };
        stream.write_all(&greeting.encode()).await?;
        stream.flush().await?;
        let answer = frame::read(&mut stream).await?;
        match answer.is_empty() {
            true => Ok(stream),
            false => Err(PeerError::Refused(String::from_utf8_lossy(&answer).into_owned())),
        }
    }

    fn urls(&self, member: u64) -> Vec<String> {
        self.links.lock().get(&member).map(Link::urls).unwrap_or_default()
    }
}

/// One question and its answer.
async fn exchange(
    stream: &mut Box<dyn Stream>,
    question: &Question,
) -> Result<(u64, Result<Reply, StoreError>), PeerError> {
    let asked = async {
        frame::write(stream, &wire::put_question(question)).await?;
        frame::read(stream).await
    };
    let body = timeout(ANSWER_LIMIT, asked).await.map_err(|_| PeerError::Late)??;
    wire::reply(body).map_err(|_| PeerError::Protocol("the answer cannot be read"))
}

/// (https, host:port).
fn parse(url: &str) -> Option<(bool, &str)> {
    match url.split_once("://")? {
        ("http", authority) => Some((false, authority.trim_end_matches('/'))),
        ("https", authority) => Some((true, authority.trim_end_matches('/'))),
        _ => None,
    }
}

/// What a `Store` sends through.
pub struct Handle(pub Arc<Network>);

#[async_trait]
impl Peers for Handle {
    fn send(&self, group: GroupId, message: Message) {
        let to = message.to;
        if let Some(link) = self.0.links.lock().get(&to) {
            link.send(group, message);
        }
    }

    fn update(&self, members: Vec<Member>) {
        self.0.update(members);
    }

    fn connected_for(&self, member: u64) -> Option<Duration> {
        let since = self.0.links.lock().get(&member)?.connected()?;
        Some(self.0.store()?.monotonic().saturating_sub(since))
    }

    async fn ask(&self, member: u64, question: Question) -> Result<Reply, StoreError> {
        let unavailable = |error: PeerError| StoreError::Unavailable(format!("the leader cannot be asked: {error}"));
        let Some(store) = self.0.store() else { return Err(StoreError::NoLeader) };
        let (cluster, me) = store.identity();
        let greeting = Greeting { kind: Kind::Question, cluster, from: me, to: member };
        let mut stream = self.0.connect(&self.0.urls(member), greeting).await.map_err(unavailable)?;
        exchange(&mut stream, &question).await.map_err(unavailable)?.1
    }
}

impl Network {
    /// Who the members are now: links to those who are new, none to those who are gone.
    pub(crate) fn update(self: &Arc<Self>, members: Vec<Member>) {
        let Some((cluster, me)) = self.store().map(Store::identity) else { return };
        // A member that was sent nothing yet knows nobody by itself, and must be able to answer.
        if members.is_empty() {
            return;
        }
        let mut links = self.links.lock();
        links.retain(|id, _| members.iter().any(|m| m.id == *id));
        for member in members.into_iter().filter(|m| m.id != me) {
            match links.get(&member.id) {
                Some(link) => link.set_urls(member.peer_urls),
                None => {
                    let greeting = Greeting { kind: Kind::Messages, cluster, from: me, to: member.id };
                    links.insert(member.id, Link::start(self, greeting, member.peer_urls));
                }
            }
        }
    }
}

/// A buffer for one write of many messages.
pub(crate) fn buffer() -> BytesMut {
    BytesMut::with_capacity(64 * 1024)
}
