//! Exec, attach and port-forward over WebSocket: kubelet's `/exec`, `/attach` and `/portForward`. Knows the containers'
//! streams and the pods' network namespaces; what runs where it asks the directory.
//!
//! ```text
//!   handle ─▶ websocket (upgrade) ─┬▶ session      ◀─▶ channels ◀─▶ the container's pipes or terminal
//!                                  └▶ port_forward ◀─▶ spdy     ◀─▶ 127.0.0.1:port in the pod's namespace
//! ```

mod channels;
mod port_forward;
mod session;
mod spdy;
mod websocket;

use containers::{ExecRequest, Runtime};
use http::StatusCode;
use hyper::{Request, Response, body::Incoming};
use runtime::{Clock, Tasks};

use crate::{
    directory::{ContainerTarget, Directory, LookupError},
    server::{Body, text},
};
use channels::Protocol;
use session::Streams;

/// Arguments of a command at most; the request's own size bounds their bytes.
const MAX_ARGUMENTS: usize = 4096;

/// What a streaming request needs of the node.
#[derive(Clone)]
pub struct StreamingState {
    /// Which container a request means ([`Directory::container`]) and where its pod's network is ([`Directory::pod`]).
    pub directory: Directory,
    pub runtime: Runtime,
    /// Sessions run here after the upgrade.
    pub tasks: Tasks,
    pub clock: Clock,
}

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Answers a request whose path begins with `/exec/`, `/attach/` or `/portForward/` (then
/// `{namespace}/{pod}[/{uid}][/{container}]`), usually with `101 Switching Protocols` and a session spawned on
/// [`StreamingState::tasks`].
pub async fn handle(state: StreamingState, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["portForward", namespace, pod] => port_forward(state, request, namespace, pod, None),
        ["portForward", namespace, pod, uid] => port_forward(state, request, namespace, pod, Some(uid)),
        [verb @ ("exec" | "attach"), namespace, pod, container] => {
            run(state.clone(), request, verb, state.directory.container(namespace, pod, None, container))
        }
        [verb @ ("exec" | "attach"), namespace, pod, uid, container] => {
            run(state.clone(), request, verb, state.directory.container(namespace, pod, Some(uid), container))
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn run(
    state: StreamingState,
    mut request: Request<Incoming>,
    verb: &str,
    target: Result<ContainerTarget, LookupError>,
) -> Response<Body> {
    let target = match target {
        Ok(target) => target,
        Err(error) => return text(StatusCode::NOT_FOUND, error.to_string()),
    };
    let query = Query::parse(request.uri().query().unwrap_or_default());
    if !(query.stdin || query.stdout || query.stderr) {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    if verb == "exec" && query.command.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify a command");
    }
    if query.command.len() > MAX_ARGUMENTS {
        return text(StatusCode::BAD_REQUEST, "the command has too many arguments");
    }
    let Some(key) = websocket::key(request.headers()) else {
        return text(StatusCode::BAD_REQUEST, "unable to upgrade: only WebSocket connections are served");
    };
    let offered = websocket::offered(request.headers());
    let Some(protocol) = Protocol::choose(&offered) else {
        return text(
            StatusCode::FORBIDDEN,
            format!("unable to upgrade: unable to negotiate protocol: client supports [{offered}]"),
        );
    };
    let response = websocket::accept(key, protocol.name);
    let upgrade = hyper::upgrade::on(&mut request);
    let is_exec = verb == "exec";
    state.tasks.clone().spawn("streaming", async move {
        match upgrade.await {
            Ok(upgraded) => {
                session::run(websocket::open(upgraded).await, protocol, open(state, target, query, is_exec)).await;
            }
            Err(error) => tracing::debug!(%error, "a streaming client went away before the upgrade"),
        }
    });
    response
}

async fn open(state: StreamingState, target: ContainerTarget, query: Query, is_exec: bool) -> Result<Streams, String> {
    let id = target.container;
    if is_exec {
        let Query { command: argv, stdin, stdout, stderr, tty } = query;
        // A terminal has one output.
        let request = ExecRequest { argv, tty, stdin, stdout, stderr: stderr && !tty };
        let session = state.runtime.exec(&id, request).await.map_err(|error| error.to_string())?;
        let mut streams = Streams::of_exec(session);
        if !stdin {
            streams.stdin = None;
        }
        return Ok(streams);
    }
    let session = state.runtime.attach(&id).await.map_err(|error| error.to_string())?;
    let mut streams = Streams::of_attach(session, state.runtime, id);
    if !query.stdin {
        streams.stdin = None;
    }
    // What nobody asked for is closed, so that nothing waits for it to be read.
    if !query.stderr && !target.tty {
        streams.stderr = None;
    }
    Ok(streams)
}

fn port_forward(
    state: StreamingState,
    mut request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
) -> Response<Body> {
    let found = match state.directory.pod(namespace, pod, uid) {
        Ok(found) => found,
        Err(error) => return text(StatusCode::NOT_FOUND, error.to_string()),
    };
    let Some(key) = websocket::key(request.headers()) else {
        return text(StatusCode::BAD_REQUEST, "unable to upgrade: only WebSocket connections are served");
    };
    let offered = websocket::offered(request.headers());
    if !offered.split(',').any(|name| name.trim() == port_forward::PROTOCOL) {
        return text(
            StatusCode::FORBIDDEN,
            format!("unable to upgrade: unable to negotiate protocol: client supports [{offered}]"),
        );
    }
    let response = websocket::accept(key, port_forward::PROTOCOL);
    let upgrade = hyper::upgrade::on(&mut request);
    let target =
        port_forward::Target { pod: pod.to_owned(), uid: found.uid, netns: found.netns, tasks: state.tasks.clone() };
    state.tasks.spawn("port-forward", async move {
        match upgrade.await {
            Ok(upgraded) => port_forward::run(websocket::open(upgraded).await, target).await,
            Err(error) => tracing::debug!(%error, "a port-forward client went away before the upgrade"),
        }
    });
    response
}

impl Query {
    /// Takes kubelet's names (`input`, `output`, `error`) and those of the API (`stdin`, `stdout`, `stderr`).
    fn parse(query: &str) -> Query {
        let mut parsed = Query::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            let on = matches!(value.as_str(), "1" | "true");
            match decode(name).as_str() {
                "command" => parsed.command.push(value),
                "input" | "stdin" => parsed.stdin = on,
                "output" | "stdout" => parsed.stdout = on,
                "error" | "stderr" => parsed.stderr = on,
                "tty" => parsed.tty = on,
                _ => {}
            }
        }
        parsed
    }
}

/// Percent-decoding of a query (application/x-www-form-urlencoded).
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or_default() << 4 | hex(*low).unwrap_or_default());
                rest = after;
                continue;
            }
            (byte, _) => bytes.push(*byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_query() {
        let expected = Query {
            command: vec!["sh".into(), "-c".into(), "echo a&b 100%".into()],
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        let kubelet = "command=sh&command=-c&command=echo+a%26b%20100%25&input=1&output=1&tty=1";
        let api = "command=sh&command=-c&command=echo%20a%26b+100%&stdin=true&stdout=true&stderr=false&tty=true&x";
        assert_eq!(Query::parse(kubelet), expected);
        assert_eq!(Query::parse(api), expected);
    }
}
