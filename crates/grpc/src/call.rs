//! What a handler gets: the call's head, the messages that arrive, and the way to send messages.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use http::Extensions;

use crate::{
    Closed, Code, Encode, Status,
    head::Head,
    message::{self, PREFIX_BYTES, Prefix},
    pipe::Pipe,
};

/// The head of one call.
#[derive(Clone)]
pub struct Call {
    pub(crate) head: Arc<Head>,
    pub(crate) connection: Arc<Extensions>,
}

impl Call {
    /// The first value of a metadata key, which is given in lower case.
    pub fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.head.get(name.as_bytes()).map(|value| &value[..])
    }

    /// What the caller of [`crate::Server::serve`] said about the connection.
    pub fn extensions(&self) -> &Extensions {
        &self.connection
    }
}

/// The messages of a call that sends many, in order.
pub struct Requests {
    pub(crate) pipe: Arc<Pipe>,
    pub(crate) head: Arc<Head>,
    pub(crate) max_message: usize,
    /// Bytes that are not a whole message yet.
    pub(crate) chunk: Bytes,
    pub(crate) partial: BytesMut,
}

impl Requests {
    pub(crate) fn new(pipe: Arc<Pipe>, head: Arc<Head>, max_message: usize) -> Self {
        Requests { pipe, head, max_message, chunk: Bytes::new(), partial: BytesMut::new() }
    }

    /// The next message; `None` once the client has sent its last. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.whole()? {
                return Poll::Ready(Ok(Some(message)));
            }
            match self.pipe.poll_read(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(bytes))) => self.take(bytes),
                Poll::Ready(Ok(None)) if self.partial.is_empty() => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(message::missing())),
                Poll::Ready(Err(Closed)) => {
                    return Poll::Ready(Err(Status::new(Code::Cancelled, "the client went away")));
                }
            }
        }
    }

    fn take(&mut self, bytes: Bytes) {
        if self.partial.is_empty() {
            self.chunk = bytes;
        } else {
            self.partial.extend_from_slice(&bytes);
        }
    }

    /// A message that lies in one chunk is a part of it; one that does not is put together.
    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        let here = if self.partial.is_empty() { &self.chunk[..] } else { &self.partial[..] };
        let prefix = Prefix::read(here, self.max_message, self.head.encoding.as_ref())?;
        let whole = prefix.filter(|prefix| here.len() >= PREFIX_BYTES + prefix.len);
        let Some(prefix) = whole else {
            if !self.chunk.is_empty() {
                self.partial.extend_from_slice(&self.chunk);
                self.chunk = Bytes::new();
            }
            return Ok(None);
        };
        if self.partial.is_empty() {
            self.chunk.advance(PREFIX_BYTES);
            let sent = self.chunk.split_to(prefix.len);
            return prefix.message(sent, self.max_message).map(Some);
        }
        self.partial.advance(PREFIX_BYTES);
        let message = self.partial.split_to(prefix.len).freeze();
        if self.partial.is_empty() {
            self.partial = BytesMut::new();
        }
        prefix.message(message, self.max_message).map(Some)
    }
}

/// Sends messages to the client of one call. Clones send on the same stream.
#[derive(Clone)]
pub struct Sender {
    pub(crate) pipe: Arc<Pipe>,
}

impl Sender {
    /// Puts a message into the stream's queue, once there is room in it. What the message shares (large `Bytes`) is
    /// not copied.
    pub async fn send(&self, message: &impl Encode) -> Result<(), Closed> {
        let len = message.encoded_len();
        self.pipe.send(|rope| message::put(message, len, rope)).await
    }
}
