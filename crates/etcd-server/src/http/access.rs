//! Who may ask in plain HTTP: pages of which origins (etcd's `--cors`), and under which names this server may be asked
//! where there is no TLS (etcd's `--host-whitelist`, against pages whose name is pointed here). Calls of gRPC are not
//! looked at.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Router,
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST, ORIGIN,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use super::refusal;

/// What a page of an origin that is let in may do.
const CORS: [(HeaderName, &str); 2] = [
    (ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE"),
    (ACCESS_CONTROL_ALLOW_HEADERS, "accept, content-type, authorization"),
];
const ANY: &str = "*";

/// Sets of names; `*` stands for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessOptions {
    pub origins: BTreeSet<String>,
    pub hosts: BTreeSet<String>,
}

impl Default for AccessOptions {
    /// Everybody, as in etcd.
    fn default() -> Self {
        let any = || BTreeSet::from([ANY.to_owned()]);
        AccessOptions { origins: any(), hosts: any() }
    }
}

/// The connection is such that the name under which it was asked for says nothing: it has TLS, or is not for clients.
#[derive(Clone, Copy)]
pub(crate) struct HostTrusted;

/// Routes that answer under whatever name they are asked.
pub fn trust_hosts(router: Router) -> Router {
    router.layer(Extension(HostTrusted))
}

pub(super) fn guard(router: Router, options: AccessOptions) -> Router {
    let options = Arc::new(options);
    router.layer(middleware::from_fn(move |request: Request, next: Next| answer(options.clone(), request, next)))
}

async fn answer(options: Arc<AccessOptions>, request: Request, next: Next) -> Response {
    if request.extensions().get::<HostTrusted>().is_none() {
        let host = hostname(&request);
        if !options.allows_host(&host) {
            tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
            let hint = format!("ask over TLS, or start the server with --host-whitelist {host:?}");
            return refusal(
                StatusCode::MISDIRECTED_REQUEST,
                &format!("this server does not answer as {host:?}; {hint}"),
            );
        }
    }
    let origin = options.origin(request.headers());
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight { StatusCode::OK.into_response() } else { next.run(request).await };
    if let Some(origin) = origin {
        for (name, value) in CORS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

impl AccessOptions {
    fn allows_host(&self, host: &str) -> bool {
        self.hosts.contains(ANY) || self.hosts.contains(host)
    }

    /// The origin that is told to be let in, if any is.
    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() || self.origins.contains(ANY) {
            return Some(HeaderValue::from_static(ANY));
        }
        let origin = headers.get(ORIGIN)?;
        origin.to_str().is_ok_and(|origin| self.origins.contains(origin)).then(|| origin.clone())
    }
}

/// The name that a request is for, without its port.
fn hostname(request: &Request) -> String {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or(header).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.trim_start_matches('[').trim_end_matches(']').to_owned()
        }
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    use super::*;

    /// A request with its host and origin before a server with those options: the status, and the origin let in.
    async fn asked(hosts: &str, origins: &str, host: &str, origin: &str, trusted: bool) -> (u16, String) {
        let set = |text: &str| text.split(' ').map(str::to_owned).collect();
        let options = AccessOptions { origins: set(origins), hosts: set(hosts) };
        let mut router = guard(Router::new().route("/", get(async || "yes")), options);
        if trusted {
            router = trust_hosts(router);
        }
        let request = Request::builder().uri("/").header(HOST, host).header(ORIGIN, origin);
        let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let told = answer.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).map_or("", |value| value.to_str().unwrap());
        (answer.status().as_u16(), told.to_owned())
    }

    #[tokio::test]
    async fn hosts_and_origins() {
        let check = async |hosts, origins, host, origin, expected: (u16, &str)| {
            let found = asked(hosts, origins, host, origin, false).await;
            assert_eq!((found.0, found.1.as_str()), expected, "{hosts} {origins} {host} {origin}");
        };
        check("*", "*", "a:1", "http://x", (200, "*")).await;
        check("a ::1", "*", "a:1", "http://x", (200, "*")).await;
        check("a ::1", "*", "[::1]:2", "http://x", (200, "*")).await;
        check("a ::1", "*", "a", "http://x", (200, "*")).await;
        check("a ::1", "*", "b:1", "http://x", (421, "")).await;
        check("*", "http://x http://y", "a", "http://x", (200, "http://x")).await;
        check("*", "http://x http://y", "a", "http://z", (200, "")).await;
        assert_eq!(asked("a", "*", "b", "", true).await.0, 200);
    }
}
