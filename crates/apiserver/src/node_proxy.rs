//! Logs and streams of a pod: the request goes on to the node's agent, which speaks the kubelet's HTTP paths.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use registry::Status;
use serde_json::Value;

use crate::{
    body::{Body, BodyError},
    commit::live,
    core::Served,
    pipeline::Call,
    respond,
};

/// Reaching a node and hearing the first word of its answer must not take longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a node's error message that are passed on.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// The pod of the request, as far as it matters here.
struct Pod {
    object: Value,
    name: String,
    namespace: String,
}

async fn pod(call: &Call, served: &Served) -> Result<Pod, Status> {
    let (namespace, name) = (call.namespace().to_owned(), call.name().to_owned());
    let found = live(&call.core, served.resource, &served.resource.key(&namespace, &name)).await?;
    let live = found.ok_or_else(|| Status::not_found(served.resource.kind(), &name))?;
    Ok(Pod { object: live.object.into_value(), name, namespace })
}

impl Pod {
    fn node(&self) -> &str {
        self.object["spec"]["nodeName"].as_str().unwrap_or_default()
    }

    fn names(&self, list: &str) -> Vec<&str> {
        self.object["spec"][list].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
    }

    /// The container that is asked for, or the only one.
    fn container(&self, asked: Option<&str>) -> Result<String, Status> {
        let (containers, init) = (self.names("containers"), self.names("initContainers"));
        if let Some(asked) = asked {
            let known = ["containers", "initContainers", "ephemeralContainers"];
            if known.iter().any(|list| self.names(list).contains(&asked)) {
                return Ok(asked.to_owned());
            }
            return Err(Status::bad_request(format!("container {asked} is not valid for pod {}", self.name)));
        }
        match containers.as_slice() {
            [only] => Ok((*only).to_owned()),
            several => {
                let mut message = format!(
                    "a container name must be specified for pod {}, choose one of: [{}]",
                    self.name,
                    several.join(" ")
                );
                if !init.is_empty() {
                    message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(message))
            }
        }
    }
}

/// Escapes one query value (RFC 3986).
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The query for the node: the parameters `from` under the names `to`.
fn query<'a>(call: &'a Call, names: &[(&'a str, &str)]) -> String {
    let mut out = String::new();
    for (from, to) in names {
        for value in call.info.query.all(from) {
            out.push(if out.is_empty() { '?' } else { '&' });
            out.push_str(&format!("{to}={}", escape(value)));
        }
    }
    out
}

/// Answers `GET pods/{name}/log`.
pub(crate) async fn log(call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let pod = pod(&call, served).await?;
    check_log_options(&call)?;
    let container = pod.container(call.info.query.given("container"))?;
    if pod.node().is_empty() {
        // Nothing has run yet, so there is nothing to read.
        return Ok(respond::text(StatusCode::OK, ""));
    }
    let names = ["follow", "previous", "timestamps", "tailLines", "sinceSeconds", "sinceTime", "limitBytes", "stream"];
    let path = format!(
        "/containerLogs/{}/{}/{container}{}",
        pod.namespace,
        pod.name,
        query(&call, &names.map(|name| (name, name)))
    );
    let request = Request::get(path).header(header::HOST, "node").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Status::bad_request(error.to_string()))?;
    let response = send(&call, pod.node(), request).await?;
    if response.status() != StatusCode::OK {
        return Err(node_error(response).await);
    }
    let body = response.into_body().map_err(|error| -> BodyError { error.into() });
    let mut answer = respond::with_body(StatusCode::OK, Body::stream(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

fn check_log_options(call: &Call) -> Result<(), Status> {
    let query = &call.info.query;
    let invalid = |field: &str, value: &str, why: &str| {
        let message = format!("PodLogOptions \"\" is invalid: {field}: Invalid value: {value}: {why}");
        Err(Status::new(422, "Invalid", message))
    };
    for (field, least) in [("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)] {
        let Some(text) = query.given(field) else { continue };
        match text.parse::<i64>() {
            Ok(number) if number >= least => {}
            Ok(_) if least == 0 => return invalid(field, text, "must be greater than or equal to 0"),
            Ok(_) => return invalid(field, text, "must be greater than 0"),
            Err(_) => {
                return Err(Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
            }
        }
    }
    if query.given("sinceSeconds").is_some() && query.given("sinceTime").is_some() {
        let message =
            "PodLogOptions \"\" is invalid: : Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
        return Err(Status::new(422, "Invalid", message));
    }
    Ok(())
}

/// Answers exec, attach and portforward: hands the client's connection through to the node.
pub(crate) async fn stream(mut call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let pod = pod(&call, served).await?;
    let subresource = call.target().subresource.clone();
    let container = match subresource.as_str() {
        "portforward" => None,
        _ => Some(pod.container(call.info.query.given("container"))?),
    };
    if pod.node().is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", pod.name)));
    }
    check_upgrade(&call.headers)?;
    let base = format!("{}/{}", pod.namespace, pod.name);
    let streams =
        [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"), ("command", "command")];
    let path = match (subresource.as_str(), container) {
        ("exec", Some(container)) => format!("/exec/{base}/{container}{}", query(&call, &streams)),
        ("attach", Some(container)) => format!("/attach/{base}/{container}{}", query(&call, &streams[..4])),
        _ => format!("/portForward/{base}{}", query(&call, &[("ports", "port")])),
    };
    let mut request = Request::get(path).header(header::HOST, "node");
    if let Some(headers) = request.headers_mut() {
        forward(&call.headers, headers, |name| {
            matches!(name.as_str(), "upgrade" | "connection" | "origin" | "x-stream-protocol-version")
                || name.as_str().starts_with("sec-websocket-")
        });
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| Status::bad_request(error.to_string()))?;
    let response = send(&call, pod.node(), request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(node_error(response).await);
    }
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    forward(response.headers(), answer.headers_mut(), |name| {
        matches!(name.as_str(), "upgrade" | "connection") || name.as_str().starts_with("sec-websocket-")
    });
    let client = hyper::upgrade::on(&mut call.request);
    let node = hyper::upgrade::on(response);
    let place = call.place.clone();
    call.core.tasks.spawn("stream", async move {
        let _place = place;
        match tokio::try_join!(client, node) {
            Ok((client, node)) => {
                let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
                // Either side may end the stream; an error is such an end.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
            }
            Err(error) => tracing::debug!(%error, "a stream's connection could not be taken over"),
        }
    });
    Ok(answer)
}

/// Streams run over WebSockets; older clients' SPDY is refused in words that `kubectl` shows.
fn check_upgrade(headers: &HeaderMap) -> Result<(), Status> {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("websocket") {
        return Ok(());
    }
    Err(Status::bad_request(if upgrade.to_ascii_uppercase().starts_with("SPDY") {
        "SPDY streaming is not served: use a client that streams over WebSockets, as kubectl does since version 1.31"
    } else {
        "Upgrade request required"
    }))
}

fn forward(from: &HeaderMap, to: &mut HeaderMap, wanted: impl Fn(&HeaderName) -> bool) {
    for (name, value) in from.iter().filter(|(name, _)| wanted(name)) {
        to.append(name.clone(), value.clone());
    }
}

/// Sends a request to a node over a connection of its own.
async fn send(call: &Call, node: &str, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Status> {
    let unreachable = |why: String| Status::internal_error(format!("error dialing backend: {why}"));
    let exchange = async {
        let stream = call.core.node_dialer.dial(node).await.map_err(|error| unreachable(error.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
        call.core.tasks.spawn("node-connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "the connection to a node ended with an error");
            }
        });
        sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))
    };
    match tokio::time::timeout(ANSWER_LIMIT, exchange).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(format!("node {node} did not answer in time"))),
    }
}

/// What the node said went wrong, as a `Status`.
async fn node_error(response: Response<Incoming>) -> Status {
    let code = response.status();
    let body = Limited::new(response.into_body(), MESSAGE_LIMIT).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    let status: Option<Value> = serde_json::from_str(&text).ok();
    let message = status.and_then(|status| status["message"].as_str().map(str::to_owned)).unwrap_or(text);
    let (code, reason) = match code.as_u16() {
        400 => (400, "BadRequest"),
        403 => (403, "Forbidden"),
        404 => (404, "NotFound"),
        code @ 401..=499 => (code, ""),
        503 => (503, "ServiceUnavailable"),
        _ => (500, "InternalError"),
    };
    Status::new(code, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_are_chosen_as_kubernetes_does() {
        let pod = |containers: &[&str], init: &[&str]| Pod {
            object: json!({ "spec": {
                "containers": containers.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
                "initContainers": init.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
            } }),
            name: "p".into(),
            namespace: "n".into(),
        };
        let check = |pod: Pod, asked: Option<&str>, expected: Result<&str, &str>| {
            let result = pod.container(asked).map_err(|status| status.message);
            assert_eq!(result.as_deref().map_err(String::as_str), expected);
        };
        check(pod(&["a"], &["i"]), None, Ok("a"));
        check(pod(&["a", "b"], &[]), Some("b"), Ok("b"));
        check(pod(&["a"], &["i"]), Some("i"), Ok("i"));
        check(pod(&["a", "b"], &[]), None, Err("a container name must be specified for pod p, choose one of: [a b]"));
        check(
            pod(&["a", "b"], &["i"]),
            None,
            Err(
                "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
            ),
        );
        check(pod(&["a"], &[]), Some("c"), Err("container c is not valid for pod p"));
    }

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(escape("sh -c 'a&b'"), "sh%20-c%20%27a%26b%27");
    }
}
