//! The server on loopback: cluster names from an API in memory, other names from a resolver that the test plays.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::Informers;
use dns::{Handle, Options};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use runtime::{Clock, Tasks};
use serde_json::json;
use test_api::Api;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    api: Api,
    dns: Handle,
    tasks: Tasks,
    metrics: dns::Metrics,
    _folder: tempfile::TempDir,
}

async fn world(resolv_conf: impl FnOnce(&Path) -> PathBuf) -> World {
    let (api, tasks, metrics) = (Api::new(), Tasks::root(), dns::Metrics::default());
    let folder = tempfile::tempdir().unwrap();
    api.put("namespaces", json!({"metadata": {"name": "default"}}));
    let options = Options {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        zone: "cluster.local".to_owned(),
        address: Some("10.43.0.10".parse().unwrap()),
        reverse: vec!["10.43.0.0/16".parse().unwrap()],
        resolv_conf: resolv_conf(folder.path()),
        informers: Informers::new(api.client(), tasks.child("informers")),
        metrics: metrics.clone(),
        clock: Clock::system(),
        tasks: tasks.child("dns"),
    };
    let dns = dns::start(options).await.unwrap();
    dns.synced().await;
    World { api, dns, tasks, metrics, _folder: folder }
}

fn listing(resolvers: &[SocketAddr]) -> impl FnOnce(&Path) -> PathBuf {
    let text: String = resolvers.iter().map(|a| format!("nameserver [{}]:{}\n", a.ip(), a.port())).collect();
    move |folder| {
        let path = folder.join("resolv.conf");
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn over_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer in time").unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn over_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    let bytes = message.to_vec().unwrap();
    stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), bytes.as_slice()].concat()).await.unwrap();
    let length = tokio::time::timeout(PATIENCE, stream.read_u16()).await.expect("an answer in time").unwrap();
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    let mut found: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    found.sort();
    found
}

/// A resolver that knows `known.example` (long by TCP only) and counts what it is asked.
async fn resolver(tasks: &Tasks) -> (SocketAddr, Arc<AtomicUsize>) {
    let (datagrams, streams) = one_port().await;
    let address = datagrams.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tasks.spawn("resolver-udp", async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = datagrams.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let query = Message::from_vec(&buffer[..length]).unwrap();
            // A forged answer first: one with another id must not be taken.
            let mut forged = known(&query, 1, "203.0.113.66");
            forged.metadata.id = query.metadata.id.wrapping_add(1);
            datagrams.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
            let mut answer = known(&query, 1, "192.0.2.1");
            if query.queries[0].name.to_ascii().starts_with("long.") {
                answer.answers.clear();
                answer.metadata.truncation = true;
            }
            datagrams.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    tasks.spawn("resolver-tcp", async move {
        loop {
            let (mut stream, _) = streams.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut buffer = vec![0; usize::from(length)];
            stream.read_exact(&mut buffer).await.unwrap();
            let bytes = known(&Message::from_vec(&buffer).unwrap(), 100, "192.0.2.2").to_vec().unwrap();
            stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), bytes.as_slice()].concat()).await.unwrap();
        }
    });
    (address, asked)
}

/// A port that is free for both protocols: one that the kernel gives for UDP may be somebody's for TCP.
async fn one_port() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(streams) = TcpListener::bind(datagrams.local_addr().unwrap()).await {
            return (datagrams, streams);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

fn known(query: &Message, count: usize, address: &str) -> Message {
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.queries = query.queries.clone();
    let record = Record::from_rdata(query.queries[0].name.clone(), 60, RData::A(A(address.parse().unwrap())));
    answer.answers = vec![record; count];
    answer
}

#[tokio::test]
async fn cluster_names_follow_the_api() {
    let world = world(listing(&[])).await;
    let server = world.dns.addresses()[0];
    let name = "web.default.svc.cluster.local.";
    let answer = over_udp(server, &question(name, RecordType::A)).await;
    assert_eq!((answer.metadata.response_code, answer.authorities.len()), (ResponseCode::NXDomain, 1));

    let spec = json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80}]});
    world.api.put("services", json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}));
    let clock = Clock::system();
    let deadline = clock.monotonic() + PATIENCE;
    let answer = loop {
        let answer = over_udp(server, &question(name, RecordType::A)).await;
        if !answer.answers.is_empty() {
            break answer;
        }
        assert!(clock.monotonic() < deadline, "the service has no name yet");
    };
    assert_eq!(addresses(&answer), ["10.43.0.9"]);
    assert_eq!((answer.answers[0].ttl, answer.metadata.authoritative, answer.metadata.id), (5, true, 77));

    // Several questions over one connection.
    let mut stream = TcpStream::connect(server).await.unwrap();
    for (kind, expected) in [(RecordType::A, vec!["10.43.0.9"]), (RecordType::AAAA, vec![])] {
        assert_eq!(addresses(&over_tcp(&mut stream, &question(name, kind)).await), expected);
    }
    // Noise is survived.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&[0xff; 40], server).await.unwrap();
    socket.send_to(&[], server).await.unwrap();
    assert_eq!(addresses(&over_udp(server, &question(name, RecordType::A)).await), ["10.43.0.9"]);
    world.tasks.stop();
}

#[tokio::test]
async fn other_names_are_asked_elsewhere_and_kept() {
    let tasks = Tasks::root();
    let (upstream, asked) = resolver(&tasks).await;
    let world = world(listing(&[upstream])).await;
    let server = world.dns.addresses()[0];
    for _ in 0..3 {
        let answer = over_udp(server, &question("known.example.", RecordType::A)).await;
        assert_eq!(addresses(&answer), ["192.0.2.1"]);
        assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the second and third come from the cache");
    assert_eq!(world.metrics.cache_hits.get(), 2);

    // What does not fit is fetched over TCP, and cut again for a client that takes little.
    let mut long = question("long.example.", RecordType::A);
    let short = over_udp(server, &long).await;
    assert!(short.metadata.truncation && short.answers.len() < 100);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    long.set_edns(edns);
    assert!(over_udp(server, &long).await.edns.is_some());
    let mut stream = TcpStream::connect(server).await.unwrap();
    assert_eq!(over_tcp(&mut stream, &long).await.answers.len(), 100);

    // An external name brings its target's addresses along.
    let spec = json!({"type": "ExternalName", "externalName": "known.example"});
    world.api.put("services", json!({"metadata": {"name": "out", "namespace": "default"}, "spec": spec}));
    let clock = Clock::system();
    let deadline = clock.monotonic() + PATIENCE;
    loop {
        let answer = over_udp(server, &question("out.default.svc.cluster.local.", RecordType::A)).await;
        if !answer.answers.is_empty() {
            assert_eq!(addresses(&answer), ["192.0.2.1", "known.example."]);
            break;
        }
        assert!(clock.monotonic() < deadline, "the external name is not there yet");
    }
    tasks.stop();
    world.tasks.stop();
}

#[tokio::test]
async fn without_resolvers_and_in_a_loop_the_client_gets_an_error() {
    let nobody = world(listing(&[])).await;
    let answer = over_udp(nobody.dns.addresses()[0], &question("known.example.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    nobody.tasks.stop();

    // A resolver that sends everything back to the server that asked.
    let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // The server leaves out resolvers at its own address: the relay has another one.
    let relay_address = relay.local_addr().unwrap();
    let outer = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let world = world(listing(&[outer.local_addr().unwrap()])).await;
    let (server, tasks) = (world.dns.addresses()[0], Tasks::root());
    assert_ne!(relay_address, server);
    tasks.spawn("relay", async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = outer.recv_from(&mut buffer).await.unwrap();
            relay.send_to(&buffer[..length], server).await.unwrap();
            let (length, _) = relay.recv_from(&mut buffer).await.unwrap();
            outer.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let answer = over_udp(server, &question("known.example.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    tasks.stop();
    world.tasks.stop();
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (api, tasks) = (Api::new(), Tasks::root());
    let options = Options {
        listen: vec![taken.local_addr().unwrap()],
        zone: "cluster.local".to_owned(),
        address: None,
        reverse: Vec::new(),
        resolv_conf: "/nonexistent".into(),
        informers: Informers::new(api.client(), tasks.clone()),
        metrics: dns::Metrics::default(),
        clock: Clock::system(),
        tasks: tasks.clone(),
    };
    let error = dns::start(options).await.err().unwrap();
    assert_eq!(error.to_string(), format!("listen for DNS on {}", taken.local_addr().unwrap()));
    tasks.stop();
}
