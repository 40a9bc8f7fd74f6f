//! The sockets: datagrams and streams in, answers out.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::RecordType,
};
use parking_lot::RwLock;
use runtime::{Clock, Tasks};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    Metrics,
    answer::Zone,
    forward::Forwarder,
    index::Index,
    wire::{self, Request},
};

/// TCP connections at once on one address; further ones wait in the kernel's queue.
const MAX_STREAMS: usize = 256;
/// A stream that asks nothing for this long is closed (RFC 7766 leaves it to the server; CoreDNS takes 10 s).
const IDLE: Duration = Duration::from_secs(10);
/// Datagrams that are worked on beside the reading task at once; each waits for a resolver. More are dropped, as a full
/// socket buffer would drop them.
const MAX_PENDING: usize = 2048;
/// The longest message that a stream's length prefix can announce.
const MAX_STREAM_MESSAGE: usize = 65_535;
/// Ports tried for one that is free for UDP and TCP alike, when the choice is ours.
const BIND_ATTEMPTS: usize = 16;

/// A bound address.
pub struct Sockets {
    pub address: SocketAddr,
    datagrams: UdpSocket,
    streams: TcpListener,
}

pub async fn bind(address: SocketAddr) -> io::Result<Sockets> {
    let mut attempt = 1;
    loop {
        let datagrams = UdpSocket::bind(address).await?;
        let bound = datagrams.local_addr()?;
        match TcpListener::bind(bound).await {
            Ok(streams) => return Ok(Sockets { address: bound, datagrams, streams }),
            Err(_) if address.port() == 0 && attempt < BIND_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Everything that answering takes; a clone is cheap.
#[derive(Clone)]
pub struct Server {
    pub zone: Arc<Zone>,
    pub index: Arc<RwLock<Index>>,
    pub synced: watch::Receiver<bool>,
    pub forwarder: Arc<Forwarder>,
    pub metrics: Metrics,
    pub clock: Clock,
    pub tasks: Tasks,
}

impl Server {
    /// Begins to answer on an address.
    pub fn serve(&self, sockets: Sockets) {
        self.tasks.spawn("udp", self.clone().serve_datagrams(Arc::new(sockets.datagrams)));
        self.tasks.spawn("tcp", self.clone().serve_streams(sockets.streams));
    }

    async fn serve_datagrams(self, socket: Arc<UdpSocket>) {
        let pending = Arc::new(Semaphore::new(MAX_PENDING));
        let mut buffer = vec![0; MAX_STREAM_MESSAGE];
        loop {
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // Linux reports here that an earlier answer found nobody; the socket is fine.
                    tracing::debug!(%error, "a datagram could not be received");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            match self.begin(&buffer[..length], "udp") {
                Step::Nothing => {}
                Step::Answer(request, response) => send(&socket, from, &request, response).await,
                Step::Forward(request, query) => {
                    let Ok(permit) = pending.clone().try_acquire_owned() else { continue };
                    let (server, socket) = (self.clone(), socket.clone());
                    self.tasks.spawn("forward", async move {
                        let response = server.forward(&request, query).await;
                        send(&socket, from, &request, response).await;
                        drop(permit);
                    });
                }
            }
        }
    }

    async fn serve_streams(self, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(MAX_STREAMS));
        loop {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would only burn the CPU.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let server = self.clone();
            self.tasks.spawn("stream", async move {
                if let Err(error) = server.serve_stream(stream).await {
                    tracing::debug!(%error, "a connection ended early");
                }
                drop(slot);
            });
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let Ok(length) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
            let length = match length {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => usize::from(other?),
            };
            buffer.resize(length, 0);
            timeout(IDLE, stream.read_exact(&mut buffer)).await??;
            let response = match self.begin(&buffer, "tcp") {
                Step::Nothing => return Ok(()),
                Step::Answer(_, response) => response,
                Step::Forward(request, query) => self.forward(&request, query).await,
            };
            let Some(bytes) = wire::encode(response, MAX_STREAM_MESSAGE) else { return Ok(()) };
            let prefix = (bytes.len() as u16).to_be_bytes();
            timeout(IDLE, stream.write_all(&[&prefix, bytes.as_slice()].concat())).await??;
        }
    }

    /// Does what needs no waiting.
    fn begin(&self, packet: &[u8], transport: &'static str) -> Step {
        let began = self.clock.monotonic();
        let (request, query) = match wire::parse(packet) {
            Request::Ignored => return Step::Nothing,
            Request::Refused(request, code) => {
                let response = wire::response_to(&request, code);
                self.count(&response, ".");
                return Step::Answer(request, response);
            }
            Request::Question(request, query) => (request, query),
        };
        let own = self.zone.contains(&query.name);
        let labels = vec![
            ("zone", if own { self.zone.label() } else { ".".to_owned() }),
            ("proto", transport.to_owned()),
            ("type", kind_label(query.query_type).to_owned()),
        ];
        self.metrics.requests.get_or_create(&labels).inc();
        if !own {
            if self.forwarder.is_own(request.metadata.id, &query) {
                tracing::warn!(name = %query.name, "a resolver forwards to this server: the loop is cut");
                let response = wire::response_to(&request, ResponseCode::Refused);
                self.count(&response, ".");
                return Step::Answer(request, response);
            }
            return Step::Forward(request, query);
        }
        if !*self.synced.borrow() {
            let response = wire::response_to(&request, ResponseCode::ServFail);
            self.count(&response, &self.zone.label());
            return Step::Answer(request, response);
        }
        let answer = self.zone.answer(&self.index.read(), &query.name, query.query_type);
        let mut response = wire::response_to(&request, answer.code.into());
        response.metadata.authoritative = true;
        response.answers = answer.answers;
        response.authorities = answer.authorities;
        response.additionals = answer.additionals;
        rotate(&mut response, request.metadata.id);
        if let Some(target) = answer.chase {
            return self.chase(request, response, Query::query(target, query.query_type));
        }
        self.count(&response, &self.zone.label());
        self.metrics.request_seconds.observe((self.clock.monotonic() - began).as_secs_f64());
        Step::Answer(request, response)
    }

    /// An external name that is one of our own is answered at once, others by the resolvers.
    fn chase(&self, request: Message, mut response: Message, target: Query) -> Step {
        if !self.zone.contains(&target.name) {
            return Step::Forward(request, target);
        }
        response.answers.extend(self.zone.answer(&self.index.read(), &target.name, target.query_type).answers);
        self.count(&response, &self.zone.label());
        Step::Answer(request, response)
    }

    /// Asks the resolvers. Where `query` is not what the client asked, it is the target of an external name.
    async fn forward(&self, request: &Message, query: Query) -> Message {
        let began = self.clock.monotonic();
        let dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let asked = request.queries.first().filter(|asked| asked.name != query.name);
        let mut response = match self.forwarder.ask(&query, dnssec).await {
            Ok(answer) => {
                let mut response = wire::response_to(request, answer.metadata.response_code);
                response.metadata.authentic_data = answer.metadata.authentic_data;
                response.answers = answer.answers;
                response.authorities = answer.authorities;
                response.additionals = answer.additionals;
                response
            }
            Err(code) => wire::response_to(request, code),
        };
        if let Some(asked) = asked {
            let alias = self.zone.answer(&self.index.read(), &asked.name, RecordType::CNAME).answers;
            response.answers.splice(0..0, alias);
        }
        self.count(&response, ".");
        self.metrics.request_seconds.observe((self.clock.monotonic() - began).as_secs_f64());
        response
    }

    fn count(&self, response: &Message, zone: &str) {
        let code = response.metadata.response_code;
        let labels = vec![("zone", zone.to_owned()), ("rcode", rcode_label(code).to_owned())];
        self.metrics.responses.get_or_create(&labels).inc();
    }
}

enum Step {
    Nothing,
    Answer(Message, Message),
    Forward(Message, Query),
}

async fn send(socket: &UdpSocket, to: SocketAddr, request: &Message, response: Message) {
    let Some(bytes) = wire::encode(response, wire::datagram_limit(request)) else { return };
    if let Err(error) = socket.send_to(&bytes, to).await {
        tracing::debug!(%to, %error, "an answer could not be sent");
    }
}

/// Many clients take the first address: each answer begins with another one.
fn rotate(response: &mut Message, by: u16) {
    if !response.answers.is_empty() {
        let by = usize::from(by) % response.answers.len();
        response.answers.rotate_left(by);
    }
}

/// The types that are told apart; a client must not be able to invent labels.
fn kind_label(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::CNAME => "CNAME",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::TXT => "TXT",
        RecordType::HTTPS => "HTTPS",
        _ => "other",
    }
}

fn rcode_label(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::BADVERS | ResponseCode::BADSIG => "BADVERS",
        _ => "other",
    }
}
