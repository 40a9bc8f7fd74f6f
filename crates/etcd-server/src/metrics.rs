//! Figures of the gRPC calls, under the names that etcd's have.

mod files;

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, http::HeaderValue, middleware, response::Response};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use runtime::Clock;
use tonic::Code;

use crate::{downgrade::Version, methods, shared::Shared};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Client {
    r#type: &'static str,
    client_api_version: &'static str,
}

/// Where a client says what it is.
const VERSION_KEY: &str = "client-api-version";
/// What it may say there. Labels are bounded: anything else is unknown.
const API_VERSIONS: [&str; 10] = ["3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.8", "3.9"];

/// The counts of one server's calls.
#[derive(Clone, Default)]
pub(crate) struct Calls {
    times: Option<Times>,
    started: Family<Method, Counter>,
    handled: Family<Handled, Counter>,
    clients: Family<Client, Counter>,
    received: Counter,
    sent: Counter,
}

/// How long calls take.
#[derive(Clone)]
struct Times {
    clock: Clock,
    took: Family<Method, Histogram, fn() -> Histogram>,
}

/// The buckets that Prometheus' clients have by default, as etcd's histogram.
const TIME_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Times {
    fn new(clock: Clock) -> Self {
        let took: Family<Method, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(TIME_BUCKETS));
        // As in etcd, each method is there before it is first called.
        for method in methods::all() {
            drop(took.get_or_create(&labels(method)));
        }
        Times { clock, took }
    }

    fn ended(&self, method: &Method, started: Duration) {
        let took = self.clock.monotonic().saturating_sub(started);
        self.took.get_or_create(method).observe(took.as_secs_f64());
    }
}

impl Calls {
    /// New counts, told by `registry` from now on; how long calls take as well, if there is a clock.
    pub fn register(registry: &telemetry::Metrics, clock: Option<Clock>) -> Self {
        let calls = Calls { times: clock.map(Times::new), ..Calls::default() };
        registry.register(|registry| {
            let Calls { times, started, handled, clients, received, sent } = calls.clone();
            if let Some(times) = times {
                let help = "Histogram of response latency (seconds) of gRPC that had been application-level handled by \
                            the server";
                registry.register("grpc_server_handling_seconds", help, times.took);
            }
            registry.register("grpc_server_started", "Total number of RPCs started on the server", started);
            registry.register("grpc_server_handled", "Total number of RPCs completed on the server", handled);
            let requests = "The total number of requests per client version";
            registry.register("etcd_server_client_requests", requests, clients);
            let bytes = "The total number of bytes received from grpc clients";
            registry.register("etcd_network_client_grpc_received_bytes", bytes, received);
            let bytes = "The total number of bytes sent to grpc clients";
            registry.register("etcd_network_client_grpc_sent_bytes", bytes, sent);
            registry.register_collector(Box::new(files::Files));
        });
        calls
    }

    /// The time, if it matters.
    fn now(&self) -> Option<Duration> {
        self.times.as_ref().map(|times| times.clock.monotonic())
    }

    fn took(&self, method: &Method, started: Duration) {
        if let Some(times) = &self.times {
            times.ended(method, started);
        }
    }

    /// Counts the calls of methods that do not go through a router.
    pub fn observer(&self, paths: &[&str]) -> Arc<dyn grpc::Observer> {
        let counts = paths.iter().filter_map(|path| method(path)).map(|method| {
            let started = self.started.get_or_create(&method).clone();
            let good = self.handled.get_or_create(&handled(&method, Code::Ok)).clone();
            Counts { method, started, good, clients: Default::default() }
        });
        Arc::new(Observer { calls: self.clone(), counts: counts.collect() })
    }
}

/// One method's counters, looked up once.
struct Counts {
    method: Method,
    started: Counter,
    good: Counter,
    /// One for each version that clients may say, from the first that says it; the last one is for all others.
    clients: [OnceLock<Counter>; API_VERSIONS.len() + 1],
}

struct Observer {
    calls: Calls,
    counts: Vec<Counts>,
}

impl grpc::Observer for Observer {
    fn started(&self, method: usize, call: &grpc::Call) -> Option<Duration> {
        let counts = self.counts.get(method)?;
        counts.started.inc();
        let version = version(call.metadata(VERSION_KEY));
        let client = counts.clients[version.unwrap_or(API_VERSIONS.len())].get_or_init(|| {
            let label = client(&counts.method, version);
            self.calls.clients.get_or_create(&label).clone()
        });
        client.inc();
        self.calls.now()
    }

    fn ended(&self, method: usize, code: grpc::Code, started: Option<Duration>) {
        if let (Some(counts), Some(started)) = (self.counts.get(method), started) {
            self.calls.took(&counts.method, started);
        }
        match self.counts.get(method) {
            None => {}
            Some(counts) if code == grpc::Code::Ok => {
                counts.good.inc();
            }
            Some(counts) => {
                let label = handled(&counts.method, Code::from(code as i32));
                self.calls.handled.get_or_create(&label).inc();
            }
        }
    }

    fn moved(&self, received: usize, sent: usize) {
        for (bytes, counter) in [(received, &self.calls.received), (sent, &self.calls.sent)] {
            if bytes > 0 {
                counter.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
        }
    }
}

fn handled(method: &Method, code: Code) -> Handled {
    let Method { grpc_type, grpc_service, grpc_method } = method.clone();
    Handled { grpc_type, grpc_service, grpc_method, grpc_code: name(code) }
}

/// Counts the calls of a router from now on.
pub(crate) fn count(router: Router, metrics: Calls) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: middleware::Next| {
        let metrics = metrics.clone();
        async move {
            let Some(method) = method(request.uri().path()) else { return next.run(request).await };
            metrics.started.get_or_create(&method).inc();
            let told = request.headers().get(VERSION_KEY).map(HeaderValue::as_bytes);
            metrics.clients.get_or_create(&client(&method, version(told))).inc();
            let bytes = metrics.received.clone();
            let request = request.map(|body| Body::new(Counted { body, bytes, call: None }));
            let call = Call { started: metrics.now(), metrics, method, code: None };
            wrap(next.run(request).await, call)
        }
    }))
}

/// What the member is: figures that are always 1 and say it in their labels.
pub(crate) fn identify(shared: &Shared, registry: &telemetry::Metrics) {
    let cluster = Version::read(&shared.version).map_or(String::new(), |version| version.minor_text());
    registry.register(|registry| {
        for (name, help, label, value) in [
            ("etcd_server_version", "Which version is running", "server_version", shared.version.clone()),
            ("etcd_cluster_version", "Which version is running in the cluster", "cluster_version", cluster),
            ("etcd_server_id", "Server or member ID in hexadecimal format", "server_id", shared.id_text()),
        ] {
            let family = Family::<[(&str, String); 1], Gauge>::default();
            family.get_or_create(&[(label, value)]).set(1);
            registry.register(name, help, family);
        }
    });
}

/// Labels come from the table of methods and never from a request.
fn method(path: &str) -> Option<Method> {
    methods::at(path).map(labels)
}

fn labels((grpc_service, method): (&'static str, methods::Method)) -> Method {
    Method { grpc_type: method.kind, grpc_service, grpc_method: method.name }
}

/// The place in the table of what a client says of itself; none for what is not there.
fn version(told: Option<&[u8]>) -> Option<usize> {
    API_VERSIONS.iter().position(|known| told == Some(known.as_bytes()))
}

fn client(method: &Method, version: Option<usize>) -> Client {
    let r#type = if method.grpc_type == "unary" { "unary" } else { "stream" };
    Client { r#type, client_api_version: version.map_or("unknown", |place| API_VERSIONS[place]) }
}

/// The call is over when its response's body is: by trailers, or because the client went away.
fn wrap(response: Response, mut call: Call) -> Response {
    call.look(response.headers());
    let bytes = call.metrics.sent.clone();
    response.map(|body| Body::new(Counted { body, bytes, call: Some(call) }))
}

struct Call {
    metrics: Calls,
    method: Method,
    started: Option<Duration>,
    /// Told by the headers when there is no body, else by the trailers.
    code: Option<Code>,
}

impl Call {
    fn look(&mut self, headers: &axum::http::HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let label = handled(&self.method, self.code.unwrap_or(Code::Cancelled));
        self.metrics.handled.get_or_create(&label).inc();
        if let Some(started) = self.started {
            self.metrics.took(&self.method, started);
        }
    }
}

/// A body whose bytes are counted, of a request or of the response that ends a call.
struct Counted {
    body: Body,
    bytes: Counter,
    call: Option<Call>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let Some(data) = frame.data_ref() {
                self.bytes.inc_by(u64::try_from(data.len()).unwrap_or(u64::MAX));
            }
            if let (Some(trailers), Some(call)) = (frame.trailers_ref(), self.call.as_mut()) {
                call.look(trailers);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The code's name as gRPC for Go writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
