//! Exec, attach and port-forward over WebSocket: kubelet's `/exec`, `/attach` and `/portForward`. Knows the containers'
//! streams and the pods' network namespaces; what runs where it asks the directory.

use containers::Runtime;
use http::StatusCode;
use hyper::{Request, Response, body::Incoming};
use runtime::{Clock, Tasks};

use crate::{directory::Directory, server::Body};

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

/// Answers a request whose path begins with `/exec/`, `/attach/` or `/portForward/` (then
/// `{namespace}/{pod}[/{uid}][/{container}]`), usually with `101 Switching Protocols` and a session spawned on
/// [`StreamingState::tasks`].
pub async fn handle(state: StreamingState, request: Request<Incoming>) -> Response<Body> {
    let _ = (state, request);
    crate::server::text(StatusCode::NOT_IMPLEMENTED, "streaming is not served yet\n")
}
