//! What a member serves on which listener.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use test_support::ports::free_port;

use crate::member::{BINARY, Member, Place, clean};

/// A plain HTTP request; the status line and the body.
fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

fn session(place: &Place, flags: &[String]) {
    for (line, expected) in [("put a 1", "OK\n"), ("get a", "a\n1\n"), ("del a", "1\n")] {
        let ran = place.etcdctl(flags, line);
        assert_eq!(ran.expect_ok(), expected, "etcdctl {line}");
    }
}

#[test]
fn several_listeners_of_several_kinds() {
    let place = Place::new();
    let (second, http_only, metrics) = (free_port(), free_port(), free_port());
    let socket = format!("unix://{}", place.path("etcd.sock").display());
    let mut flags = place.flags("http");
    flags[1] = format!("--listen-client-urls={},http://127.0.0.1:{second},{socket}", place.url("http"));
    flags.push(format!("--listen-client-http-urls=http://127.0.0.1:{http_only}"));
    flags.push(format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"));
    let mut member = Member::start(clean(BINARY).args(flags));
    member.wait_for("now serving peer/client/metrics");

    session(&place, &["--endpoints".into(), place.url("http")]);
    session(&place, &["--endpoints".into(), format!("127.0.0.1:{second}")]);
    session(&place, &["--endpoints".into(), socket]);
    let ok = "HTTP/1.1 200 OK";
    for (port, path, status, part) in [
        (place.client, "/health", ok, "{\"health\":\"true\""),
        (place.client, "/version", ok, "\"etcdserver\":\"3.5.30\""),
        (http_only, "/version", ok, "\"etcdcluster\":\"3.5.0\""),
        (http_only, "/etcdserverpb.KV/Range", "HTTP/1.1 404 Not Found", ""),
        (metrics, "/metrics", ok, "etcd_"),
        (metrics, "/health", ok, "{\"health\":\"true\""),
        // Whoever may read metrics may read nothing else.
        (metrics, "/version", "HTTP/1.1 404 Not Found", ""),
        (metrics, "/etcdserverpb.KV/Range", "HTTP/1.1 404 Not Found", ""),
        (place.peer, "/version", ok, "\"etcdserver\":\"3.5.30\""),
        (place.peer, "/members", ok, "\"name\":\"default\""),
        (place.peer, "/etcdserverpb.KV/Range", "HTTP/1.1 404 Not Found", ""),
    ] {
        let (found, body) = get(port, path);
        assert!(found == status && body.contains(part), "{port}{path}: {found} {body}");
    }
    assert!(get(place.peer, "/members").1.contains(&format!("\"peerURLs\":[\"{}\"]", place.peer_url())));
    member.stop();
    assert!(!place.path("etcd.sock").exists());
}

#[test]
fn limits_of_the_flags_hold() {
    let place = Place::new();
    let limits = ["--max-request-bytes=1000", "--quota-backend-bytes=1048576", "--auto-compaction-mode=revision"];
    let retention = "--auto-compaction-retention=10";
    let _member = Member::start(clean(BINARY).args(place.flags("http")).args(limits).arg(retention));
    let endpoint = ["--endpoints".to_owned(), place.url("http")];
    let ran = place.etcdctl(&endpoint, &format!("put a {}", "x".repeat(2000)));
    assert!(ran.expect_error().contains("etcdserver: request is too large"));
    session(&place, &endpoint);
}
