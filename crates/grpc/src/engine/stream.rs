//! One stream: how far its request and its answer have come.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use crate::{Call, Code, Keep, Observer, Rope, Status, head::Head, pipe::Pipe};

/// Streams by their number. The peer counts them up, so that a multiplication spreads them well; and it can put no
/// more of them here than the settings allow, however it chooses.
pub(super) type Streams = HashMap<u32, Stream, BuildHasherDefault<NumberHasher>>;

#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// What happens to the request's bytes.
pub(super) enum Body {
    /// They are collected: the call wants its one message whole.
    Single(Single),
    /// They are handed over as they arrive.
    Pipe(Arc<Pipe>),
}

/// The one message of a unary call.
pub(super) enum Single {
    Nothing,
    /// It lies in one frame.
    Whole(Bytes),
    Partial(BytesMut),
}

impl Single {
    pub fn len(&self) -> usize {
        match self {
            Single::Nothing => 0,
            Single::Whole(bytes) => bytes.len(),
            Single::Partial(bytes) => bytes.len(),
        }
    }

    pub fn add(&mut self, more: Bytes) {
        match self {
            _ if more.is_empty() => {}
            Single::Nothing => *self = Single::Whole(more),
            Single::Whole(first) => {
                let mut both = BytesMut::with_capacity((first.len() + more.len()) * 2);
                both.extend_from_slice(first);
                both.extend_from_slice(&more);
                *self = Single::Partial(both);
            }
            Single::Partial(bytes) => bytes.extend_from_slice(&more),
        }
    }

    pub fn peek(&self) -> &[u8] {
        match self {
            Single::Nothing => &[],
            Single::Whole(bytes) => bytes,
            Single::Partial(bytes) => bytes,
        }
    }

    pub fn take(&mut self) -> Bytes {
        match std::mem::replace(self, Single::Nothing) {
            Single::Nothing => Bytes::new(),
            Single::Whole(bytes) => bytes,
            Single::Partial(bytes) => bytes.freeze(),
        }
    }
}

pub(super) struct Stream {
    pub head: Arc<Head>,
    pub body: Body,
    /// The place of the call's future, while it runs.
    pub call: Option<u32>,
    /// The fallback answers, with head and trailers of its own.
    pub raw: bool,
    /// The peer has sent all of its request.
    pub finished: bool,
    pub head_sent: bool,
    /// It is in one of the queues of those that have something to send.
    pub listed: bool,
    pub send_window: i64,
    pub receive_window: i64,
    /// Received and not yet given back to the stream's window.
    pub uncredited: u32,
    /// Bytes received, as content-length counts them.
    pub received: u64,
    /// Bytes of the request that count as held.
    pub held: usize,
    /// A unary answer that did not go out at once.
    pub out: Rope,
    /// Lives until all of that is sent.
    pub keep: Option<Keep>,
    /// How the handler ended: with an error, or well. Told once what waits is sent.
    pub end: Option<Option<Status>>,
    pub counted: Counted,
}

impl Stream {
    pub fn pipe(&self) -> Option<&Arc<Pipe>> {
        match &self.body {
            Body::Pipe(pipe) => Some(pipe),
            Body::Single(_) => None,
        }
    }
}

/// Tells the observer of the call's end, whatever way it ends.
#[derive(Default)]
pub(super) struct Counted(Option<Begun>);

struct Begun {
    observer: Arc<dyn Observer>,
    method: usize,
    /// What the observer wants to be told again.
    started: Option<Duration>,
    code: Code,
}

impl Counted {
    pub fn start(observer: &Arc<dyn Observer>, method: usize, call: &Call) -> Self {
        let (observer, started) = (observer.clone(), observer.started(method, call));
        Counted(Some(Begun { observer, method, started, code: Code::Cancelled }))
    }

    pub fn moved(&self, received: usize, sent: usize) {
        if let Some(begun) = &self.0 {
            begun.observer.moved(received, sent);
        }
    }

    pub fn code(&mut self, code: Code) {
        if let Some(begun) = &mut self.0 {
            begun.code = code;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(Begun { observer, method, started, code }) = &self.0 {
            observer.ended(*method, *code, *started);
        }
    }
}
