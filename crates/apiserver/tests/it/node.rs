//! Logs and streams go through to a node's agent, here a small one that says what it was asked.

use std::{convert::Infallible, io, sync::Arc};

use apiserver::{NodeDialer, Stream};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use runtime::Tasks;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Server, request, server_with, within};

struct Agent(Tasks);

#[async_trait]
impl NodeDialer for Agent {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn Stream>> {
        if node != "a" {
            return Err(io::Error::other(format!("no route to {node}")));
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let tasks = self.0.clone();
        self.0.spawn("agent", async move {
            let service = service_fn(move |request| answer(tasks.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(theirs), service)
                .with_upgrades()
                .await;
        });
        Ok(Box::new(ours))
    }
}

async fn answer(tasks: Tasks, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().path_and_query().unwrap().to_string();
    if target.contains("broken") {
        let message = "container \"broken\" in pod \"p\" is waiting to start: ContainerCreating";
        return Ok(Response::builder().status(400).body(Full::new(message.into())).unwrap());
    }
    if !request.headers().contains_key("upgrade") {
        return Ok(Response::new(Full::new(target.into())));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tasks.spawn("echo", async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        stream.write_all(format!("{target}\n").as_bytes()).await.unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word.map(|b| b.to_ascii_uppercase())).await.unwrap();
    });
    let protocol = request.headers()["sec-websocket-protocol"].clone();
    Ok(Response::builder()
        .status(101)
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-protocol", protocol)
        .body(Full::default())
        .unwrap())
}

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn start() -> (Server, Tasks) {
    let tasks = Tasks::root();
    let agent = tasks.clone();
    let server = server_with(|options| options.node_dialer = Arc::new(Agent(agent))).await;
    server.call("POST /api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": "default" } })).await;
    for (name, node, containers) in
        [("p", "a", &["c"][..]), ("two", "a", &["c", "broken"]), ("far", "b", &["c"]), ("new", "", &["c"])]
    {
        let containers: Vec<_> = containers.iter().map(|name| json!({ "name": name, "image": "demo" })).collect();
        let mut pod = json!({ "metadata": { "name": name }, "spec": { "containers": containers } });
        if !node.is_empty() {
            pod["spec"]["nodeName"] = node.into();
        }
        server.call(&format!("POST {PODS}"), pod).await.expect(201);
    }
    (server, tasks)
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let (server, tasks) = start().await;
    let log = server.get(&format!("{PODS}/p/log?tailLines=5&follow=true&timestamps=true")).await;
    assert_eq!(log.text(), "/containerLogs/default/p/c?follow=true&timestamps=true&tailLines=5");
    assert_eq!(server.get(&format!("{PODS}/new/log")).await.text(), "");
    for (path, code, message) in [
        ("two/log", 400, "a container name must be specified for pod two, choose one of: [c broken]"),
        ("two/log?container=x", 400, "container x is not valid for pod two"),
        ("two/log?container=broken", 400, "container \"broken\" in pod \"p\" is waiting to start: ContainerCreating"),
        ("none/log", 404, "pods \"none\" not found"),
        ("far/log", 500, "Internal error occurred: error dialing backend: no route to b"),
        ("new/exec?command=sh", 400, "pod new does not have a host assigned"),
        ("p/exec?command=sh", 400, "Upgrade request required"),
    ] {
        let answer = server.get(&format!("{PODS}/{path}")).await;
        assert_eq!((answer.code, answer.json["message"].as_str()), (code, Some(message)), "{path}");
    }
    assert_eq!(server.get(&format!("{PODS}/p/log?tailLines=-1")).await.code, 422);
    tasks.stop();
}

#[tokio::test]
async fn a_stream_is_handed_through() {
    let (server, tasks) = start().await;
    let admin = server.pki.client("admin", &["system:masters"]);
    let mut sender = server.http(Some(&admin)).await;
    let headers = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ];
    let line = format!("GET {PODS}/p/exec?command=sh&command=-c&stdin=true&stdout=true");
    let response = within("upgrade", sender.send_request(request(&line, &headers, ""))).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut all = String::new();
    within("stream", stream.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "/exec/default/p/c?input=true&output=true&command=sh&command=-c\nHELLO");

    let mut sender = server.http(Some(&admin)).await;
    let headers = [("upgrade", "SPDY/3.1"), ("connection", "Upgrade")];
    let response = within("upgrade", sender.send_request(request(&line, &headers, ""))).await.unwrap();
    assert_eq!(response.status(), 400);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("SPDY streaming is not served"));
    tasks.stop();
}
