//! Drives an [`Engine`] over a socket: reads what comes, lets it work, writes what comes out, in one task.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use futures::stream::{FuturesUnordered, StreamExt};
use http::Extensions;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep},
};
use tokio_util::io::poll_read_buf;

use crate::{
    Encode,
    engine::{Engine, Phase},
    server::Inner,
};

/// Room for one read, at least and at most: it grows while reads fill it.
pub(crate) const MIN_READ_BYTES: usize = 4 * 1024;
const MAX_READ_BYTES: usize = 64 * 1024;
/// Pieces of one vectored write.
const MAX_SLICES: usize = 64;
/// Turns before other tasks have theirs.
const MAX_TURNS: usize = 32;
/// How often the engine hears that time has passed.
const TICK: Duration = Duration::from_secs(20);

/// Why a connection ended otherwise than well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The peer said nothing for too long at the beginning.
    #[error("the client sent no whole preface in time")]
    Silent,
}

pub(crate) struct Connection<IO, R, S> {
    io: IO,
    engine: Engine<R>,
    /// Asks for the end. In a set, so that it is polled when it was woken, and not whenever the connection is: what all
    /// connections wait on alike is dear to look at.
    stop: FuturesUnordered<Pin<Box<S>>>,
    tick: Pin<Box<Sleep>>,
    /// When to look whether the peer is there.
    look: Option<Pin<Box<Sleep>>>,
    begun: Instant,
    /// Room for the next read.
    room: usize,
    /// Written, and not yet flushed.
    unflushed: bool,
}

impl<IO, R, S> Connection<IO, R, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    R: Encode + Send + 'static,
    S: Future<Output = ()>,
{
    /// `first` was read already; `stop` asks for the end of the connection once its calls have ended.
    pub fn new(io: IO, server: Arc<Inner<R>>, extensions: Arc<Extensions>, first: BytesMut, stop: Pin<Box<S>>) -> Self {
        let look = server.keep_alive.first_look().map(|after| Box::pin(tokio::time::sleep(after)));
        let engine = Engine::new(server, extensions, first);
        let tick = Box::pin(tokio::time::sleep(TICK));
        let begun = tick.deadline() - TICK;
        Connection {
            io,
            engine,
            stop: FuturesUnordered::from_iter([stop]),
            tick,
            look,
            begun,
            room: MIN_READ_BYTES,
            unflushed: false,
        }
    }

    fn poll_stop(&mut self, context: &mut Context<'_>) {
        if let Poll::Ready(Some(())) = self.stop.poll_next_unpin(context) {
            self.engine.drain();
        }
    }

    fn poll_tick(&mut self, context: &mut Context<'_>) {
        while self.tick.as_mut().poll(context).is_ready() {
            let next = self.tick.deadline() + TICK;
            self.tick.as_mut().reset(next);
            self.engine.tick();
        }
        if let Some(look) = &mut self.look {
            while look.as_mut().poll(context).is_ready() {
                let next = look.deadline() + self.engine.look();
                look.as_mut().reset(next);
            }
        }
    }

    /// Pings are judged by when they come.
    fn judge(&mut self) {
        if self.engine.was_pinged() {
            let now = tokio::time::sleep(Duration::ZERO).deadline();
            self.engine.judge_pings(now - self.begun);
        }
    }

    /// Reads once. `Ready(false)` at the end of what the peer sends.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let input = &mut self.engine.input;
        input.reserve(self.room);
        let room = input.capacity() - input.len();
        let count = ready!(poll_read_buf(Pin::new(&mut self.io), context, input))?;
        if count == room {
            self.room = (self.room * 4).min(MAX_READ_BYTES);
        } else if count < self.room / 16 {
            self.room = MIN_READ_BYTES;
        }
        Poll::Ready(Ok(count > 0))
    }

    /// Writes until nothing is left or the socket takes no more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.engine.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.engine.output.slices(&mut slices);
            let io = Pin::new(&mut self.io);
            let written = match &slices[..count] {
                [one] => ready!(io.poll_write(context, one))?,
                many => ready!(io.poll_write_vectored(context, many))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.engine.output.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Works until there is nothing to do, or for long enough.
    fn work(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..MAX_TURNS {
            // What an output that was full has held up is taken up again once it is written.
            let mut busy = self.engine.is_full();
            if !busy {
                if self.engine.phase != Phase::Closing {
                    match self.poll_read(context)? {
                        Poll::Ready(true) => busy = true,
                        Poll::Ready(false) => return Poll::Ready(Ok(())),
                        Poll::Pending => {}
                    }
                }
                busy |= self.engine.turn();
                self.judge();
            }
            if self.poll_write(context)?.is_pending() && self.engine.is_full() {
                // The socket wakes the task; until then nobody else need.
                return Poll::Pending;
            }
            if self.engine.is_over() && self.engine.output.is_empty() {
                return Pin::new(&mut self.io).poll_shutdown(context);
            }
            if !busy && self.engine.ready.rest() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<IO, R, S> Future for Connection<IO, R, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    R: Encode + Send + 'static,
    S: Future<Output = ()>,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.engine.ready.begin(context.waker());
        self.poll_stop(context);
        self.poll_tick(context);
        let ended = ready!(self.work(context));
        self.engine.close();
        Poll::Ready(ended.map_err(Error::Io))
    }
}
