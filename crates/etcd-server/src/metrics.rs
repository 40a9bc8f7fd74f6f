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

#[derive(Clone, Default)]
struct Metrics {
    started: Family<Method, Counter>,
    handled: Family<Handled, Counter>,
}

/// Counts the calls of a router from now on.
pub(crate) fn count(router: Router, registry: &telemetry::Metrics) -> Router {
    let metrics = Metrics::default();
    registry.register(|registry| {
        let (started, handled) = (metrics.started.clone(), metrics.handled.clone());
        registry.register("grpc_server_started", "Total number of RPCs started on the server", started);
        registry.register("grpc_server_handled", "Total number of RPCs completed on the server", handled);
    });
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

/// The call is over when its response's body is: by trailers, or because the client went away.
fn wrap(response: Response, mut call: Call) -> Response {
    call.look(response.headers());
    response.map(|body| Body::new(Counted { body, call }))
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
