//! What requests there were, under client-go's names.
//!
//! ```text
//!   connect_counted ─▶ Counted ─▶ HTTP ─▶ API server
//!                        └─▶ Requests ─▶ a registry
//! ```
//!
//! Innermost, so that what is counted is what is sent. Knows no kind of object.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use runtime::Clock;
use tower::{Layer, Service};

/// client-go's bounds, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    code: String,
    method: &'static str,
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    verb: &'static str,
    host: String,
}

/// Counts requests. Clones count the same ones.
#[derive(Clone)]
pub struct Requests {
    results: Family<ResultLabels, Counter>,
    seconds: Family<TimeLabels, Histogram>,
    clock: Clock,
}

impl Requests {
    /// Registers the figures; to be called once for all clients of a process.
    pub fn register(registry: &mut Registry, clock: Clock) -> Self {
        let seconds = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let requests = Requests { results: Family::default(), seconds, clock };
        registry.register(
            "rest_client_requests",
            "HTTP requests to the API server, by status code, method and host; <error>: there was no answer",
            requests.results.clone(),
        );
        registry.register(
            "rest_client_request_duration_seconds",
            "How long it took until the API server began to answer, by method and host; watches do not count",
            requests.seconds.clone(),
        );
        requests
    }

    fn ended(&self, method: &Method, host: String, code: String) {
        self.results.get_or_create(&ResultLabels { code, method: name(method), host }).inc();
    }
}

/// Of a method that Kubernetes has; others share a name, so that nobody can make up any number of series.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = request.method().clone();
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        // A watch is answered when something happens, which says nothing of the API server.
        let watches = request.uri().query().is_some_and(|query| query.split('&').any(is_watch));
        let (requests, began) = (self.requests.clone(), self.requests.clock.monotonic());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if !watches {
                let took = requests.clock.monotonic().saturating_sub(began);
                let labels = TimeLabels { verb: name(&method), host: host.clone() };
                requests.seconds.get_or_create(&labels).observe(took.as_secs_f64());
            }
            let code =
                answer.as_ref().map_or_else(|_| "<error>".to_owned(), |answer| answer.status().as_str().to_owned());
            requests.ended(&method, host, code);
            answer
        })
    }
}

fn is_watch(parameter: &str) -> bool {
    matches!(parameter, "watch" | "watch=1" | "watch=true")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_what_came_of_them() {
        let (mut registry, clock) = (Registry::default(), Clock::manual(Timestamp::UNIX_EPOCH));
        let requests = Requests::register(&mut registry, clock.clone());
        let answer = |request: Request<()>| {
            clock.advance(Duration::from_millis(20));
            async move {
                match request.uri().path() {
                    "/lost" => Err("lost"),
                    "/nothing" => Ok(Response::builder().status(404).body(()).unwrap()),
                    _ => Ok(Response::new(())),
                }
            }
        };
        let service = requests.layer(service_fn(answer));
        for (method, path) in [
            ("GET", "/pods?limit=1"),
            ("GET", "/pods?limit=1&watch=true"),
            ("GET", "/nothing"),
            ("POST", "/lost"),
            ("BREW", "/pods"),
        ] {
            let request = Request::builder().method(method).uri(format!("https://api:6443{path}")).body(()).unwrap();
            let answer = service.clone().oneshot(request).await;
            assert_eq!(answer.is_err(), path == "/lost");
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "rest_client_requests_total{code=\"200\",method=\"GET\",host=\"api:6443\"} 2\n",
            "rest_client_requests_total{code=\"404\",method=\"GET\",host=\"api:6443\"} 1\n",
            "rest_client_requests_total{code=\"<error>\",method=\"POST\",host=\"api:6443\"} 1\n",
            "rest_client_requests_total{code=\"200\",method=\"OTHER\",host=\"api:6443\"} 1\n",
            "rest_client_request_duration_seconds_count{verb=\"GET\",host=\"api:6443\"} 2\n",
            "rest_client_request_duration_seconds_bucket{le=\"0.025\",verb=\"GET\",host=\"api:6443\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
