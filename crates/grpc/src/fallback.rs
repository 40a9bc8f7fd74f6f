//! Everything that no registered method answers: any tower service over `http`'s types, with bodies streamed both ways.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Extensions, Request, Response, StatusCode, Uri, uri::PathAndQuery};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use tower::ServiceExt;

use crate::{
    answer,
    head::Head,
    pipe::{Closed, End, Pipe},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;
type Responding<'a> = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send + 'a>>;

/// The body of a request, as it arrives.
pub struct Body(Source);

enum Source {
    Http2(Arc<Pipe>),
    Http1(hyper::body::Incoming),
}

impl Body {
    pub(crate) fn http1(body: hyper::body::Incoming) -> Self {
        Body(Source::Http1(body))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Source::Http1(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Source::Http2(pipe) => {
                pipe.poll_read(context).map(|read| Some(read.transpose()?.map(Frame::data).map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Http1(body) => body.is_end_stream(),
            Source::Http2(pipe) => pipe.is_finished(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Http1(body) => body.size_hint(),
            Source::Http2(_) => SizeHint::default(),
        }
    }
}

/// A tower service without its types.
pub(crate) trait Fallback: Send + Sync + 'static {
    fn call(&self, request: Request<Body>) -> Responding<'_>;
}

pub(crate) struct FromTower<S>(pub S);

impl<S, B> Fallback for FromTower<S>
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<Infallible>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: Request<Body>) -> Responding<'_> {
        let service = self.0.clone();
        Box::pin(async move {
            match service.oneshot(request).await.map_err(Into::into) {
                Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
            }
        })
    }
}

pub(crate) fn not_found() -> Response<ResponseBody> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// The request of a head; `None` where `http` does not take it.
pub(crate) fn request(head: &Head, extensions: &Extensions, pipe: &Arc<Pipe>) -> Option<Request<Body>> {
    let mut uri = Uri::builder().path_and_query(PathAndQuery::try_from(&head.path[..]).ok()?);
    if !head.authority.is_empty() {
        uri = uri.scheme(&head.scheme[..]).authority(&head.authority[..]);
    }
    let mut request = Request::builder().method(&head.method[..]).version(http::Version::HTTP_2).uri(uri.build().ok()?);
    for field in &head.fields {
        request = request.header(&field.name[..], &field.value[..]);
    }
    let mut request = request.body(Body(Source::Http2(pipe.clone()))).ok()?;
    request.extensions_mut().extend(extensions.clone());
    Some(request)
}

/// Carries a response to the stream.
pub(crate) async fn carry(response: Response<ResponseBody>, pipe: Arc<Pipe>) {
    let (parts, mut body) = response.into_parts();
    pipe.set_head(answer::response_block(parts.status, &parts.headers));
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return pipe.finish(End::Broken) };
        let frame = match frame.into_data() {
            Ok(data) => match pipe.send(|rope| rope.put_shared(&data)).await {
                Ok(()) => continue,
                Err(Closed) => return,
            },
            Err(frame) => frame,
        };
        if let Ok(trailers) = frame.into_trailers() {
            return pipe.finish(End::Done(Some(answer::trailers_block(&trailers))));
        }
    }
    pipe.finish(End::Done(None));
}
