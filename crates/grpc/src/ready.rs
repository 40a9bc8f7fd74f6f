//! What a connection's task is woken for: calls whose futures want to be polled, and streams that have something to
//! send. Many wake-ups between two polls cost one wake of the task.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// Shared by the connection's task and by everyone who may wake it.
#[derive(Default)]
pub(crate) struct Ready {
    lists: Mutex<Lists>,
    task: AtomicWaker,
    /// The task is awake, or has been woken.
    awake: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Lists {
    /// Places in the set of calls.
    pub calls: Vec<u32>,
    /// Stream numbers.
    pub streams: Vec<u32>,
}

impl Ready {
    /// The connection's task begins to work: nobody need wake it until [`Ready::rest`].
    pub fn begin(&self, waker: &Waker) {
        self.task.register(waker);
        self.awake.store(true, Ordering::Release);
    }

    /// The task is about to wait; `false` if something came meanwhile.
    pub fn rest(&self) -> bool {
        self.awake.store(false, Ordering::SeqCst);
        let lists = self.lists.lock();
        let idle = lists.calls.is_empty() && lists.streams.is_empty();
        if !idle {
            self.awake.store(true, Ordering::Release);
        }
        idle
    }

    /// Takes what waits. The lists given are empty, and lend their room.
    pub fn take(&self, into: &mut Lists) {
        std::mem::swap(into, &mut *self.lists.lock());
    }

    /// A stream has something for the connection.
    pub fn stream(&self, id: u32) {
        self.lists.lock().streams.push(id);
        self.wake();
    }

    fn call(&self, place: u32) {
        self.lists.lock().calls.push(place);
        self.wake();
    }

    fn wake(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

/// Wakes one place of a [`CallSet`].
struct Place {
    number: u32,
    listed: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.ready.call(self.number);
        }
    }
}

/// The futures of a connection's calls. A place and its waker serve one call after the other: a call costs no
/// allocation here. A waker that outlives its call wakes a stranger for nothing, which is harmless.
pub(crate) struct CallSet<F> {
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    ready: Arc<Ready>,
}

struct Slot<F> {
    future: Option<F>,
    place: Arc<Place>,
    waker: Waker,
}

impl<F: Future + Unpin> CallSet<F> {
    pub fn new(ready: Arc<Ready>) -> Self {
        CallSet { slots: Vec::new(), free: Vec::new(), ready }
    }

    /// Adds a future. It is not polled before somebody says so.
    pub fn insert(&mut self, future: F) -> u32 {
        if let Some(number) = self.free.pop() {
            self.slots[number as usize].future = Some(future);
            return number;
        }
        let number = self.slots.len() as u32;
        let place = Arc::new(Place { number, listed: AtomicBool::new(false), ready: self.ready.clone() });
        self.slots.push(Slot { future: Some(future), waker: Waker::from(place.clone()), place });
        number
    }

    /// Ends a future where it waits.
    pub fn remove(&mut self, number: u32) -> Option<F> {
        let future = self.slots.get_mut(number as usize)?.future.take()?;
        self.free.push(number);
        Some(future)
    }

    /// Polls one. A future that is done leaves the set and comes back with its result.
    pub fn poll(&mut self, number: u32) -> Option<(F, F::Output)> {
        let slot = self.slots.get_mut(number as usize)?;
        slot.place.listed.store(false, Ordering::Release);
        let future = slot.future.as_mut()?;
        match Pin::new(future).poll(&mut Context::from_waker(&slot.waker)) {
            Poll::Pending => None,
            Poll::Ready(output) => Some((self.remove(number)?, output)),
        }
    }
}
