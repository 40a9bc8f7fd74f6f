//! Port-forward: SPDY streams inside a WebSocket on one side, connections inside the pod's network on the other.
//!
//! For each connection the client opens two streams with one `requestID`: `error`, on which it only listens, and `data`.

use std::{
    collections::HashMap,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt, stream::FuturesUnordered};
use nix::sched::{CloneFlags, setns};
use runtime::{CancellationToken, Tasks};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::{
    spdy::{self, Frame},
    websocket::{self, Socket},
};

pub const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// Streams of one client at once, two for each connection.
const MAX_STREAMS: usize = 512;
/// Frames that wait for a connection to take them; while they do, nothing more is read from the client.
const STREAM_QUEUE: usize = 16;
/// Frames that wait to be written to the client.
const WRITE_QUEUE: usize = 16;
/// Bytes of a connection in one frame.
const CHUNK: usize = 32 * 1024;
/// Time for a connection inside the pod to be made.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the connections go.
#[derive(Clone)]
pub struct Target {
    pub pod: String,
    pub uid: String,
    /// `None` is the host's network.
    pub netns: Option<PathBuf>,
    pub tasks: Tasks,
}

/// Serves a client until it goes.
pub async fn run(socket: Socket, target: Target) {
    let (mut sink, source) = socket.split();
    let (queue, mut waiting) = mpsc::channel::<Bytes>(WRITE_QUEUE);
    let write = async {
        while let Some(frame) = waiting.recv().await {
            sink.send(Message::Binary(frame)).await?;
        }
        sink.send(websocket::farewell()).await?;
        sink.close().await
    };
    let serve = async {
        let bytes = source.filter_map(|message| async {
            match message {
                Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                Ok(Message::Close(_)) | Err(_) => Some(Err(())),
                Ok(_) => None,
            }
        });
        if let Err(error) = serve(std::pin::pin!(bytes), queue, target).await {
            tracing::debug!(%error, "a port-forward ended");
        }
    };
    // Whichever side goes first ends the session: connections have no meaning without the client.
    tokio::select! {
        result = write => if let Err(error) = result && !matches!(error, SocketError::ConnectionClosed) {
            tracing::debug!(%error, "a port-forward's client went away");
        },
        () = serve => {}
    }
}

/// One of the client's streams.
struct Half {
    request: String,
    port: Option<u16>,
    is_data: bool,
    /// To the connection; gone once the client has finished.
    sender: Option<mpsc::Sender<Bytes>>,
    /// What the client has sent, until the connection begins.
    receiver: Option<mpsc::Receiver<Bytes>>,
    cut: CancellationToken,
}

struct Session {
    streams: HashMap<u32, Half>,
    writer: spdy::Writer,
    queue: mpsc::Sender<Bytes>,
    target: Target,
}

async fn serve(
    mut source: impl Stream<Item = Result<Bytes, ()>> + Unpin,
    queue: mpsc::Sender<Bytes>,
    target: Target,
) -> Result<(), spdy::Error> {
    let mut reader = spdy::Reader::default();
    let mut session = Session { streams: HashMap::new(), writer: spdy::Writer::default(), queue, target };
    let mut connections = FuturesUnordered::new();
    loop {
        while let Some(frame) = reader.next()? {
            let ready = match frame {
                Frame::GoAway => return Ok(()),
                frame => session.take(frame, &mut connections).await,
            };
            if let Some((data, error)) = ready {
                connections.push(session.connect(data, error));
            }
        }
        tokio::select! {
            message = source.next() => match message {
                Some(Ok(bytes)) => reader.push(&bytes),
                _ => return Ok(()),
            },
            Some((data, error)) = connections.next() => session.forget(data, error),
        }
    }
}

impl Session {
    /// Returns the two streams of a connection when both are there.
    async fn take<F>(&mut self, frame: Frame, connections: &mut FuturesUnordered<F>) -> Option<(u32, u32)>
    where
        F: Future<Output = (u32, u32)>,
    {
        match frame {
            Frame::Open { stream, headers, fin } => return self.open(stream, &headers, fin).await,
            Frame::Data { stream, data, fin } => {
                if let Some(sender) = self.streams.get(&stream).and_then(|half| half.sender.clone())
                    && !data.is_empty()
                {
                    self.deliver(sender, data, connections).await;
                }
                if fin && let Some(half) = self.streams.get_mut(&stream) {
                    half.sender = None;
                }
            }
            Frame::Reset { stream, .. } => {
                if let Some(half) = self.streams.get_mut(&stream) {
                    half.sender = None;
                    half.cut.cancel();
                }
            }
            Frame::Ping { id } => self.send(spdy::ping(id)).await,
            Frame::GoAway | Frame::Other => {}
        }
        None
    }

    /// Waits until the connection takes the bytes; meanwhile the connections go on, so that they can.
    async fn deliver<F>(&mut self, sender: mpsc::Sender<Bytes>, data: Bytes, connections: &mut FuturesUnordered<F>)
    where
        F: Future<Output = (u32, u32)>,
    {
        let sending = sender.send(data);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                // A connection that is gone does not want them.
                _ = &mut sending => return,
                Some((data, error)) = connections.next() => self.forget(data, error),
            }
        }
    }

    async fn open(&mut self, stream: u32, headers: &[(String, String)], fin: bool) -> Option<(u32, u32)> {
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let is_data = match header("streamtype") {
            Some("data") => true,
            Some("error") => false,
            _ => {
                self.send(spdy::reset(stream, spdy::PROTOCOL_ERROR)).await;
                return None;
            }
        };
        if self.streams.len() >= MAX_STREAMS || self.streams.contains_key(&stream) {
            self.send(spdy::reset(stream, spdy::REFUSED_STREAM)).await;
            return None;
        }
        let request = header("requestid").unwrap_or_default().to_owned();
        let port = header("port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
        let sender = Some(sender).filter(|_| is_data && !fin);
        let cut = CancellationToken::new();
        let other = self.streams.iter().find(|(_, half)| half.request == request && half.is_data != is_data);
        let other = other.map(|(id, _)| *id);
        self.streams.insert(stream, Half { request, port, is_data, sender, receiver: Some(receiver), cut });
        let reply = self.writer.reply(stream);
        self.send(reply).await;
        other.map(|other| if is_data { (stream, other) } else { (other, stream) })
    }

    /// Carries a connection from its beginning to its end.
    fn connect(&mut self, data: u32, error: u32) -> impl Future<Output = (u32, u32)> + use<> {
        let half = self.streams.get_mut(&data);
        let (port, receiver, cut) = match half {
            Some(half) => (half.port, half.receiver.take(), half.cut.clone()),
            None => (None, None, CancellationToken::new()),
        };
        let (queue, target) = (self.queue.clone(), self.target.clone());
        async move {
            let carried = async {
                let port = port.ok_or_else(|| "the port header is missing or not a port".to_owned())?;
                let stream = dial(&target, port).await.map_err(|error| {
                    format!("error forwarding port {port} to pod {}, uid {}: {error}", target.pod, target.uid)
                })?;
                if let Some(receiver) = receiver {
                    copy(stream, receiver, &queue, data).await;
                }
                Ok::<_, String>(())
            };
            let result = tokio::select! {
                result = carried => result,
                () = cut.cancelled() => Ok(()),
            };
            let message = result.err().unwrap_or_default();
            // The data stream ends first: a client that sees the error's end looks no further. Errors of sending mean
            // that the client has gone.
            let _ = queue.send(spdy::data(data, b"", true)).await;
            let _ = queue.send(spdy::data(error, message.as_bytes(), true)).await;
            (data, error)
        }
    }

    fn forget(&mut self, data: u32, error: u32) {
        self.streams.remove(&data);
        self.streams.remove(&error);
    }

    async fn send(&self, frame: Bytes) {
        // The writer ends the session when the client has gone.
        let _ = self.queue.send(frame).await;
    }
}

/// Moves bytes until the pod has finished; what the client still sends then has no reader.
async fn copy(stream: TcpStream, mut receiver: mpsc::Receiver<Bytes>, queue: &mpsc::Sender<Bytes>, id: u32) {
    let (mut from_pod, mut to_pod) = stream.into_split();
    let up = async {
        while let Some(bytes) = receiver.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to_pod.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_pod.read(&mut buffer).await {
            if queue.send(spdy::data(id, &buffer[..length], false)).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(up, down);
    tokio::select! {
        () = &mut down => {}
        () = &mut up => down.await,
    }
}

/// Connects to the pod's own loopback, IPv4 first.
async fn dial(target: &Target, port: u16) -> io::Result<TcpStream> {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses = addresses.map(|ip| SocketAddr::new(ip, port));
    let Some(netns) = target.netns.clone() else {
        return tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(addresses.as_slice())).await?;
    };
    let (sender, receiver) = oneshot::channel();
    // A thread that has entered another namespace must not serve anybody else afterwards: it lives for this only.
    target.tasks.spawn_thread("dial-pod", move || {
        // Whoever asked may have gone.
        let _ = sender.send(dial_inside(&netns, addresses));
    });
    let stream = receiver.await.map_err(|_| io::Error::other("the node is stopping"))??;
    TcpStream::from_std(stream)
}

fn dial_inside(netns: &std::path::Path, addresses: [SocketAddr; 2]) -> io::Result<std::net::TcpStream> {
    setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    let [first, second] = addresses;
    let connect = |address: SocketAddr| {
        let connected = std::net::TcpStream::connect_timeout(&address, DIAL_TIMEOUT);
        let family = if address.is_ipv4() { "tcp4" } else { "tcp6" };
        connected.map_err(|error| {
            io::Error::new(error.kind(), format!("dial {family} {address}: connect: {}", plain(&error)))
        })
    };
    // The first failure says more: most servers listen on IPv4.
    let stream = connect(first).or_else(|error| connect(second).map_err(|_| error))?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The text without Rust's `(os error 111)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests;
