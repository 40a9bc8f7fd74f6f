//! Frames as they come, and what each means for the connection and its streams (RFC 9113, 5 and 6).

use bytes::{Buf, Bytes, BytesMut};

use super::{
    CONNECTION_WINDOW, Engine, Fatal, MAX_HELD_BYTES, Phase, STREAM_WINDOW,
    stream::{Body, Stream},
};
use crate::{
    Encode,
    frame::{
        self, ACK, DEFAULT_MAX_FRAME, END_HEADERS, END_STREAM, HEAD_BYTES, Head, Kind, MAX_WINDOW, PREFACE, Reason,
    },
    head::{Builder, MAX_LIST_BYTES},
    message,
};

/// Frames that one header block may come in.
const MAX_BLOCK_FRAMES: usize = 16;

/// A header block whose end has not come.
pub(super) struct Block {
    stream: u32,
    finished: bool,
    bytes: BytesMut,
    frames: usize,
}

impl<R: Encode + Send + 'static> Engine<R> {
    /// Takes the whole frames out of the input, for as long as the output has room. Returns whether there were any.
    pub(super) fn receive(&mut self) -> bool {
        let mut any = false;
        while self.phase != Phase::Closing && !self.is_full() {
            match self.step() {
                Ok(true) => any = true,
                Ok(false) => break,
                Err(Fatal(reason)) => {
                    self.fail(reason);
                    return true;
                }
            }
        }
        any
    }

    /// Takes one frame, if it is there whole.
    fn step(&mut self) -> Result<bool, Fatal> {
        if !self.greeted {
            return self.greet();
        }
        let Some(head) = frame::head(&self.input) else { return Ok(false) };
        if head.len > DEFAULT_MAX_FRAME {
            return Err(Fatal(Reason::FrameSizeError));
        }
        let whole = HEAD_BYTES + head.len;
        if self.input.len() < whole {
            self.input.reserve(whole - self.input.len());
            return Ok(false);
        }
        let mut payload = self.input.split_to(whole);
        payload.advance(HEAD_BYTES);
        self.alive.heard = true;
        let expected = match &self.block {
            Some(block) => head.kind == Kind::Continuation && head.stream == block.stream,
            None => self.settled || head.kind == Kind::Settings,
        };
        if !expected {
            return Err(Fatal(Reason::ProtocolError));
        }
        match head.kind {
            Kind::Data => self.data(&head, payload.freeze())?,
            Kind::Headers => self.headers(&head, &payload)?,
            Kind::Continuation => self.continuation(&head, &payload)?,
            Kind::ResetStream => self.reset_by_peer(&head)?,
            Kind::Settings => self.settings_frame(&head, &payload)?,
            Kind::Ping => self.ping(&head, &payload)?,
            Kind::WindowUpdate => self.window_update(&head, &payload)?,
            Kind::PushPromise => return Err(Fatal(Reason::ProtocolError)),
            Kind::GoAway if head.stream != 0 => return Err(Fatal(Reason::ProtocolError)),
            Kind::GoAway if head.len < 8 => return Err(Fatal(Reason::FrameSizeError)),
            Kind::Priority if head.stream == 0 => return Err(Fatal(Reason::ProtocolError)),
            Kind::Priority if head.len != 5 => self.stream_error(head.stream, Reason::FrameSizeError)?,
            Kind::GoAway | Kind::Priority | Kind::Unknown => self.idle_frame()?,
        }
        Ok(true)
    }

    fn greet(&mut self) -> Result<bool, Fatal> {
        let there = self.input.len().min(PREFACE.len());
        if self.input[..there] != PREFACE[..there] {
            return Err(Fatal(Reason::ProtocolError));
        }
        if there < PREFACE.len() {
            return Ok(false);
        }
        self.input.advance(PREFACE.len());
        self.greeted = true;
        Ok(true)
    }

    /// A frame that brings nobody anything.
    pub(super) fn idle_frame(&mut self) -> Result<(), Fatal> {
        if self.budget.idle_frame() { Err(Fatal(Reason::EnhanceYourCalm)) } else { Ok(()) }
    }

    fn stream_error(&mut self, id: u32, reason: Reason) -> Result<(), Fatal> {
        if self.is_idle(id) {
            return Err(Fatal(reason));
        }
        self.reset(id, reason);
        self.idle_frame()
    }

    /// No stream of this number has been opened.
    fn is_idle(&self, id: u32) -> bool {
        id.is_multiple_of(2) || id > self.last_stream
    }

    fn data(&mut self, head: &Head, payload: Bytes) -> Result<(), Fatal> {
        let id = head.stream;
        if self.is_idle(id) {
            return Err(Fatal(Reason::ProtocolError));
        }
        self.receive_window -= head.len as i64;
        if self.receive_window < 0 {
            return Err(Fatal(Reason::FlowControlError));
        }
        self.uncredited += head.len as u32;
        let content = frame::content(head, &payload).map_err(Fatal)?;
        let finished = head.has(END_STREAM);
        let result = match self.streams.get(&id) {
            None if self.forgiven.contains(&id) => self.idle_frame(),
            None => self.stream_error(id, Reason::StreamClosed),
            Some(stream) if stream.finished => self.stream_error(id, Reason::StreamClosed),
            Some(_) => self.content(id, head.len, payload.slice(content), finished),
        };
        self.credit();
        result
    }

    /// Gives what was received back to the connection's window, unless too much of it is unread.
    fn credit(&mut self) {
        if self.uncredited >= CONNECTION_WINDOW / 2 && self.held <= MAX_HELD_BYTES {
            frame::put_window_update(0, self.uncredited, self.output.tail());
            self.receive_window += i64::from(std::mem::take(&mut self.uncredited));
        }
    }

    /// Bytes of a stream's request; `len` is what they count for its window.
    fn content(&mut self, id: u32, len: usize, content: Bytes, finished: bool) -> Result<(), Fatal> {
        if content.is_empty() && !finished {
            self.idle_frame()?;
        }
        let max = self.server.max_message_bytes;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.receive_window -= len as i64;
        if stream.receive_window < 0 {
            self.reset(id, Reason::FlowControlError);
            return Ok(());
        }
        stream.received += content.len() as u64;
        stream.counted.moved(content.len(), 0);
        stream.finished = finished;
        let told = stream.head.content_length;
        if told.is_some_and(|told| stream.received > told || finished && stream.received != told) {
            self.reset(id, Reason::ProtocolError);
            return Ok(());
        }
        stream.held += content.len();
        self.held += content.len();
        let padding = (len - content.len()) as u32;
        match &mut stream.body {
            Body::Pipe(pipe) => {
                stream.uncredited += padding;
                pipe.arrive(content, finished);
                Ok(())
            }
            Body::Single(body) => {
                body.add(content);
                if finished {
                    self.dispatch(id);
                    return Ok(());
                }
                // Told as early as the prefix tells it.
                if let Err(status) = message::Prefix::read(body.peek(), max, stream.head.encoding.as_ref()) {
                    self.end(id, Some(status));
                    return Ok(());
                }
                if body.len() > max + message::PREFIX_BYTES || self.held > MAX_HELD_BYTES {
                    self.reset(id, Reason::EnhanceYourCalm);
                    return Ok(());
                }
                stream.uncredited += len as u32;
                if stream.uncredited >= STREAM_WINDOW / 2 {
                    frame::put_window_update(id, stream.uncredited, self.output.tail());
                    stream.receive_window += i64::from(std::mem::take(&mut stream.uncredited));
                }
                Ok(())
            }
        }
    }

    fn headers(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream.is_multiple_of(2) {
            return Err(Fatal(Reason::ProtocolError));
        }
        let content = frame::content(head, payload).map_err(Fatal)?;
        let (block, finished) = (&payload[content], head.has(END_STREAM));
        if head.has(END_HEADERS) {
            return self.whole_block(head.stream, block, finished);
        }
        self.block = Some(Block { stream: head.stream, finished, bytes: block.into(), frames: 1 });
        Ok(())
    }

    fn continuation(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fatal> {
        let Some(block) = &mut self.block else { return Err(Fatal(Reason::ProtocolError)) };
        block.bytes.extend_from_slice(payload);
        block.frames += 1;
        if block.bytes.len() > MAX_LIST_BYTES || block.frames > MAX_BLOCK_FRAMES {
            return Err(Fatal(Reason::EnhanceYourCalm));
        }
        if !head.has(END_HEADERS) {
            return Ok(());
        }
        match self.block.take() {
            Some(block) => self.whole_block(block.stream, &block.bytes, block.finished),
            None => Ok(()),
        }
    }

    /// A new stream, or the trailers of one that is there.
    fn whole_block(&mut self, id: u32, block: &[u8], finished: bool) -> Result<(), Fatal> {
        if id > self.last_stream {
            self.last_stream = id;
            return self.open(id, block, finished);
        }
        let mut trailers = Builder::default();
        self.decoder.decode(block, |field| trailers.field(field)).map_err(|_| Fatal(Reason::CompressionError))?;
        match self.streams.get(&id) {
            None if self.forgiven.contains(&id) => self.idle_frame(),
            None => Err(Fatal(Reason::StreamClosed)),
            Some(Stream { finished: true, .. }) => self.stream_error(id, Reason::StreamClosed),
            Some(_) if !finished || !trailers.is_good_trailers() => self.stream_error(id, Reason::ProtocolError),
            Some(_) => self.content(id, 0, Bytes::new(), true),
        }
    }

    fn reset_by_peer(&mut self, head: &Head) -> Result<(), Fatal> {
        if head.len != 4 {
            return Err(Fatal(Reason::FrameSizeError));
        }
        if self.is_idle(head.stream) {
            return Err(Fatal(Reason::ProtocolError));
        }
        match self.remove(head.stream) {
            // Frames that were on their way when the peer gave up are passed over.
            None => self.idle_frame(),
            Some(_) if self.budget.reset() => Err(Fatal(Reason::EnhanceYourCalm)),
            Some(_) => Ok(()),
        }
    }

    fn settings_frame(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(Fatal(Reason::ProtocolError));
        }
        self.idle_frame()?;
        if head.has(ACK) {
            let good = head.len == 0 && self.settled;
            return if good { Ok(()) } else { Err(Fatal(Reason::FrameSizeError)) };
        }
        if !head.len.is_multiple_of(6) {
            return Err(Fatal(Reason::FrameSizeError));
        }
        self.settled = true;
        self.settings(payload)
    }

    fn ping(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(Fatal(Reason::ProtocolError));
        }
        let payload = <[u8; 8]>::try_from(payload).map_err(|_| Fatal(Reason::FrameSizeError))?;
        self.idle_frame()?;
        if !head.has(ACK) {
            self.alive.pinged();
            frame::put_ping(payload, true, self.output.tail());
        }
        Ok(())
    }

    fn window_update(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fatal> {
        let by = <[u8; 4]>::try_from(payload).map_err(|_| Fatal(Reason::FrameSizeError))?;
        let by = i64::from(u32::from_be_bytes(by) & 0x7fff_ffff);
        self.idle_frame()?;
        if head.stream == 0 {
            self.send_window += by;
            return match by {
                0 => Err(Fatal(Reason::ProtocolError)),
                _ if self.send_window > MAX_WINDOW => Err(Fatal(Reason::FlowControlError)),
                _ => {
                    self.pending.append(&mut self.starved);
                    Ok(())
                }
            };
        }
        if self.is_idle(head.stream) {
            return Err(Fatal(Reason::ProtocolError));
        }
        // For a stream that is over it was on its way.
        let Some(stream) = self.streams.get_mut(&head.stream) else { return Ok(()) };
        stream.send_window += by;
        if by == 0 {
            return self.stream_error(head.stream, Reason::ProtocolError);
        }
        if stream.send_window > MAX_WINDOW {
            return self.stream_error(head.stream, Reason::FlowControlError);
        }
        self.enlist(head.stream);
        Ok(())
    }
}
