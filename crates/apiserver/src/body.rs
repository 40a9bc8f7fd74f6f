//! Bodies: what a request brings, read within a bound, and what a response streams.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use registry::Status;

use crate::fairness::Place;

/// Any error of a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, whoever sends it.
pub(crate) type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// Wraps a body of any kind.
pub(crate) fn incoming<B>(body: B) -> RequestBody
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Reads a body of at most `limit` bytes. One that says beforehand that it is larger is not read at all.
pub(crate) async fn read(mut body: RequestBody, headers: &HeaderMap, limit: usize) -> Result<Bytes, Status> {
    let too_large = || Status::request_entity_too_large(format!("limit is {limit}"));
    let announced = headers.get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(too_large());
        }
        if first.is_empty() && rest.is_empty() {
            // Most bodies come in one piece, which is then not copied.
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// What is to be done when a response has been sent or dropped.
pub(crate) trait OnEnd: Send {
    fn ended(&mut self, bytes: u64);
}

/// A response's body.
pub struct Body {
    kind: Kind,
    sent: u64,
    /// Held until the last byte has been taken, so that a response being sent counts as in flight.
    place: Option<Place>,
    on_end: Option<Box<dyn OnEnd>>,
}

enum Kind {
    Done,
    Full(Bytes),
    Chunks(Box<dyn Iterator<Item = Bytes> + Send>),
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Kind::Done.into()
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Kind::Full(bytes.into()).into()
    }

    /// Pieces that are made when the connection has room for them.
    pub(crate) fn chunks(chunks: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        Kind::Chunks(Box::new(chunks)).into()
    }

    pub(crate) fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Kind::Stream(Box::pin(body)).into()
    }

    pub(crate) fn hold(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    pub(crate) fn on_end(mut self, on_end: impl OnEnd + 'static) -> Self {
        self.on_end = Some(Box::new(on_end));
        self
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Body { kind, sent: 0, place: None, on_end: None }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.kind {
            Kind::Done => None,
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Done;
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Kind::Chunks(chunks) => chunks.next().map(|bytes| Ok(Frame::data(bytes))),
            Kind::Stream(stream) => match stream.as_mut().poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            },
        };
        match &frame {
            Some(Ok(frame)) => this.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => {
                this.kind = Kind::Done;
                this.place = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Done => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Chunks(_) => false,
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Done => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Chunks(_) => SizeHint::default(),
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(mut on_end) = self.on_end.take() {
            on_end.ended(self.sent);
        }
    }
}

/// A future whose result is a response; the type that crosses the service seam.
pub type ResponseFuture = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};

    async fn check(pieces: &[&'static str], announced: Option<&str>, expected: Result<&str, u16>) {
        let frames: Vec<Result<_, BodyError>> =
            pieces.iter().map(|p| Ok(Frame::data(Bytes::from_static(p.as_bytes())))).collect();
        let body = incoming(StreamBody::new(futures::stream::iter(frames)));
        let mut headers = HeaderMap::new();
        if let Some(length) = announced {
            headers.insert("content-length", length.parse().unwrap());
        }
        let result = read(body, &headers, 8).await.map_err(|status| status.code);
        assert_eq!(result, expected.map(|text| Bytes::copy_from_slice(text.as_bytes())), "{pieces:?}");
    }

    #[tokio::test]
    async fn reading_stops_at_the_limit() {
        check(&[], None, Ok("")).await;
        check(&["abc"], Some("3"), Ok("abc")).await;
        check(&["abc", "de", "fgh"], None, Ok("abcdefgh")).await;
        check(&["abc", "de", "fghi"], None, Err(413)).await;
        check(&[], Some("100000000"), Err(413)).await;
    }

    #[tokio::test]
    async fn a_full_body_tells_its_length() {
        let body = Body::full("abc");
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert_eq!(incoming(Full::new(Bytes::new())).collect().await.unwrap().to_bytes(), "");
    }
}
