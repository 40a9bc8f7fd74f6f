//! The server before the store that it was made for: the store's contract over the wire, `etcdctl`, and what the
//! protocol says about watches, sizes and plain HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/compare.rs"]
mod compare;
#[path = "../../etcd-client/tests/it/conformance.rs"]
mod conformance;
#[path = "../../etcd-client/tests/it/etcd.rs"]
#[expect(dead_code, reason = "the client's own tests also stop and restart it")]
mod etcd;
#[path = "../../etcd-client/tests/it/etcdctl.rs"]
mod etcdctl;
#[path = "it/fake.rs"]
mod fake;
#[path = "it/gateway.rs"]
mod gateway;
#[path = "it/health.rs"]
mod health;
#[path = "it/line.rs"]
mod line;
#[path = "it/members.rs"]
mod members;
#[path = "it/memory.rs"]
mod memory;
#[path = "it/plain.rs"]
mod plain;
#[path = "it/range_stream.rs"]
mod range_stream;
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

use etcd_proto::{
    etcdserverpb as pb,
    healthpb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
};
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
    assert_eq!(put(3 << 20).await.unwrap_err().0, Code::ResourceExhausted);
    assert_eq!(put(1 << 20).await, Ok(()));
}

#[tokio::test]
async fn the_server_tells_grpcs_own_probes_whether_it_serves() {
    let served = Served::start().await;
    let mut client = HealthClient::new(served.channel().await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(client.check(ask("")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    assert_eq!(client.check(ask("etcd")).await.unwrap_err().code(), Code::NotFound);
    let mut watched = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    served.tasks.stop();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
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
    let client = "etcd_server_client_requests_total{type=\"unary\",client_api_version=\"unknown\"} 3";
    let text = served.metrics.encode();
    for line in [counted, client] {
        assert!(text.lines().any(|known| known == line), "{line}: {text}");
    }
    assert!(!text.contains("etcd_network_client_grpc_received_bytes_total 0"), "{text}");
    let many = (0..129).map(|n| put(&n.to_string())).collect();
    assert_eq!(txn(many).await, invalid("etcdserver: too many operations in txn request"));
}
