//! Figures of the gRPC calls, under the names that etcd's have.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::Request, middleware, response::Response};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
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

/// What a client may say of itself in `client-api-version`. Labels are bounded: anything else is unknown.
const API_VERSIONS: [&str; 10] = ["3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.8", "3.9"];

#[derive(Clone, Default)]
struct Metrics {
    started: Family<Method, Counter>,
    handled: Family<Handled, Counter>,
    clients: Family<Client, Counter>,
    received: Counter,
    sent: Counter,
}

/// Counts the calls of a router from now on.
pub(crate) fn count(router: Router, registry: &telemetry::Metrics) -> Router {
    let metrics = Metrics::default();
    registry.register(|registry| {
        let Metrics { started, handled, clients, received, sent } = metrics.clone();
        registry.register("grpc_server_started", "Total number of RPCs started on the server", started);
        registry.register("grpc_server_handled", "Total number of RPCs completed on the server", handled);
        registry.register("etcd_server_client_requests", "The total number of requests per client version", clients);
        let bytes = "The total number of bytes received from grpc clients";
        registry.register("etcd_network_client_grpc_received_bytes", bytes, received);
        let bytes = "The total number of bytes sent to grpc clients";
        registry.register("etcd_network_client_grpc_sent_bytes", bytes, sent);
    });
    router.layer(middleware::from_fn(move |request: Request, next: middleware::Next| {
        let metrics = metrics.clone();
        async move {
            let Some(method) = method(request.uri().path()) else { return next.run(request).await };
            metrics.started.get_or_create(&method).inc();
            metrics.clients.get_or_create(&client(&method, request.headers())).inc();
            let bytes = metrics.received.clone();
            let request = request.map(|body| Body::new(Counted { body, bytes, call: None }));
            let call = Call { metrics, method, code: None };
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
    let (grpc_service, method) = methods::at(path)?;
    Some(Method { grpc_type: method.kind, grpc_service, grpc_method: method.name })
}

fn client(method: &Method, headers: &axum::http::HeaderMap) -> Client {
    let told = headers.get("client-api-version").map(|version| version.as_bytes());
    let known = API_VERSIONS.into_iter().find(|known| told == Some(known.as_bytes()));
    let r#type = if method.grpc_type == "unary" { "unary" } else { "stream" };
    Client { r#type, client_api_version: known.unwrap_or("unknown") }
}

/// The call is over when its response's body is: by trailers, or because the client went away.
fn wrap(response: Response, mut call: Call) -> Response {
    call.look(response.headers());
    let bytes = call.metrics.sent.clone();
    response.map(|body| Body::new(Counted { body, bytes, call: Some(call) }))
}

struct Call {
    metrics: Metrics,
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
        let Method { grpc_type, grpc_service, grpc_method } = self.method.clone();
        let grpc_code = name(self.code.unwrap_or(Code::Cancelled));
        self.metrics.handled.get_or_create(&Handled { grpc_type, grpc_service, grpc_method, grpc_code }).inc();
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
