//! Proposals on their way to the writer.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use mvcc::{Command, Response};
use parking_lot::{Condvar, Mutex};
use store_api::StoreError;
use tokio::sync::oneshot;

/// Proposals that wait at most.
const MAX_PENDING: usize = 16 * 1024;
/// Bytes of proposals that wait at most.
const MAX_PENDING_BYTES: usize = 64 << 20;

/// What a proposal's caller hears.
pub type Answer = Result<Response, StoreError>;

pub struct Proposal {
    pub command: Command,
    pub entry: Bytes,
    pub answer: oneshot::Sender<Answer>,
    /// The request's span, so that the fsync which carried it can be found from it.
    pub span: tracing::Span,
}

#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Proposal>,
    bytes: usize,
    /// The writer sleeps and must be woken.
    sleeping: bool,
    closed: bool,
}

impl Queue {
    /// Hands a proposal to the writer.
    pub fn push(&self, proposal: Proposal) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(StoreError::Stopped);
        }
        if inner.waiting.len() >= MAX_PENDING || inner.bytes + proposal.entry.len() > MAX_PENDING_BYTES {
            return Err(StoreError::TooManyRequests);
        }
        inner.bytes += proposal.entry.len();
        inner.waiting.push_back(proposal);
        self.wake(&mut inner);
        Ok(())
    }

    /// Waits for proposals and takes at most `count` and about `bytes` of them. Returns none after `patience`;
    /// `false` when the queue is closed and empty.
    pub fn take(&self, into: &mut Vec<Proposal>, count: usize, bytes: usize, patience: Option<Duration>) -> bool {
        let mut inner = self.inner.lock();
        while inner.waiting.is_empty() {
            if inner.closed {
                return false;
            }
            inner.sleeping = true;
            match patience {
                None => self.arrived.wait(&mut inner),
                Some(patience) => {
                    if self.arrived.wait_for(&mut inner, patience).timed_out() {
                        inner.sleeping = false;
                        return true;
                    }
                }
            }
        }
        inner.sleeping = false;
        inner.drain(into, count, bytes);
        true
    }

    /// As [`Queue::take`], without waiting.
    pub fn take_more(&self, into: &mut Vec<Proposal>, count: usize, bytes: usize) {
        self.inner.lock().drain(into, count, bytes);
    }

    /// Takes no more proposals; those that wait are still done.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        self.wake(&mut inner);
    }

    /// Drops what waits: nobody will do it. Their callers hear that the answer is lost.
    pub fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.inner.lock().waiting);
        drop(waiting);
    }

    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    pub fn len(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    fn wake(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.sleeping) {
            self.arrived.notify_one();
        }
    }
}

impl Inner {
    fn drain(&mut self, into: &mut Vec<Proposal>, count: usize, bytes: usize) {
        let mut taken = 0;
        while into.len() < count && taken < bytes {
            let Some(proposal) = self.waiting.pop_front() else { break };
            taken += proposal.entry.len();
            into.push(proposal);
        }
        self.bytes -= taken;
    }
}
