//! Both directions of one stream between the connection and whoever handles the call: what has arrived and was not
//! read, and what is to be sent and was not. Both are bounded: by the stream's window, and by [`QUEUE_BYTES`].

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::{Rope, ready::Ready};

/// Whoever sends waits while so much waits already. One message may go past it.
const QUEUE_BYTES: usize = 256 * 1024;

/// The stream is over: nobody will get what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed")]
pub struct Closed;

pub(crate) struct Pipe {
    stream: u32,
    ready: Arc<Ready>,
    state: Mutex<State>,
    space: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    arrived: VecDeque<Bytes>,
    /// The peer sends no more.
    pub finished: bool,
    /// The stream is over.
    closed: bool,
    reader: Option<Waker>,
    /// Bytes that were read and not yet given back to the peer's window.
    pub consumed: usize,
    /// A header block to be sent before anything else.
    pub head: Option<Bytes>,
    pub out: Rope,
    pub end: End,
    /// The connection knows that there is something here.
    pub listed: bool,
}

/// How the handler ended what it sends.
#[derive(Default, Debug)]
pub(crate) enum End {
    /// Not yet.
    #[default]
    Open,
    /// With a block of trailers, or without.
    Done(Option<Bytes>),
    /// It failed in the middle.
    Broken,
}

impl Pipe {
    pub fn new(stream: u32, ready: Arc<Ready>) -> Arc<Self> {
        Arc::new(Pipe { stream, ready, state: Mutex::default(), space: Notify::new() })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Tells the connection, once, that there is something to do for this stream.
    pub fn list(&self, state: &mut State) {
        if !std::mem::replace(&mut state.listed, true) {
            self.ready.stream(self.stream);
        }
    }

    /// Bytes came from the peer.
    pub fn arrive(&self, bytes: Bytes, finished: bool) {
        let reader = {
            let mut state = self.lock();
            if !bytes.is_empty() && !state.closed {
                state.arrived.push_back(bytes);
            }
            state.finished |= finished;
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next bytes from the peer; `None` at their end.
    pub fn poll_read(&self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Closed>> {
        let mut state = self.lock();
        if let Some(bytes) = state.arrived.pop_front() {
            state.consumed += bytes.len();
            // Small amounts are given back together.
            if !state.finished && state.consumed >= crate::engine::STREAM_CREDIT_FROM {
                self.list(&mut state);
            }
            return Poll::Ready(Ok(Some(bytes)));
        }
        if state.finished {
            return Poll::Ready(Ok(None));
        }
        if state.closed {
            return Poll::Ready(Err(Closed));
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
            state.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }

    pub fn is_finished(&self) -> bool {
        let state = self.lock();
        state.finished && state.arrived.is_empty()
    }

    /// Appends to what is to be sent, once there is room.
    pub async fn send(&self, put: impl FnOnce(&mut Rope)) -> Result<(), Closed> {
        let mut state = loop {
            if let Some(state) = self.room()? {
                break state;
            }
            let space = self.space.notified();
            if let Some(state) = self.room()? {
                break state;
            }
            space.await;
        };
        put(&mut state.out);
        self.list(&mut state);
        Ok(())
    }

    /// The state, if there is room to send.
    fn room(&self) -> Result<Option<MutexGuard<'_, State>>, Closed> {
        let state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        Ok((state.out.len() < QUEUE_BYTES).then_some(state))
    }

    /// The connection has taken what it could.
    pub fn taken(&self, before: usize, after: usize) {
        if before >= QUEUE_BYTES && after < QUEUE_BYTES {
            self.space.notify_waiters();
        }
    }

    pub fn set_head(&self, block: Bytes) {
        let mut state = self.lock();
        state.head = Some(block);
        self.list(&mut state);
    }

    pub fn finish(&self, end: End) {
        let mut state = self.lock();
        state.end = end;
        self.list(&mut state);
    }

    /// The stream is over; wakes everyone who waits for it.
    pub fn close(&self) {
        let reader = {
            let mut state = self.lock();
            state.closed = true;
            state.out = Rope::default();
            state.reader.take()
        };
        self.space.notify_waiters();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
