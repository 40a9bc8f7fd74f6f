//! One HTTP/2 connection without its socket: bytes go in, bytes come out, calls run in between.
//!
//! ```text
//!   input ─▶ receive (frames) ─▶ open (calls) ─▶ CallSet ─▶ finish ─▶ send (windows) ─▶ output
//! ```
//!
//! What waits is bounded: requests by the windows and [`MAX_HELD_BYTES`], answers by each stream's queue and by the
//! driver, which lets nothing happen while [`OUTPUT_BYTES`] wait for the peer. What costs work and brings nothing is
//! bounded by a [`Budget`].

mod alive;
mod budget;
mod open;
mod receive;
mod running;
mod send;
mod settings;
mod stream;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::Extensions;

use crate::{
    Code, Encode, Rope,
    answer::Answers,
    frame::{self, Reason},
    head::Head,
    hpack::Decoder,
    message::{self, Prefix},
    pipe::End,
    ready::{CallSet, Lists, Ready},
    server::Inner,
};
use alive::Alive;
use budget::Budget;
use receive::Block;
use running::{Done, Running};
use stream::{Body, Stream, Streams};

/// Bytes that wait for the peer to read before everything else on its connection waits too.
pub(crate) const OUTPUT_BYTES: usize = 256 * 1024;
/// Bytes that a peer may send ahead on one stream, and on all streams of a connection.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 4 << 20;
/// Read bytes are given back to a stream's window in amounts of at least this.
pub(crate) const STREAM_CREDIT_FROM: usize = 8 * 1024;
/// Bytes of requests that nobody has read, over all streams: past it the connection's window is not opened further,
/// and a call whose only message would go past it is ended.
const MAX_HELD_BYTES: usize = 64 << 20;
/// Streams that this side ended first, and whose late frames are passed over.
const MAX_FORGIVEN: usize = 256;
/// Heads remembered by their blocks.
const MAX_HEADS: usize = 8;

/// The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fatal(pub Reason);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// No new streams; over once the last one is.
    Draining,
    /// Over once what waits is written.
    Closing,
}

pub(crate) struct Engine<R> {
    server: Arc<Inner<R>>,
    extensions: Arc<Extensions>,
    /// What was read and not yet taken.
    pub input: BytesMut,
    /// What is to be written.
    pub output: Rope,
    pub ready: Arc<Ready>,
    pub phase: Phase,
    lists: Lists,
    calls: CallSet<Running<R>>,
    streams: Streams,
    decoder: Decoder,
    /// The heads of blocks that change no table, at the decoder's generation.
    heads: Vec<(Bytes, Arc<Head>)>,
    heads_generation: u64,
    answers: Answers,
    /// The preface and the first settings have come.
    greeted: bool,
    settled: bool,
    last_stream: u32,
    /// A header block whose continuations have not all come.
    block: Option<Block>,
    send_window: i64,
    /// The window that a new stream has for sending.
    initial_window: i64,
    receive_window: i64,
    /// Received and not yet given back to the peer's connection window.
    uncredited: u32,
    held: usize,
    /// Streams with something to send, in turn; and those that wait for the connection's window.
    pending: VecDeque<u32>,
    starved: VecDeque<u32>,
    forgiven: VecDeque<u32>,
    budget: Budget,
    alive: Alive,
}

impl<R: Encode + Send + 'static> Engine<R> {
    /// A connection of which `input` was read already.
    pub fn new(server: Arc<Inner<R>>, extensions: Arc<Extensions>, input: BytesMut) -> Self {
        let ready = Arc::new(Ready::default());
        let mut output = Rope::default();
        settings::greet(server.max_streams, output.tail());
        Engine {
            server,
            extensions,
            input,
            output,
            calls: CallSet::new(ready.clone()),
            ready,
            phase: Phase::Open,
            lists: Lists::default(),
            streams: Streams::default(),
            decoder: Decoder::new(),
            heads: Vec::new(),
            heads_generation: 0,
            answers: Answers::new(),
            greeted: false,
            settled: false,
            last_stream: 0,
            block: None,
            send_window: frame::DEFAULT_WINDOW,
            initial_window: frame::DEFAULT_WINDOW,
            receive_window: i64::from(CONNECTION_WINDOW),
            uncredited: 0,
            held: 0,
            pending: VecDeque::new(),
            starved: VecDeque::new(),
            forgiven: VecDeque::new(),
            budget: Budget::default(),
            alive: Alive::default(),
        }
    }

    /// Whether so much waits for the peer that nothing else may happen.
    pub fn is_full(&self) -> bool {
        self.output.len() >= OUTPUT_BYTES
    }

    /// Whether nothing more will come out.
    pub fn is_over(&self) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Draining => self.streams.is_empty(),
            Phase::Closing => true,
        }
    }

    /// Works off what has come. Returns whether there was anything.
    pub fn turn(&mut self) -> bool {
        let received = self.receive();
        let ran = self.run();
        let sent = self.send();
        received || ran || sent
    }

    /// Polls the calls that were woken, and looks at the streams that have something.
    fn run(&mut self) -> bool {
        let mut lists = std::mem::take(&mut self.lists);
        self.ready.take(&mut lists);
        let any = !lists.calls.is_empty() || !lists.streams.is_empty();
        for place in lists.calls.drain(..) {
            self.poll(place);
        }
        // What the calls have just queued need not wait for another turn.
        self.list(&mut lists.streams);
        self.ready.take(&mut lists);
        self.list(&mut lists.streams);
        // A call that woke another meanwhile: it is polled in the next turn, and its place must not be lost.
        self.lists = lists;
        for place in std::mem::take(&mut self.lists.calls) {
            self.poll(place);
        }
        any
    }

    fn list(&mut self, streams: &mut Vec<u32>) {
        for id in streams.drain(..) {
            self.enlist(id);
        }
    }

    fn poll(&mut self, place: u32) {
        if let Some((running, done)) = self.calls.poll(place) {
            self.finish(running.stream, done);
        }
    }

    /// A call's future is done.
    fn finish(&mut self, id: u32, done: Done<R>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.call = None;
        match done {
            Done::Unary(Ok(reply)) => return self.reply(id, reply),
            Done::Unary(Err(status)) => return self.end(id, Some(status)),
            Done::Late
                if stream.pipe().is_some_and(|pipe| pipe.lock().head.is_some()) || stream.raw && stream.head_sent =>
            {
                return self.reset(id, Reason::Cancel);
            }
            Done::Late => return self.end(id, Some(message::deadline())),
            Done::Streaming(result) => stream.end = Some(result.err()),
            Done::Fallback => {}
        }
        self.enlist(id);
    }

    /// Answers a unary call: at once where the windows allow, and then straight into the output.
    fn reply(&mut self, id: u32, reply: R) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let len = reply.encoded_len();
        let total = len + message::PREFIX_BYTES;
        let room = stream.send_window.min(self.send_window).min(self.answers.max_frame as i64);
        if (total as i64) > room {
            stream.keep = reply.keep();
            message::put_whole(reply, len, &mut stream.out);
            stream.end = Some(None);
            return self.enlist(id);
        }
        self.send_window -= total as i64;
        self.answers.head(id, self.output.tail());
        frame::put_data_head(total, id, self.output.tail());
        message::put(&reply, len, &mut self.output);
        stream.head_sent = true;
        stream.counted.moved(0, total);
        self.end(id, None);
    }

    /// Ends a gRPC call with trailers, and the stream with it.
    fn end(&mut self, id: u32, status: Option<crate::Status>) {
        let Some(mut stream) = self.remove(id) else { return };
        let out = self.output.tail();
        match &status {
            Some(status) => self.answers.bad_end(status, stream.head_sent, id, out),
            None => {
                if !stream.head_sent {
                    self.answers.head(id, out);
                }
                self.answers.good_end(id, out);
            }
        }
        stream.counted.code(status.map_or(Code::Ok, |status| status.code));
        self.ended(id, &stream);
    }

    /// After the last frame of an answer: a peer that has not finished its request need not go on with it.
    fn ended(&mut self, id: u32, stream: &Stream) {
        self.budget.useful();
        self.alive.sent();
        if !stream.finished {
            frame::put_reset(id, Reason::NoError, self.output.tail());
            self.forgive(id);
        }
    }

    /// Ends a stream with an error of its own.
    fn reset(&mut self, id: u32, reason: Reason) {
        self.remove(id);
        frame::put_reset(id, reason, self.output.tail());
        self.forgive(id);
    }

    fn forgive(&mut self, id: u32) {
        if self.forgiven.len() == MAX_FORGIVEN {
            self.forgiven.pop_front();
        }
        self.forgiven.push_back(id);
    }

    fn enlist(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.listed, true)
        {
            self.pending.push_back(id);
        }
    }

    /// No more streams; those that run may end.
    pub fn drain(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            frame::put_go_away(self.last_stream, Reason::NoError, &[], self.output.tail());
        }
    }

    /// The connection is over, for this reason.
    fn fail(&mut self, reason: Reason) {
        frame::put_go_away(self.last_stream, reason, &[], self.output.tail());
        self.close();
    }

    /// Time has passed: what a peer may ask for in vain counts anew, and its settings should be there.
    pub fn tick(&mut self) {
        self.budget = Budget::default();
        if !self.settled {
            self.fail(Reason::SettingsTimeout);
        }
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        let held = self.input.len() + self.output.len() + self.held + self.forgiven.len() + self.heads.len();
        held + self.streams.len() + self.pending.len() + self.starved.len()
    }
}

impl<R> Engine<R> {
    /// Ends all streams at once.
    pub fn close(&mut self) {
        self.phase = Phase::Closing;
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// Forgets a stream: its call ends where it waits, and whoever sends or reads on it hears of it.
    fn remove(&mut self, id: u32) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        if let Some(place) = stream.call {
            self.calls.remove(place);
        }
        if let Body::Pipe(pipe) = &stream.body {
            pipe.close();
        }
        self.held -= stream.held;
        Some(stream)
    }
}

impl<R> Drop for Engine<R> {
    /// However the connection ends, whoever waits on one of its streams hears of it.
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads a whole message of a unary call; what is no whole message, or more than one, is an error.
fn single(stream: &Stream, body: Bytes, max: usize) -> Result<Bytes, crate::Status> {
    let prefix = Prefix::read(&body, max, stream.head.encoding.as_ref())?.ok_or_else(message::missing)?;
    match body.len().cmp(&(prefix.len + message::PREFIX_BYTES)) {
        std::cmp::Ordering::Less => Err(message::missing()),
        std::cmp::Ordering::Equal => prefix.message(body.slice(message::PREFIX_BYTES..), max),
        std::cmp::Ordering::Greater => Err(message::surplus()),
    }
}

/// Whether the handler behind a raw stream has said all.
fn is_open(end: &End) -> bool {
    matches!(end, End::Open)
}
