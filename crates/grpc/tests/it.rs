//! The server before clients that others wrote: tonic, hyper and curl.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, also in its helpers, and has tasks of its own"
)]

#[path = "it/served.rs"]
mod served;

use std::{process::Stdio, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use served::{Served, Text, path};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn unary_calls_at_once_and_one_after_the_other() {
    let served = Served::start().await;
    let client = served.client().await;
    let calls = (0..500).map(|n| {
        let client = client.clone();
        async move { served::unary(&client, "Echo", &n.to_string()).await.unwrap() }
    });
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().enumerate().all(|(n, answer)| *answer == n.to_string()));
    for n in 0..20 {
        assert_eq!(served::unary(&client, "Later", &n.to_string()).await.unwrap(), n.to_string());
    }
    assert_eq!(served.counted(), "started 520 ok 520");
    // Each message is echoed with as much around it.
    let (received, sent) = served.moved();
    assert!(received > 520 * 5 && received == sent, "{received} {sent}");
}

#[tokio::test]
async fn large_messages_both_ways() {
    let served = Served::start().await;
    let client = served.client().await;
    let text = "0123456789".repeat(300_000);
    assert_eq!(served::unary(&client, "Echo", &text).await.unwrap(), text);
    let error = served::unary(&client, "Echo", &"x".repeat(5 << 20)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(served::unary(&client, "Echo", "still there").await.unwrap(), "still there");
}

#[tokio::test]
async fn errors_have_their_code_and_words() {
    let served = Served::start().await;
    let client = served.client().await;
    let error = served::unary(&client, "Fail", "why: 100% ä\n").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "why: 100% ä\n"));
    let error = served::unary(&client, "Nowhere", "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn metadata_reaches_the_handler() {
    let served = Served::start().await;
    let mut request = Request::new(Text { text: "token".into() });
    request.metadata_mut().insert("token", "secret".parse().unwrap());
    let mut client = served.client().await;
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Text, Text>::default();
    assert_eq!(client.unary(request, path("Metadata"), codec).await.unwrap().into_inner().text, "secret");
}

#[tokio::test]
async fn a_deadline_ends_the_call_and_so_does_the_client() {
    let served = Served::start().await;
    let client = served.client().await;
    let mut request = Request::new(Text { text: String::new() });
    // The client's own timer is what it hears; the server's is told by the counter.
    request.set_timeout(Duration::from_millis(50));
    let codec = tonic_prost::ProstCodec::<Text, Text>::default();
    let mut once = client.clone();
    once.ready().await.unwrap();
    once.unary(request, path("Never"), codec).await.unwrap_err();
    served.until("started 1 ended 1").await;
    let call = served::unary(&client, "Never", "");
    let impatient = tokio::time::timeout(Duration::from_millis(50), call).await;
    assert!(impatient.is_err());
    served.until("started 2 ended 2").await;
}

#[tokio::test]
async fn streams_both_ways_with_a_client_that_does_not_read() {
    let served = Served::start().await;
    let mut client = served.client().await;
    client.ready().await.unwrap();
    let (requests, queue) = tokio::sync::mpsc::channel(4);
    let codec = tonic_prost::ProstCodec::<Text, Text>::default();
    let call = client.streaming(Request::new(ReceiverStream::new(queue)), path("Repeat"), codec);
    requests.send(Text { text: "x".repeat(1000) }).await.unwrap();
    let mut answers = call.await.unwrap().into_inner();
    // Ten megabytes wait behind this stream; others go on.
    served.until_sent(300).await;
    assert_eq!(served::unary(&served.client().await, "Echo", "a").await.unwrap(), "a");
    assert_eq!(served::unary(&client, "Echo", "b").await.unwrap(), "b");
    for _ in 0..served::REPEATS {
        let answer = tokio::time::timeout(LIMIT, answers.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.text.len(), 1000);
    }
    drop(requests);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_message_of_shared_parts_goes_to_many_streams_from_another_thread() {
    let served = Served::start().await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut client = served.client().await;
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<Text, Text>::default();
        let request = Request::new(Text { text: String::new() });
        streams.push(client.server_streaming(request, path("Listen"), codec).await.unwrap().into_inner());
    }
    served.listeners(100).await;
    served.broadcast("news ".repeat(1000).into());
    for stream in &mut streams {
        // The first, empty one says that the stream stands.
        for expected in [String::new(), "news ".repeat(1000)] {
            let told = tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(told.text, expected);
        }
    }
    drop(streams);
    served.listeners(0).await;
}

#[tokio::test]
async fn the_stop_lets_calls_end() {
    let served = Served::start().await;
    let client = served.client().await;
    let call = tokio::spawn(async move { served::unary(&client, "Gated", "a").await });
    served.until("started 1 ended 0").await;
    served.stop();
    served.open_gate();
    assert_eq!(tokio::time::timeout(LIMIT, call).await.unwrap().unwrap().unwrap(), "a");
    tokio::time::timeout(LIMIT, served.ended()).await.unwrap();
}

/// One request over hyper's client.
async fn get(served: &Served, http2: bool, body: &'static str) -> (u16, String, Option<String>) {
    let stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let request = hyper::Request::post(format!("http://{}/plain", served.address)).body(Full::new(Bytes::from(body)));
    let request = request.unwrap();
    let response = if http2 {
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap();
    let trailer = body.trailers().and_then(|map| map.get("x-end")).map(|value| value.to_str().unwrap().to_owned());
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap(), trailer)
}

#[tokio::test]
async fn the_fallback_answers_everything_else_over_both_versions() {
    let served = Served::start().await;
    assert_eq!(get(&served, true, "abc").await, (200, "HTTP/2.0 abc".into(), Some("here".into())));
    let (status, body, _) = get(&served, false, "abc").await;
    assert_eq!((status, &body[..]), (200, "HTTP/1.1 abc"));
    let url = format!("http://{}/plain", served.address);
    for (flag, version) in [("--http2-prior-knowledge", "HTTP/2.0"), ("--http1.1", "HTTP/1.1")] {
        let mut curl = tokio::process::Command::new("curl");
        let Ok(output) = curl.args(["-sS", flag, "-d", "abc", &url]).stderr(Stdio::inherit()).output().await else {
            return eprintln!("there is no curl here: this part proves nothing");
        };
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{version} abc"));
    }
}
