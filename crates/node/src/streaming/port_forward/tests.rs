//! A client's transcript against a server on loopback.

use std::time::Duration;

use super::{spdy::tests::Client, *};
use tokio::net::TcpListener;

struct Peer {
    client: Client,
    to_server: mpsc::Sender<Result<Bytes, ()>>,
    from_server: mpsc::Receiver<Bytes>,
    reader: spdy::Reader,
}

fn start() -> Peer {
    let (to_server, mut incoming) = mpsc::channel(64);
    let (queue, from_server) = mpsc::channel(WRITE_QUEUE);
    let tasks = Tasks::root();
    let target = Target { pod: "web".into(), uid: "uid".into(), netns: None, tasks: tasks.clone() };
    tasks.spawn("server", async move {
        let source = futures::stream::poll_fn(move |context| incoming.poll_recv(context));
        serve(std::pin::pin!(source), queue, target).await.unwrap();
    });
    Peer { client: Client::default(), to_server, from_server, reader: spdy::Reader::default() }
}

impl Peer {
    async fn send(&self, frame: Bytes) {
        self.to_server.send(Ok(frame)).await.unwrap();
    }

    async fn open(&mut self, id: u32, kind: &str, request: &str, port: u16) {
        let port = port.to_string();
        let headers = [("streamtype", kind), ("port", port.as_str()), ("requestid", request)];
        let frame = self.client.open(id, &headers, kind == "error");
        self.send(frame).await;
        assert_eq!(self.next().await, Frame::Other, "a reply is awaited before the next stream");
    }

    async fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.reader.next().unwrap() {
                return frame;
            }
            let bytes = tokio::time::timeout(Duration::from_secs(10), self.from_server.recv()).await;
            self.reader.push(&bytes.expect("an answer in time").expect("the server goes on"));
        }
    }

    /// Everything on a stream up to its end.
    async fn read(&mut self, id: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Frame::Data { stream, data, fin } if stream == id => {
                    all.extend_from_slice(&data);
                    if fin {
                        return all;
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

/// Answers with what it was sent, after the end of it.
async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    Tasks::root().spawn("echo", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn connections_are_carried_one_after_the_other() {
    let (mut peer, port) = (start(), echo().await);
    for (id, request) in [(1, "0"), (5, "1")] {
        peer.open(id, "error", request, port).await;
        peer.open(id + 2, "data", request, port).await;
        let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        for piece in sent.chunks(32_000) {
            peer.send(spdy::data(id + 2, piece, false)).await;
        }
        peer.send(spdy::data(id + 2, b"", true)).await;
        assert!(peer.read(id + 2).await == sent, "what comes back is what was sent");
        assert_eq!(peer.read(id).await, b"");
    }
    peer.send(spdy::ping(9)).await;
    assert_eq!(peer.next().await, Frame::Ping { id: 9 });
}

#[tokio::test]
async fn a_closed_port_is_told_on_the_error_stream() {
    let mut peer = start();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    peer.open(1, "error", "0", port).await;
    peer.open(3, "data", "0", port).await;
    assert_eq!(peer.read(3).await, b"");
    let message = String::from_utf8(peer.read(1).await).unwrap();
    assert!(message.starts_with(&format!("error forwarding port {port} to pod web, uid uid: ")), "{message}");
}

#[tokio::test]
async fn a_reset_ends_the_connection() {
    let (mut peer, port) = (start(), echo().await);
    peer.open(1, "error", "0", port).await;
    peer.open(3, "data", "0", port).await;
    peer.send(spdy::reset(3, 5)).await;
    assert_eq!(peer.read(3).await, b"");
    assert_eq!(peer.read(1).await, b"");
}

#[tokio::test]
async fn unknown_and_too_many_streams_are_refused() {
    let mut peer = start();
    let frame = peer.client.open(1, &[("streamtype", "video")], false);
    peer.send(frame).await;
    assert_eq!(peer.next().await, Frame::Reset { stream: 1, status: spdy::PROTOCOL_ERROR });
    for n in 0..MAX_STREAMS as u32 {
        peer.open(3 + n * 2, "error", &n.to_string(), 80).await;
    }
    let frame = peer.client.open(9999, &[("streamtype", "error")], true);
    peer.send(frame).await;
    assert_eq!(peer.next().await, Frame::Reset { stream: 9999, status: spdy::REFUSED_STREAM });
}
