//! The API as a service in this process: the same pipeline without the wire, for the control plane's own parts.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use tower::Service;

use crate::{
    body::{self, Body, BodyError, ResponseFuture},
    core::Core,
    identity::Identity,
    pipeline::{self, Peer},
};

/// Sends requests as one identity. A clone sends as the same.
#[derive(Clone)]
pub struct LocalService {
    core: Arc<Core>,
    identity: Identity,
}

impl LocalService {
    pub(crate) fn new(core: Arc<Core>, identity: Identity) -> Self {
        LocalService { core, identity }
    }
}

impl<B> Service<Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let peer = Peer::Local(self.identity.clone());
        pipeline::handle(self.core.clone(), peer, request.map(body::incoming)).map(Ok).boxed()
    }
}
