//! The future of one call, with the time that its caller gives it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

use crate::{
    Status,
    server::{Streaming, Unary},
};

pub(super) struct Running<R> {
    pub stream: u32,
    work: Work<R>,
    deadline: Option<Pin<Box<Sleep>>>,
}

pub(super) enum Work<R> {
    Unary(Unary<R>),
    Streaming(Streaming),
    Fallback(Pin<Box<dyn Future<Output = ()> + Send>>),
}

pub(super) enum Done<R> {
    Unary(Result<R, Status>),
    Streaming(Result<(), Status>),
    Fallback,
    /// The time was over first.
    Late,
}

impl<R> Running<R> {
    pub fn new(stream: u32, work: Work<R>, limit: Option<Duration>) -> Self {
        Running { stream, work, deadline: limit.map(|limit| Box::pin(tokio::time::sleep(limit))) }
    }
}

impl<R> Future for Running<R> {
    type Output = Done<R>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Done<R>> {
        let done = match &mut self.work {
            Work::Unary(future) => future.as_mut().poll(context).map(Done::Unary),
            Work::Streaming(future) => future.as_mut().poll(context).map(Done::Streaming),
            Work::Fallback(future) => future.as_mut().poll(context).map(|()| Done::Fallback),
        };
        match &mut self.deadline {
            // A call that is answered at once never sets a timer.
            Some(deadline) if done.is_pending() => deadline.as_mut().poll(context).map(|()| Done::Late),
            _ => done,
        }
    }
}
