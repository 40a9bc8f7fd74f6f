//! The engine as frames see it: a few frames in, what comes out in words; and anything at all in, without harm.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{Methods, Server, hpack::literal};

/// Echoes at once, never, or as a stream.
fn methods() -> Methods<Bytes> {
    Methods::default()
        .unary("/t/Echo", |_, message| Box::pin(async { Ok(message) }))
        .unary("/t/Never", |_, _| Box::pin(std::future::pending()))
        .streaming("/t/Stream", |_, mut requests, sender| {
            Box::pin(async move {
                while let Some(message) = requests.next().await? {
                    let _ = sender.send(&message).await;
                }
                Ok(())
            })
        })
}

fn engine() -> Engine<Bytes> {
    let inner = Server::builder(methods()).max_message_bytes(100_000).max_streams(8).build().into_inner();
    let mut engine = Engine::new(inner, Arc::default(), BytesMut::new());
    engine.output = Rope::default();
    engine
}

/// A connection that has begun.
fn begun() -> Engine<Bytes> {
    let mut engine = engine();
    engine.input.extend_from_slice(frame::PREFACE);
    frame::put_settings(&[], &mut engine.input);
    engine.turn();
    assert_eq!(told(&mut engine), "settings ack");
    engine
}

fn request(path: &str, more: &[(&str, &str)]) -> BytesMut {
    let mut block = BytesMut::new();
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")];
    for (name, value) in fields.iter().chain(more) {
        literal(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

fn headers(engine: &mut Engine<Bytes>, stream: u32, path: &str, end: bool) {
    frame::put_headers(&request(path, &[]), end, stream, 16_384, &mut engine.input);
}

fn data(engine: &mut Engine<Bytes>, stream: u32, payload: &[u8], end: bool) {
    frame::put_head(payload.len(), 0, u8::from(end), stream, &mut engine.input);
    engine.input.put_slice(payload);
}

/// A message with its prefix.
fn message(len: usize) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&(len as u32).to_be_bytes());
    out.resize(5 + len, b'x');
    out
}

/// What the engine says after its turns.
fn answer(engine: &mut Engine<Bytes>) -> String {
    while engine.turn() {}
    told(engine)
}

/// Takes the output and tells its frames in words.
fn told(engine: &mut Engine<Bytes>) -> String {
    let bytes = std::mem::take(&mut engine.output).to_bytes();
    let (mut rest, mut words) = (&bytes[..], Vec::new());
    while let Some(head) = frame::head(rest) {
        let (payload, others) = rest[frame::HEAD_BYTES..].split_at(head.len);
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let end =
            if matches!(head.kind, frame::Kind::Data | frame::Kind::Headers) && head.has(1) { " end" } else { "" };
        let stream = head.stream;
        words.push(match head.kind {
            frame::Kind::Data => format!("data {stream} {}{end}", head.len),
            frame::Kind::Headers => format!("headers {stream}{end}"),
            frame::Kind::ResetStream => format!("reset {stream} {}", number(payload)),
            frame::Kind::Settings => "settings ack".to_owned(),
            frame::Kind::Ping => if head.has(1) { "ping ack" } else { "ping" }.to_owned(),
            frame::Kind::GoAway => {
                let words = format!("goaway {} {}", number(&payload[..4]), number(&payload[4..8]));
                format!("{words} {}", String::from_utf8_lossy(&payload[8..])).trim_end().to_owned()
            }
            frame::Kind::WindowUpdate => format!("window {stream} {}", number(payload)),
            other => format!("{other:?}"),
        });
        rest = others;
    }
    assert!(rest.is_empty());
    words.join(", ")
}

#[test]
fn calls_in_frames() {
    let mut engine = begun();
    headers(&mut engine, 1, "/t/Echo", false);
    data(&mut engine, 1, &message(3), true);
    headers(&mut engine, 3, "/t/Echo", false);
    data(&mut engine, 3, &message(3)[..4], false);
    assert_eq!(answer(&mut engine), "headers 1, data 1 8, headers 1 end");
    data(&mut engine, 3, &message(3)[4..], true);
    assert_eq!(answer(&mut engine), "headers 3, data 3 8, headers 3 end");
    headers(&mut engine, 5, "/t/Nothing", false);
    assert_eq!(answer(&mut engine), "headers 5 end, reset 5 0");
    data(&mut engine, 5, &message(3), true);
    assert_eq!(answer(&mut engine), "");
    headers(&mut engine, 7, "/t/Stream", false);
    data(&mut engine, 7, &message(3), false);
    assert_eq!(answer(&mut engine), "headers 7, data 7 8");
    data(&mut engine, 7, &[message(1), message(2)].concat(), true);
    assert_eq!(answer(&mut engine), "data 7 13, headers 7 end");
    // Too large by its prefix alone.
    headers(&mut engine, 9, "/t/Echo", false);
    data(&mut engine, 9, &message(100_001)[..9], false);
    assert_eq!(answer(&mut engine), "headers 9 end, reset 9 0");
    assert_eq!((engine.streams.len(), engine.held), (0, 0));
}

#[test]
fn windows_hold_back_their_own_stream_only() {
    let mut engine = begun();
    headers(&mut engine, 1, "/t/Echo", false);
    for part in message(70_000).chunks(16_000) {
        data(&mut engine, 1, part, false);
    }
    data(&mut engine, 1, &[], true);
    // 65,535 bytes are the connection's window.
    assert_eq!(answer(&mut engine), "headers 1, data 1 16384, data 1 16384, data 1 16384, data 1 16383");
    frame::put_window_update(0, 1000, &mut engine.input);
    assert_eq!(answer(&mut engine), "", "the stream's own window is as empty");
    headers(&mut engine, 3, "/t/Echo", false);
    data(&mut engine, 3, &message(3), true);
    assert_eq!(answer(&mut engine), "headers 3, data 3 8, headers 3 end");
    frame::put_window_update(1, 10_000, &mut engine.input);
    assert_eq!(answer(&mut engine), "data 1 992");
    frame::put_window_update(0, 10_000, &mut engine.input);
    assert_eq!(answer(&mut engine), "data 1 3478, headers 1 end");
}

#[test]
fn a_reset_ends_the_call_and_a_drain_waits_for_the_others() {
    let mut engine = begun();
    for stream in [1, 3] {
        headers(&mut engine, stream, "/t/Never", false);
        data(&mut engine, stream, &message(0), true);
    }
    headers(&mut engine, 5, "/t/Stream", false);
    assert_eq!(answer(&mut engine), "headers 5");
    frame::put_reset(1, Reason::Cancel, &mut engine.input);
    frame::put_reset(3, Reason::Cancel, &mut engine.input);
    assert_eq!(answer(&mut engine), "");
    engine.drain();
    headers(&mut engine, 7, "/t/Echo", true);
    assert_eq!(answer(&mut engine), "goaway 5 0, reset 7 7");
    assert!(!engine.is_over());
    data(&mut engine, 5, &[], true);
    assert_eq!(answer(&mut engine), "headers 5 end");
    assert!(engine.is_over());
}

/// Frames by hand on a connection that has begun with stream 1 open and stream 3 over, and the answer.
fn check(what: &str, expected: &str, put: impl FnOnce(&mut BytesMut)) {
    let mut engine = begun();
    headers(&mut engine, 1, "/t/Stream", false);
    headers(&mut engine, 3, "/t/Echo", false);
    data(&mut engine, 3, &message(0), true);
    assert_eq!(answer(&mut engine), "headers 1, headers 3, data 3 5, headers 3 end");
    put(&mut engine.input);
    assert_eq!(answer(&mut engine), expected, "{what}");
}

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> impl FnOnce(&mut BytesMut) {
    move |into| {
        frame::put_head(payload.len(), kind, flags, stream, into);
        into.put_slice(payload);
    }
}

#[test]
fn every_breach_has_its_code() {
    let long = vec![0; 16_385];
    check("data on stream 0", "goaway 3 1", raw(0, 0, 0, &[]));
    check("data on an idle stream", "goaway 3 1", raw(0, 0, 5, &[]));
    check("data on a closed stream", "reset 3 5", raw(0, 0, 3, &[1]));
    check("padding past the end", "goaway 3 1", raw(0, 8, 1, &[9, 0]));
    check("a frame too large", "goaway 3 6", raw(0, 0, 1, &long));
    check("headers on stream 0", "goaway 3 1", raw(1, 4, 0, &[]));
    check("headers on an even stream", "goaway 3 1", raw(1, 4, 6, &[]));
    check("headers of a closed stream", "goaway 3 5", raw(1, 5, 3, &[]));
    check("trailers that end nothing", "reset 1 1", raw(1, 4, 1, &[]));
    check("no HPACK", "goaway 5 9", raw(1, 4, 5, &[0x80]));
    check("no path", "reset 5 1", raw(1, 5, 5, &[0x83, 0x86]));
    check("another frame within a block", "goaway 3 1", |into| {
        raw(1, 0, 5, &[0x83])(into);
        raw(0, 0, 1, &[])(into);
    });
    check("a continuation of nothing", "goaway 3 1", raw(9, 4, 1, &[]));
    check("a flood of continuations", "goaway 3 11", |into| {
        raw(1, 0, 5, &[0x83])(into);
        (0..20).for_each(|_| raw(9, 0, 5, &[])(into));
    });
    check("a short reset", "goaway 3 6", raw(3, 0, 1, &[0]));
    check("a reset of an idle stream", "goaway 3 1", raw(3, 0, 9, &[0; 4]));
    check("settings on a stream", "goaway 3 1", raw(4, 0, 1, &[]));
    check("settings cut short", "goaway 3 6", raw(4, 0, 0, &[0; 5]));
    check("a window too large by settings", "goaway 3 3", raw(4, 0, 0, &[0, 4, 0xff, 0, 0, 0]));
    check("a frame size too small", "goaway 3 1", raw(4, 0, 0, &[0, 5, 0, 0, 0, 1]));
    check("push promises", "goaway 3 1", raw(5, 4, 1, &[0; 4]));
    check("a ping on a stream", "goaway 3 1", raw(6, 0, 1, &[0; 8]));
    check("a short ping", "goaway 3 6", raw(6, 0, 0, &[0; 7]));
    check("a window by nothing", "goaway 3 1", raw(8, 0, 0, &[0; 4]));
    check("a stream's window by nothing", "reset 1 1", raw(8, 0, 1, &[0; 4]));
    check("a window too large", "goaway 3 3", raw(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]));
    check("a stream's window too large", "reset 1 3", raw(8, 0, 1, &[0x7f, 0xff, 0xff, 0xff]));
    check("a window of an idle stream", "goaway 3 1", raw(8, 0, 9, &[0, 0, 0, 1]));
    check("what is unknown", "", raw(0xbe, 0xff, 7, &[1, 2, 3]));
    check("priority", "", raw(2, 0, 9, &[0; 5]));
    check("a ping", "ping ack", raw(6, 0, 0, &[0; 8]));
    check("a flood of pings", "goaway 3 11", |into| (0..20_000).for_each(|_| raw(6, 1, 0, &[0; 8])(into)));
}

#[test]
fn floods_end_the_connection() {
    let mut engine = begun();
    let mut resets = 0;
    while engine.phase == Phase::Open {
        let stream = 1 + 2 * resets;
        headers(&mut engine, stream, "/t/Never", false);
        data(&mut engine, stream, &message(0), true);
        frame::put_reset(stream, Reason::Cancel, &mut engine.input);
        engine.turn();
        resets += 1;
        assert!(resets < 5000, "a rapid reset goes on");
    }
    assert!(told(&mut engine).ends_with(" 11"));
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let mut engine = begun();
    let asked = |engine: &mut Engine<Bytes>| {
        let quiet: Vec<_> = (0..3).map(|_| (engine.look().as_secs(), answer(engine))).collect();
        assert_eq!(quiet, vec![(1800, String::new()); 3]);
        assert_eq!((engine.look().as_secs(), answer(engine)), (20, "ping".to_owned()));
    };
    // The first look hears the settings.
    engine.look();
    asked(&mut engine);
    raw(6, 1, 0, b"stillher")(&mut engine.input);
    assert_eq!(answer(&mut engine), "");
    engine.look();
    asked(&mut engine);
    assert!(!engine.is_over());
    engine.look();
    assert!(engine.is_over());
}

#[test]
fn a_peer_that_pings_too_often_is_sent_away() {
    let pings = |engine: &mut Engine<Bytes>, every: u64| {
        let mut told = Vec::new();
        for n in 0..4 {
            raw(6, 0, 0, &[0; 8])(&mut engine.input);
            engine.turn();
            engine.judge_pings(std::time::Duration::from_secs(n * every));
            told.push(answer(engine));
        }
        told.join(", ")
    };
    let good = "ping ack, ping ack, ping ack, ping ack";
    let mut engine = begun();
    assert_eq!(pings(&mut engine, 7200), good);
    assert_eq!(pings(&mut begun(), 60), format!("{good}, goaway 0 11 too_many_pings"), "without a call");
    let calling = || {
        let mut engine = begun();
        headers(&mut engine, 1, "/t/Never", false);
        answer(&mut engine);
        engine
    };
    assert_eq!(pings(&mut calling(), 60), good);
    let mut engine = calling();
    assert_eq!(pings(&mut engine, 1), format!("{good}, goaway 1 11 too_many_pings"));
    assert!(engine.is_over());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Good frames, frames of chance, and good ones with bytes changed: nothing panics, and nothing grows past what
    /// the bounds allow.
    #[test]
    fn any_bytes_are_safe(
        plan in prop::collection::vec((0u8..14, 0u8..=255, 0u32..12, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
        changes in prop::collection::vec((0usize..4000, any::<u8>()), 0..4),
        cut in 1usize..500,
    ) {
        let mut engine = engine();
        let mut all = BytesMut::from(frame::PREFACE);
        frame::put_settings(&[], &mut all);
        for (kind, flags, stream, payload) in plan {
            match kind {
                12 => frame::put_headers(&request("/t/Echo", &[]), flags & 1 == 1, stream | 1, 16_384, &mut all),
                13 => frame::put_headers(&request("/t/Stream", &[]), flags & 1 == 1, stream | 1, 16_384, &mut all),
                kind => raw(kind, flags, stream, &payload)(&mut all),
            }
        }
        for (place, byte) in changes {
            let place = place % all.len();
            all[place] = byte;
        }
        for part in all.chunks(cut) {
            engine.input.extend_from_slice(part);
            while engine.turn() {}
            prop_assert!(engine.remembered() < 200_000);
        }
        engine.close();
        prop_assert_eq!((engine.streams.len(), engine.held), (0, 0));
    }
}
