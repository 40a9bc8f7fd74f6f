//! What is served: the methods that are registered here, and for everything else a fallback.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::Extensions;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::timeout,
};

use crate::{
    Call, Code, Requests, Sender, Status,
    connection::{Connection, Error},
    fallback::{self, Fallback, FromTower, ResponseBody},
    frame::PREFACE,
    http1, message,
};

/// The largest message where nothing else is said, as in gRPC for Go.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Calls at one time on one connection where nothing else is said.
const DEFAULT_MAX_STREAMS: u32 = 4096;
/// How long the first bytes of a connection may take.
const PREFACE_LIMIT: Duration = Duration::from_secs(10);

/// One answer in the making.
pub type Unary<R> = Pin<Box<dyn Future<Output = Result<R, Status>> + Send>>;
/// A call that sends its messages by itself, in the making.
pub type Streaming = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

type UnaryHandler<R> = Box<dyn Fn(Call, Bytes) -> Unary<R> + Send + Sync>;
type StreamingHandler = Box<dyn Fn(Call, Requests, Sender) -> Streaming + Send + Sync>;

pub(crate) enum Handler<R> {
    Unary(UnaryHandler<R>),
    Streaming(StreamingHandler),
}

/// Is told of the calls of registered methods. `method` counts them in the order of their registration.
pub trait Observer: Send + Sync + 'static {
    /// Returns what it wants to be told again when the call ends: when it began, if that matters.
    fn started(&self, method: usize, call: &Call) -> Option<Duration>;
    fn ended(&self, method: usize, code: Code, started: Option<Duration>);
    /// Bytes of requests have come, or bytes of answers go out, as they are framed.
    fn moved(&self, received: usize, sent: usize);
}

/// The registered methods. `R` is what unary ones answer with.
pub struct Methods<R> {
    pub(crate) handlers: Vec<Handler<R>>,
    by_path: HashMap<&'static [u8], usize>,
}

impl<R> Default for Methods<R> {
    fn default() -> Self {
        Methods { handlers: Vec::new(), by_path: HashMap::new() }
    }
}

impl<R> Methods<R> {
    /// A method of one request and one answer. The message is handed over as it lies in the connection's buffer: who
    /// keeps a part of it for long copies that.
    pub fn unary(
        mut self,
        path: &'static str,
        handler: impl Fn(Call, Bytes) -> Unary<R> + Send + Sync + 'static,
    ) -> Self {
        self.add(path, Handler::Unary(Box::new(handler)));
        self
    }

    /// A method with a stream of requests, of answers or of both.
    pub fn streaming(
        mut self,
        path: &'static str,
        handler: impl Fn(Call, Requests, Sender) -> Streaming + Send + Sync + 'static,
    ) -> Self {
        self.add(path, Handler::Streaming(Box::new(handler)));
        self
    }

    fn add(&mut self, path: &'static str, handler: Handler<R>) {
        self.by_path.insert(path.as_bytes(), self.handlers.len());
        self.handlers.push(handler);
    }

    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        self.by_path.get(path).copied()
    }
}

/// How both sides learn that the other is there, as gRPC's servers in Go have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// A client that pings more often is sent away, unless it is sent something in between.
    pub min_time: Duration,
    /// How long a client may be silent before it is pinged. Zero turns it off, as does a timeout of zero.
    pub interval: Duration,
    /// How long it then has to answer.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    /// Go's, with etcd's shortest time between pings.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        KeepAlive { min_time: seconds(5), interval: seconds(7200), timeout: seconds(20) }
    }
}

pub(crate) struct Inner<R> {
    pub methods: Methods<R>,
    pub fallback: Option<Box<dyn Fallback>>,
    pub observer: Option<Arc<dyn Observer>>,
    pub max_message_bytes: usize,
    pub max_streams: u32,
    pub keep_alive: KeepAlive,
}

/// What is served on any number of connections. A clone is the same server.
pub struct Server<R> {
    inner: Arc<Inner<R>>,
}

impl<R> Clone for Server<R> {
    fn clone(&self) -> Self {
        Server { inner: self.inner.clone() }
    }
}

/// Puts a server together.
pub struct Builder<R>(Inner<R>);

impl<R: message::Encode + Send + 'static> Builder<R> {
    /// Who answers what no registered method does, and HTTP/1.
    pub fn fallback<S, B>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<fallback::Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<std::convert::Infallible>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.0.fallback = Some(Box::new(FromTower(service)));
        self
    }

    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.0.observer = Some(observer);
        self
    }

    /// The largest message that is taken from a client.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.0.max_message_bytes = bytes;
        self
    }

    /// Calls at one time on one connection; never more than the bound that holds by itself.
    pub fn max_streams(mut self, streams: u32) -> Self {
        self.0.max_streams = streams.min(DEFAULT_MAX_STREAMS);
        self
    }

    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.0.keep_alive = keep_alive;
        self
    }

    pub fn build(self) -> Server<R> {
        Server { inner: Arc::new(self.0) }
    }
}

impl<R: message::Encode + Send + 'static> Server<R> {
    pub fn builder(methods: Methods<R>) -> Builder<R> {
        Builder(Inner {
            methods,
            fallback: None,
            observer: None,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            max_streams: DEFAULT_MAX_STREAMS,
            keep_alive: KeepAlive::default(),
        })
    }

    /// Serves one connection until the peer closes it, or until `stop` and then the end of the calls that run.
    /// Handlers find `extensions` in their [`Call`], and the fallback in its requests.
    pub async fn serve<IO>(
        &self,
        mut io: IO,
        extensions: Arc<Extensions>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), Error>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut first = BytesMut::with_capacity(crate::connection::MIN_READ_BYTES);
        let preface = async {
            while PREFACE.starts_with(&first[..first.len().min(PREFACE.len())]) && first.len() < PREFACE.len() {
                if io.read_buf(&mut first).await? == 0 {
                    return Ok::<_, std::io::Error>(false);
                }
            }
            Ok(first.starts_with(PREFACE))
        };
        let mut stop = Box::pin(stop);
        let http2 = tokio::select! {
            found = timeout(PREFACE_LIMIT, preface) => found.map_err(|_| Error::Silent)??,
            () = &mut stop => return Ok(()),
        };
        if http2 {
            let connection = Connection::new(io, self.inner.clone(), extensions, first, stop);
            return tokio::task::unconstrained(connection).await;
        }
        match &self.inner.fallback {
            Some(_) if !first.is_empty() => http1::serve(io, first, self.clone(), extensions, stop).await,
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn into_inner(self) -> Arc<Inner<R>> {
        self.inner
    }

    pub(crate) async fn fall_back(&self, request: http::Request<fallback::Body>) -> http::Response<ResponseBody> {
        match &self.inner.fallback {
            Some(fallback) => fallback.call(request).await,
            None => fallback::not_found(),
        }
    }
}
