//! A request's way as a trace: from the client's `traceparent` over the store to the fsync, as an OTLP collector gets it.

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::{Span, span::SpanKind},
};
use parking_lot::Mutex;
use runtime::{CancellationToken, Tasks};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, async_trait};

use crate::harness::{server, within};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.0.lock().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

impl Collector {
    /// Listens on a free port until `stop`.
    async fn start(tasks: &Tasks, stop: CancellationToken) -> (Self, String) {
        let collector = Collector::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(collector.clone());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tasks.spawn("collector", async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await.unwrap();
        });
        (collector, url)
    }

    /// The spans of the test's own trace.
    fn trace(&self) -> Vec<Span> {
        let spans = self.0.lock();
        spans.iter().filter(|span| hex(&span.trace_id) == TRACE).cloned().collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} among {names:?}"))
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    format!("{:?}", found.and_then(|attribute| attribute.value.as_ref()?.value.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_reaches_from_the_client_to_the_fsync() {
    let tasks = Tasks::root();
    let stop = CancellationToken::new();
    let (collector, url) = Collector::start(&tasks, stop.clone()).await;
    let options = telemetry::Options { filter: "error".into(), otlp_endpoint: Some(url), ..Default::default() };
    let exporting = telemetry::init(&options).unwrap();

    let server = server().await;
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let map = json!({ "metadata": { "name": "traced" } }).to_string();
    let created = server.call_with("POST /api/v1/namespaces/default/configmaps", &headers, map.clone()).await;
    assert_eq!(created.code, 201);
    // What the caller does not sample is not exported, and what it writes wrongly is no reason to refuse.
    let unsampled = format!("00-{}-{CALLER}-00", TRACE.replace('4', "5"));
    for header in [unsampled.as_str(), "00-nonsense"] {
        let answer = server.call_with("GET /api/v1/namespaces/default", &[("traceparent", header)], "").await;
        assert_eq!(answer.code, 200, "{header}");
    }
    let again = server.call_with("POST /api/v1/namespaces/default/configmaps", &headers, map).await;
    assert_eq!(again.code, 409);
    // Flushes what is buffered; it waits for the collector's answer.
    within("flushed", runtime::blocking(move || drop(exporting))).await;

    let spans = collector.trace();
    let request = named(&spans, "request");
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(request.kind, SpanKind::Server as i32);
    assert!(attribute(request, "resource").contains("configmaps"), "{request:?}");
    assert!(attribute(request, "user").contains("admin"), "{request:?}");
    assert!(attribute(request, "code").contains("201"), "{request:?}");
    let propose = named(&spans, "propose");
    assert_eq!(propose.parent_span_id, request.span_id);
    // The span of the batch belongs to the first request in it; others are linked with it.
    let linked = |links: &[opentelemetry_proto::tonic::trace::v1::span::Link]| {
        links.iter().any(|link| link.trace_id == propose.trace_id && link.span_id == propose.span_id)
    };
    let all = collector.0.lock().clone();
    let fsync =
        all.iter().find(|span| span.name == "fsync" && (span.parent_span_id == propose.span_id || linked(&span.links)));
    let fsync = fsync.expect("the fsync that carried the request");
    assert!(propose.start_time_unix_nano <= fsync.start_time_unix_nano, "{propose:?} {fsync:?}");
    assert!(fsync.end_time_unix_nano <= propose.end_time_unix_nano, "{propose:?} {fsync:?}");
    assert!(!all.iter().any(|span| hex(&span.trace_id) == TRACE.replace('4', "5")), "it was not sampled");
    stop.cancel();
    tasks.stop();
}
