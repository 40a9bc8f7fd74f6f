//! Figures of the gRPC calls, under the names that etcd's have.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::Request, middleware, response::Response};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use tonic::Code;

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

/// The methods that are counted: labels come from here and never from a request.
const METHODS: [(&str, &str, &[&str]); 6] = [
    ("etcdserverpb.KV", "unary", &["Range", "Put", "DeleteRange", "Txn", "Compact"]),
    ("etcdserverpb.Watch", "bidi_stream", &["Watch"]),
    ("etcdserverpb.Lease", "unary", &["LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases"]),
    ("etcdserverpb.Lease", "bidi_stream", &["LeaseKeepAlive"]),
    ("etcdserverpb.Maintenance", "unary", &["Alarm", "Status", "HashKV"]),
    ("etcdserverpb.Cluster", "unary", &["MemberList"]),
];

/// The counts of one server's calls.
#[derive(Clone, Default)]
pub(crate) struct Calls {
    started: Family<Method, Counter>,
    handled: Family<Handled, Counter>,
}

impl Calls {
    /// New counts, told by `registry` from now on.
    pub fn register(registry: &telemetry::Metrics) -> Self {
        let metrics = Calls::default();
        registry.register(|registry| {
            let (started, handled) = (metrics.started.clone(), metrics.handled.clone());
            registry.register("grpc_server_started", "Total number of RPCs started on the server", started);
            registry.register("grpc_server_handled", "Total number of RPCs completed on the server", handled);
        });
        metrics
    }

    /// Counts the calls of methods that do not go through a router.
    pub fn observer(&self, paths: &[&str]) -> Arc<dyn grpc::Observer> {
        let counts = paths.iter().filter_map(|path| method(path)).map(|method| {
            let started = self.started.get_or_create(&method).clone();
            let good = self.handled.get_or_create(&handled(&method, Code::Ok)).clone();
            Counts { method, started, good }
        });
        Arc::new(Observer { calls: self.clone(), counts: counts.collect() })
    }
}

/// One method's counters, looked up once.
struct Counts {
    method: Method,
    started: Counter,
    good: Counter,
}

struct Observer {
    calls: Calls,
    counts: Vec<Counts>,
}

impl grpc::Observer for Observer {
    fn started(&self, method: usize) {
        if let Some(counts) = self.counts.get(method) {
            counts.started.inc();
        }
    }

    fn ended(&self, method: usize, code: grpc::Code) {
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
            let call = Call { metrics, method, code: None };
            wrap(next.run(request).await, call)
        }
    }))
}

fn method(path: &str) -> Option<Method> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    METHODS.iter().filter(|(known, ..)| *known == service).find_map(|(grpc_service, grpc_type, names)| {
        let grpc_method = names.iter().find(|known| **known == name)?;
        Some(Method { grpc_type, grpc_service, grpc_method })
    })
}

/// The call is over when its response's body is: by trailers, or because the client went away.
fn wrap(response: Response, mut call: Call) -> Response {
    call.look(response.headers());
    response.map(|body| Body::new(Counted { body, call }))
}

struct Call {
    metrics: Calls,
    method: Method,
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
    }
}

struct Counted {
    body: Body,
    call: Call,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.look(trailers);
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
