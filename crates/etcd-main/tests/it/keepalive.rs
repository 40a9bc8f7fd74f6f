//! `--grpc-keepalive-*`, frame by frame: who pings too often is sent away, and who is silent is asked and given up, as by
//! etcd.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use test_support::tool;

use crate::member::{BINARY, Member, Place, SOON, clean};

const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GO_AWAY: u8 = 0x7;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 0xb];

/// A client that says what it is told to, and nothing else.
struct Client(TcpStream);

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

impl Client {
    fn connect(place: &Place) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", place.client)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut client = Client(stream);
        client.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        client.send(SETTINGS, 0, 0, &[]);
        client
    }

    /// What cannot be sent any more was cut off, which is seen by whoever reads.
    fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&[a, b, c, kind, flags, 0, 0, 0, stream], payload].concat();
        let _ = self.0.write_all(&frame);
    }

    /// Begins a call that lasts.
    fn watch(&mut self) {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/etcdserverpb.Watch/Watch"),
            (":authority", "etcd"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS, 1, &block);
    }

    /// The next frame; none at the end.
    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame { kind: head[3], flags: head[4], payload })
    }

    /// Pings so often, and waits for an answer to each; the words with which the server sends it away.
    fn ping(&mut self, count: u32, pause: Duration) -> Option<String> {
        for n in 0..count {
            self.send(PING, 0, 0, &u64::from(n).to_be_bytes());
            loop {
                match self.next()? {
                    Frame { kind: GO_AWAY, payload, .. } => {
                        assert_eq!(payload[4..8], ENHANCE_YOUR_CALM);
                        return Some(String::from_utf8_lossy(&payload[8..]).into_owned());
                    }
                    Frame { kind: PING, flags: ACK, .. } => break,
                    _ => {}
                }
            }
            // The time between two pings is what is tested.
            std::thread::sleep(pause);
        }
        // What came after the last answer.
        self.send(SETTINGS, 0, 0, &[]);
        loop {
            match self.next()? {
                Frame { kind: GO_AWAY, payload, .. } => {
                    return Some(String::from_utf8_lossy(&payload[8..]).into_owned());
                }
                Frame { kind: SETTINGS, flags: ACK, payload } if payload.is_empty() => return None,
                _ => {}
            }
        }
    }
}

fn start(program: &Path, place: &Place, flags: &[&str]) -> Member {
    Member::start(clean(program).args(place.flags("http")).args(flags))
}

fn both(check: impl Fn(&Path)) {
    check(&tool("etcd"));
    check(Path::new(BINARY));
}

#[test]
fn who_pings_too_often_is_sent_away() {
    let calm = Some("too_many_pings".to_owned());
    both(|program| {
        let place = Place::new();
        let _member = start(program, &place, &["--grpc-keepalive-min-time=100ms"]);
        // Without a call, there is nothing to keep alive.
        assert_eq!(Client::connect(&place).ping(5, Duration::ZERO), calm);
        let mut client = Client::connect(&place);
        client.watch();
        assert_eq!(client.ping(8, Duration::from_millis(150)), None);
        assert_eq!(client.ping(8, Duration::ZERO), calm);
    });
    both(|program| {
        let place = Place::new();
        let _member = start(program, &place, &[]);
        let mut client = Client::connect(&place);
        client.watch();
        assert_eq!(client.ping(8, Duration::from_millis(150)), calm, "five seconds are the default");
    });
}

#[test]
fn who_is_silent_is_asked_and_given_up() {
    both(|program| {
        let place = Place::new();
        let _member = start(program, &place, &["--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"]);
        let mut client = Client::connect(&place);
        let mut asked = 0;
        while let Some(frame) = client.next() {
            if (frame.kind, frame.flags) == (PING, 0) {
                asked += 1;
                if asked < 3 {
                    client.send(PING, ACK, 0, &frame.payload);
                }
            }
        }
        assert_eq!(asked, 3, "the third was not answered");
    });
}
