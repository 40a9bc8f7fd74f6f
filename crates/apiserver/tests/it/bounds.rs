//! What must not disturb others: huge bodies, idle connections, clients that do not read, floods.

use std::time::Duration;

use apiserver::InFlightLimits;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    crud::config_map,
    harness::{Lines, server, server_with, within},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_hundred_megabytes_are_refused_without_being_read() {
    let server = server().await;
    let admin = server.pki.client("admin", &["system:masters"]);
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    for announced in [true, false] {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(server.connect(Some(&admin)).await)).await.unwrap();
        let driver = async {
            let _ = connection.await;
        };
        let pieces = stream::iter(std::iter::repeat_n(piece.clone(), 100))
            .map(|data| Ok::<_, std::io::Error>(Frame::data(data)));
        let mut request = Request::post(MAPS).header("host", "localhost").header("content-type", "application/json");
        if announced {
            request = request.header("content-length", 100 << 20);
        }
        let answer = async {
            let response = sender.send_request(request.body(StreamBody::new(pieces)).unwrap()).await.unwrap();
            let code = response.status().as_u16();
            (code, response.into_body().collect().await.unwrap().to_bytes())
        };
        let (code, body) = within("refusal", async {
            tokio::select! { answer = answer => answer, () = async { driver.await; std::future::pending().await } => unreachable!() }
        })
        .await;
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((code, status["reason"].as_str()), (413, Some("RequestEntityTooLarge")), "{announced}");
    }
    server.get(MAPS).await.expect(200);
}

#[tokio::test]
async fn an_object_over_the_stores_limit_is_refused() {
    let server = server().await;
    let answer = server.call(&format!("POST {MAPS}"), config_map("big", &"x".repeat(2 << 20))).await;
    assert!(matches!(answer.code, 413 | 422), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_disturb_nobody() {
    let server = server_with(|options| options.connections.max = 600).await;
    let mut idle = Vec::new();
    for n in 0..1000 {
        // Most say nothing at all, some get as far as TLS.
        if n % 20 == 0 {
            idle.push(futures::future::Either::Left(server.connect(None).await));
        } else {
            let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
            idle.push(futures::future::Either::Right(stream));
        }
    }
    let admin = server.pki.client("admin", &["system:masters"]);
    for _ in 0..20 {
        server.remote(Some(&admin), "GET /api/v1/namespaces", &[], "").await.expect(200);
    }
    drop(idle);
}

#[tokio::test]
async fn a_slow_head_ends_the_connection() {
    let server = server_with(|options| options.connections.header = Duration::from_millis(200)).await;
    let mut stream = server.connect(None).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.unwrap();
    let mut rest = Vec::new();
    // The end may come as an error when the peer closes without TLS's goodbye.
    let _ = within("close", stream.read_to_end(&mut rest)).await;
    let mut stream = server.connect(None).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(1_000_000));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut rest = Vec::new();
    let _ = within("close", stream.read_to_end(&mut rest)).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_full_class_answers_429() {
    let server = server_with(|options| {
        options.in_flight = InFlightLimits { read_only: 0, mutating: 200, long_running: 0 };
    })
    .await;
    let admin = server.pki.client("admin", &["system:masters"]);
    for path in ["/api/v1/pods", "/api/v1/pods?watch=1"] {
        let answer = server.remote(Some(&admin), &format!("GET {path}"), &[], "").await;
        assert_eq!(answer.headers["retry-after"], "1");
        answer.expect_error(429, "TooManyRequests", "Too many requests, please try again later.");
    }
    // Health is told under any load, and the process's own parts go on.
    server.remote(None, "GET /readyz", &[], "").await;
    server.get("/api/v1/pods").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_is_cut_off_and_the_others_are_not() {
    let server = server().await;
    let admin = server.pki.client("admin", &["system:masters"]);
    let mut silent = server.connect(Some(&admin)).await;
    silent.write_all(format!("GET {MAPS}?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = [0; 64];
    server.call(&format!("POST {MAPS}"), config_map("first", "1")).await.expect(201);
    within("head", silent.read_exact(&mut head)).await.unwrap();

    let mut reader = Lines::new(server.open(&format!("GET {MAPS}?watch=1"), &[]).await);
    assert_eq!(reader.take(1).await, ["ADDED first"]);
    // More than the cache keeps and the sockets hold.
    let data = "d".repeat(200_000);
    let mut seen = 0;
    for round in 0..15 {
        let writes = (0..10).map(|n| {
            let (server, object) = (&server, config_map("big", &format!("{round}-{n}-{data}")));
            async move {
                let line = if round + n == 0 { format!("POST {MAPS}") } else { format!("PUT {MAPS}/big") };
                server.call(&line, object).await
            }
        });
        for answer in stream::iter(writes).buffered(1).collect::<Vec<_>>().await {
            assert!(answer.code < 300, "{}", answer.text());
            seen += 1;
            assert_eq!(reader.take(1).await[0].split(' ').nth(1), Some("big"));
        }
    }
    assert_eq!(seen, 150);
    let mut sink = vec![0; 1 << 16];
    within("the end of the silent watch", async { while !matches!(silent.read(&mut sink).await, Ok(0) | Err(_)) {} })
        .await;
    server.call(&format!("DELETE {MAPS}/big"), json!({})).await.expect(200);
    assert_eq!(reader.take(1).await, ["DELETED big"]);
}
