//! The server before the store that it was made for: the store's contract over the wire, `etcdctl`, and what the
//! protocol says about watches, sizes and plain HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "../../etcd-client/tests/it/conformance.rs"]
mod conformance;
#[path = "../../etcd-client/tests/it/etcdctl.rs"]
mod etcdctl;
#[path = "it/memory.rs"]
mod memory;
#[path = "it/served.rs"]
mod served;
#[path = "it/session.rs"]
mod session;
#[path = "it/tls.rs"]
mod tls;
#[path = "it/users.rs"]
mod users;
#[path = "it/watch.rs"]
mod watch;

use bytes::Bytes;
use etcd_proto::etcdserverpb as pb;
use http_body_util::{BodyExt, Empty};
use served::Served;
use tonic::Code;

#[tokio::test]
async fn the_stores_contract_holds_over_the_wire() {
    let served = Served::start().await;
    conformance::run(&served.client().await).await;
}

#[tokio::test]
async fn etcdctl_reads_and_writes() {
    let served = Served::start().await;
    etcdctl::session(&served.url).await;
}

#[tokio::test]
async fn a_request_over_the_bound_is_refused_and_the_rest_goes_on() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut put = async |bytes: usize| {
        let request = pb::PutRequest { key: "k".into(), value: vec![7; bytes].into(), ..Default::default() };
        kv.put(request).await.map(|_| ()).map_err(|status| (status.code(), status.message().to_owned()))
    };
    let large = (Code::InvalidArgument, "etcdserver: request is too large".to_owned());
    assert_eq!(put(1536 * 1024).await, Err(large));
    assert_eq!(put(3 << 20).await.unwrap_err().0, Code::OutOfRange);
    assert_eq!(put(1 << 20).await, Ok(()));
}

#[tokio::test]
async fn errors_have_etcds_codes_and_words() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut txn = async |success: Vec<pb::RequestOp>| {
        let status = kv.txn(pb::TxnRequest { success, ..Default::default() }).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let put = |key: &str| {
        let put = pb::PutRequest { key: key.to_owned().into(), ..Default::default() };
        pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
    };
    let invalid = |text: &str| (Code::InvalidArgument, text.to_owned());
    assert_eq!(txn(vec![put("a"), put("a")]).await, invalid("etcdserver: duplicate key given in txn request"));
    assert_eq!(txn(vec![put("")]).await, invalid("etcdserver: key is not provided"));
    assert_eq!(txn(vec![pb::RequestOp { request: None }]).await, invalid("etcdserver: key not found"));
    let counted = "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Txn\",\
                   grpc_code=\"InvalidArgument\"} 3";
    let text = served.metrics.encode();
    assert!(text.lines().any(|line| line == counted), "{text}");
    let many = (0..129).map(|n| put(&n.to_string())).collect();
    assert_eq!(txn(many).await, invalid("etcdserver: too many operations in txn request"));
}

#[tokio::test]
async fn health_and_version_answer_in_plain_http() {
    let served = Served::start().await;
    let check = async |path: &str, expected: &str| {
        let stream = tokio::net::TcpStream::connect(served.url.trim_start_matches("http://")).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let request = hyper::Request::get(path).header("host", "etcd").body(Empty::<Bytes>::new()).unwrap();
        let answer = async {
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap().to_bytes()
        };
        let body = tokio::select! {
            body = answer => body,
            ended = connection => panic!("{ended:?}"),
        };
        let text = String::from_utf8_lossy(&body);
        assert!(text.starts_with(expected), "{path}: {text}");
    };
    check("/health", r#"{"health":"true","reason":""}"#).await;
    check("/metrics", "# HELP ").await;
    check("/version", r#"{"etcdserver":"3.5"#).await;
}
