//! A request's way: one visible list of steps.
//!
//! ```text
//!   head ─▶ authenticate ─▶ authorize ─▶ fairness ─▶ deadline ─▶ route ─▶ response
//!            401             403          429         504
//! ```

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use parking_lot::Mutex;
use registry::Status;
use tracing::Instrument;

use crate::{
    authorize::{self, Attributes},
    body::{Body, OnEnd, RequestBody},
    core::Core,
    fairness::{Class, Place},
    identity::Identity,
    listener::{Busy, Connection},
    metrics::{COMPONENT, RequestLabels},
    request::RequestInfo,
    respond, route,
};

/// Where a request comes from.
#[derive(Clone)]
pub(crate) enum Peer {
    /// A part of this process.
    Local(Identity),
    /// Someone over TLS.
    Remote { certificate: Option<Identity>, connection: Arc<Connection> },
}

/// A request that has been let in.
pub(crate) struct Call {
    pub core: Arc<Core>,
    pub identity: Identity,
    pub info: RequestInfo,
    pub headers: HeaderMap,
    pub peer: Peer,
    /// The request without headers and body: what upgrades the connection takes it over from here.
    pub request: Request<()>,
    /// Taken once. The lock is there because a body may not be shared between threads, and a call may.
    pub body: Mutex<Option<RequestBody>>,
    /// Held by what goes on after the response, such as a stream.
    pub place: Place,
    /// Sent along with the response.
    pub warnings: Vec<String>,
}

/// Ends what a request holds when its response is over.
struct Release {
    _busy: Option<Busy>,
}

impl OnEnd for Release {
    fn ended(&mut self, bytes: u64) {
        tracing::trace!(bytes, "response ended");
    }
}

/// Answers one request.
pub(crate) async fn handle(core: Arc<Core>, peer: Peer, request: Request<RequestBody>) -> Response<Body> {
    let started = core.clock.monotonic();
    let info = RequestInfo::parse(request.method(), request.uri());
    let busy = match &peer {
        Peer::Remote { connection, .. } => Some(connection.busy()),
        Peer::Local(_) => None,
    };
    let span = span(&info, request.headers());
    let labels = labels(&core, &info);
    let long_running = info.long_running();
    // What a handler holds is dropped with it, so a panic in one request leaves the others as they were.
    let steps = AssertUnwindSafe(steps(core.clone(), peer, info, request)).catch_unwind().instrument(span.clone());
    let mut response = match steps.await {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => respond::failure(&status),
        Err(_) => respond::failure(&Status::internal_error("a request handler panicked")),
    };
    span.record("code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    if let Ok(id) = HeaderValue::try_from(runtime::entropy::uuid()) {
        response.headers_mut().insert("audit-id", id);
    }
    let elapsed = core.clock.monotonic().saturating_sub(started);
    let labels = RequestLabels { code: response.status().as_u16(), ..labels };
    core.metrics.observe(labels, (!long_running).then_some(elapsed.as_secs_f64()));
    response.map(|body| body.on_end(Release { _busy: busy }))
}

async fn steps(
    core: Arc<Core>,
    peer: Peer,
    info: RequestInfo,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Status> {
    let identity = match &peer {
        Peer::Local(identity) => identity.clone(),
        Peer::Remote { certificate, .. } => {
            core.authenticator.authenticate(&core, request.headers(), certificate.as_ref()).await?
        }
    };
    tracing::Span::current().record("user", identity.user());
    authorize(&core, &identity, &info)?;
    let place = enter(&core, &peer, &info)?;
    let deadline = deadline(&core, &info)?;
    let (mut parts, body) = request.into_parts();
    let headers = std::mem::take(&mut parts.headers);
    let request = Request::from_parts(parts, ());
    let body = Mutex::new(Some(body));
    let call = Call { core, identity, info, headers, peer, request, body, place: place.clone(), warnings: Vec::new() };
    let routed = route::route(call);
    let response = match deadline {
        None => routed.await?,
        Some(limit) => tokio::time::timeout(limit, routed)
            .await
            .unwrap_or_else(|_| Err(Status::timeout("request did not complete within the allotted timeout", 0)))?,
    };
    Ok(response.map(|body| body.hold(place)))
}

fn authorize(core: &Core, identity: &Identity, info: &RequestInfo) -> Result<(), Status> {
    if authorize::is_privileged(identity) {
        return Ok(());
    }
    let attributes = Attributes::of(info);
    if authorize::allowed(identity, &attributes) {
        return Ok(());
    }
    if identity.is_anonymous() {
        return Err(Status::unauthorized());
    }
    let why = authorize::refusal(identity, &attributes);
    Err(match &info.resource {
        Some(target) if !target.resource.is_empty() => {
            match core.find(&target.group, &target.version, &target.resource) {
                Some(served) => Status::forbidden(served.resource.kind(), target.name(), &why),
                None => Status::new(403, "Forbidden", format!("{} is forbidden: {why}", target.resource)),
            }
        }
        _ => Status::forbidden_path(identity.user(), info.verb, &info.path),
    })
}

fn enter(core: &Core, peer: &Peer, info: &RequestInfo) -> Result<Place, Status> {
    let class = match () {
        () if info.long_running() => Class::LongRunning,
        () if info.read_only() => Class::ReadOnly,
        () => Class::Mutating,
    };
    // The control plane's own parts bound themselves, and must not starve behind those whom they serve. Health must be
    // told under any load.
    let exempt = matches!(peer, Peer::Local(_)) || authorize::is_public(info.verb, &info.path);
    core.fairness.enter(class, exempt).ok_or_else(|| {
        core.metrics.terminated.inc();
        Status::too_many_requests("Too many requests, please try again later.", 1)
    })
}

/// How long the request may take: `timeout=` where it is shorter than the server's own bound.
fn deadline(core: &Core, info: &RequestInfo) -> Result<Option<Duration>, Status> {
    if info.long_running() {
        return Ok(None);
    }
    let own = core.limits.request_timeout;
    let Some(text) = info.query.given("timeout") else { return Ok(Some(own)) };
    let asked = parse_duration(text).ok_or_else(|| {
        Status::bad_request(format!("invalid timeout specified in the request URL - time: invalid duration {text:?}"))
    })?;
    Ok(Some(if asked.is_zero() { own } else { asked.min(own) }))
}

/// Go's durations as far as clients send them: `30s`, `1m30s`, `500ms`, `1.5h`.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[unit..];
        total += number * seconds;
    }
    (!text.is_empty() && total < 1e9).then(|| Duration::from_secs_f64(total))
}

/// The request's span: what is done for it hangs below, down to the log's fsync. Where nobody looks at spans, nothing is
/// made.
fn span(info: &RequestInfo, headers: &HeaderMap) -> tracing::Span {
    let target = info.resource.as_ref();
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        verb = info.verb,
        resource = target.map_or(info.path.as_str().into(), |target| target.full_resource()).as_ref(),
        namespace = target.map_or("", |target| target.namespace()),
        name = target.map_or("", |target| target.name()),
        user = tracing::field::Empty,
        code = tracing::field::Empty,
    );
    telemetry::set_parent(&span, headers.get("traceparent").and_then(|value| value.to_str().ok()));
    span
}

fn labels(core: &Core, info: &RequestInfo) -> RequestLabels {
    let verb = match info.verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    };
    let dry_run = if info.query.given("dryRun").is_some() { "All" } else { "" };
    let plain = RequestLabels { verb, dry_run, component: COMPONENT, ..RequestLabels::default() };
    let Some(target) = &info.resource else { return plain };
    // Only names that are served become labels, or any client could fill the metrics with its own words.
    let Some(served) = core.find(&target.group, &target.version, &target.resource) else { return plain };
    let kind = served.resource.kind();
    let subresource = match target.subresource.as_str() {
        "" => "",
        name => match kind.subresource(name) {
            Some(known) => known.name,
            None => return plain,
        },
    };
    let scope = match target {
        _ if target.name.is_some() || info.verb == "create" => "resource",
        _ if target.namespace.is_some() => "namespace",
        _ => "cluster",
    };
    RequestLabels { group: &kind.group, version: &kind.version, resource: &kind.plural, subresource, scope, ..plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5h", Some(5_400_000)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("5x", None),
            ("s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_duration_is_read_or_refused(text in "[0-9a-zµ.]{0,30}") {
            let _ = parse_duration(&text);
        }
    }
}
