//! How a stream speaks to one of its pumps: an end, and a question how far it is.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

#[derive(Default)]
pub(super) struct Control {
    cancelled: AtomicBool,
    asked: AtomicBool,
    waker: AtomicWaker,
}

/// What the pump is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The client ends the watch.
    Cancel,
    /// The client wants to know how far the watch is.
    Ask,
}

impl Control {
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// The next word for the pump. A question is answered once; an end stays.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Word> {
        let word = || {
            if self.is_cancelled() {
                Some(Word::Cancel)
            } else {
                self.asked.swap(false, Ordering::AcqRel).then_some(Word::Ask)
            }
        };
        if let Some(word) = word() {
            return Poll::Ready(word);
        }
        self.waker.register(context.waker());
        // What came before the waker stood woke nobody.
        word().map_or(Poll::Pending, Poll::Ready)
    }
}
