//! Asks the node's own resolvers about names that are not the cluster's.
//!
//! Each question goes out from a socket of its own, whose port is one more thing that a forger would have to guess. A
//! question of ours that comes back in shows that a resolver forwards to us: it is refused, which ends the loop.

use std::{
    collections::HashSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use parking_lot::Mutex;
use runtime::Clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use crate::{Metrics, cache::Cache, wire::MAX_PAYLOAD};

/// Time for one resolver to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Questions that wait for resolvers at once (CoreDNS's `max_concurrent`); more are refused.
const MAX_IN_FLIGHT: usize = 1000;
/// Resolvers that are read from the file (CoreDNS takes 15).
const MAX_UPSTREAMS: usize = 15;
/// Resolvers that one question is tried at.
const ATTEMPTS: usize = 3;
/// The file's time of change is looked at not more often than this.
const RELOAD: Duration = Duration::from_secs(5);
/// Bytes read of the file at most.
const MAX_FILE: u64 = 64 * 1024;

pub struct Forwarder {
    file: PathBuf,
    /// Our own addresses: a resolver there would be us.
    own: HashSet<SocketAddr>,
    upstreams: Mutex<Upstreams>,
    cache: Mutex<Cache>,
    outstanding: Mutex<HashSet<(u16, Name, RecordType)>>,
    slots: Semaphore,
    clock: Clock,
    metrics: Metrics,
}

#[derive(Default)]
struct Upstreams {
    addresses: Vec<SocketAddr>,
    checked: Option<Duration>,
    modified: Option<SystemTime>,
}

impl Forwarder {
    pub fn new(file: PathBuf, own: HashSet<SocketAddr>, clock: Clock, metrics: Metrics) -> Self {
        Forwarder {
            file,
            own,
            upstreams: Mutex::default(),
            cache: Mutex::default(),
            outstanding: Mutex::default(),
            slots: Semaphore::new(MAX_IN_FLIGHT),
            clock,
            metrics,
        }
    }

    /// Whether this question is one of ours that came back.
    pub fn is_own(&self, id: u16, query: &Query) -> bool {
        self.outstanding.lock().contains(&(id, query.name.to_lowercase(), query.query_type))
    }

    /// The answer of a resolver or of the cache; its id and question are not the client's. An error is a code to give.
    pub async fn ask(&self, query: &Query, dnssec: bool) -> Result<Message, ResponseCode> {
        let question = (query.name.to_lowercase(), query.query_type, dnssec);
        if let Some(answer) = self.cache.lock().get(&question, self.clock.monotonic()) {
            self.metrics.cache_hits.inc();
            return Ok(answer);
        }
        self.metrics.cache_misses.inc();
        let Ok(_slot) = self.slots.try_acquire() else {
            self.metrics.rejected.inc();
            return Err(ResponseCode::Refused);
        };
        let upstreams = self.upstreams();
        for upstream in upstreams.into_iter().take(ATTEMPTS) {
            let began = self.clock.monotonic();
            let result = timeout(TIMEOUT, self.exchange(upstream, query, dnssec)).await;
            let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            self.metrics.proxy_request(upstream, self.clock.monotonic() - began);
            match result {
                // These may be this resolver's own trouble: another one may know better.
                Ok(answer)
                    if matches!(answer.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused) => {}
                Ok(answer) => {
                    let mut cache = self.cache.lock();
                    cache.put(question, &answer, self.clock.monotonic());
                    self.metrics.cache_entries.set(cache.len() as i64);
                    return Ok(answer);
                }
                Err(error) => tracing::debug!(%upstream, %error, "a resolver did not answer"),
            }
        }
        Err(ResponseCode::ServFail)
    }

    async fn exchange(&self, upstream: SocketAddr, query: &Query, dnssec: bool) -> io::Result<Message> {
        let id = runtime::entropy::random_u64() as u16;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD);
        edns.set_dnssec_ok(dnssec);
        message.set_edns(edns);
        let packet = message.to_vec().map_err(io::Error::other)?;
        let key = (id, query.name.to_lowercase(), query.query_type);
        self.outstanding.lock().insert(key.clone());
        let _outstanding = Outstanding { forwarder: self, key };
        let answer = over_udp(upstream, &packet, id, query).await?;
        match answer.metadata.truncation {
            true => over_tcp(upstream, &packet, id, query).await,
            false => Ok(answer),
        }
    }

    fn upstreams(&self) -> Vec<SocketAddr> {
        let now = self.clock.monotonic();
        let mut upstreams = self.upstreams.lock();
        if upstreams.checked.is_none_or(|checked| now - checked >= RELOAD) {
            upstreams.checked = Some(now);
            let modified = fs::metadata(&self.file).and_then(|meta| meta.modified()).ok();
            if modified.is_none() || modified != upstreams.modified {
                upstreams.modified = modified;
                upstreams.addresses = self.read_file();
            }
        }
        upstreams.addresses.clone()
    }

    fn read_file(&self) -> Vec<SocketAddr> {
        let text = fs::File::open(&self.file).and_then(|file| io::read_to_string(io::Read::take(file, MAX_FILE)));
        let text = text.unwrap_or_else(|error| {
            tracing::warn!(file = %self.file.display(), %error, "other names cannot be resolved");
            String::new()
        });
        let (own, others): (Vec<_>, Vec<_>) =
            nameservers(&text).into_iter().partition(|address| self.own.contains(address));
        for address in own {
            tracing::warn!(%address, "a listed resolver is this server itself and is left out");
        }
        others
    }
}

struct Outstanding<'a> {
    forwarder: &'a Forwarder,
    key: (u16, Name, RecordType),
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.forwarder.outstanding.lock().remove(&self.key);
    }
}

async fn over_udp(upstream: SocketAddr, packet: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(packet).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What is no answer to this question may be a forgery; the true one may still come.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answers(&answer, id, query)
        {
            return Ok(answer);
        }
    }
}

async fn over_tcp(upstream: SocketAddr, packet: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    match answers(&answer, id, query) {
        true => Ok(answer),
        false => Err(io::Error::other("the answer belongs to another question")),
    }
}

fn answers(answer: &Message, id: u16, query: &Query) -> bool {
    let same = |other: &Query| other.name == query.name && other.query_type == query.query_type;
    answer.metadata.id == id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries.first().is_some_and(same)
}

/// The resolvers that a resolv.conf names.
fn nameservers(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver")
            && let Some(address) = words.next().and_then(nameserver)
            && found.len() < MAX_UPSTREAMS
        {
            found.push(address);
        }
    }
    found
}

/// An address, or as some resolvers also take it, an address with a port: `[127.0.0.1]:5353`.
fn nameserver(word: &str) -> Option<SocketAddr> {
    let plain = |text: &str| text.split('%').next()?.parse::<IpAddr>().ok();
    if let Some(address) = plain(word) {
        return Some(SocketAddr::new(address, 53));
    }
    let (address, port) = word.strip_prefix('[')?.split_once("]:")?;
    Some(SocketAddr::new(plain(address)?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_from_the_file() {
        let text = "# nameserver 1.1.1.1\nnameserver 192.0.2.1\nsearch a b\n nameserver fe80::1%eth0 \n\
                    nameserver banana\nnameserver [127.0.0.1]:5353\n";
        let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[fe80::1]:53", "127.0.0.1:5353"]);
        assert_eq!(nameservers(&"nameserver 192.0.2.1\n".repeat(50)).len(), MAX_UPSTREAMS);
    }
}
