//! From a header block to a running call.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Engine, Fatal, MAX_HEADS, Phase, STREAM_WINDOW,
    running::{Running, Work},
    single,
    stream::{Body, Counted, Single, Stream},
};
use crate::{
    Call, Code, Encode, Requests, Rope, Sender, Status, fallback,
    frame::Reason,
    head::{Builder, Head, Refused},
    pipe::Pipe,
    server::Handler,
};

impl<R: Encode + Send + 'static> Engine<R> {
    /// A whole header block of a stream that was not there before.
    pub(super) fn open(&mut self, id: u32, block: &[u8], finished: bool) -> Result<(), Fatal> {
        // Decoded even for a stream that is refused, for the sake of the table.
        let opening = self.opening(block)?;
        if self.phase != Phase::Open || self.streams.len() >= self.server.max_streams as usize {
            self.reset(id, Reason::RefusedStream);
            return self.idle_frame();
        }
        match opening {
            Ok(head) => self.start(id, head, finished),
            Err(Refused::Malformed) => {
                self.reset(id, Reason::ProtocolError);
                return self.idle_frame();
            }
            Err(Refused::TooLarge) => {
                self.answers.bare(431, id, self.output.tail());
                self.forgive(id);
                return self.idle_frame();
            }
        }
        Ok(())
    }

    /// The head that a block stands for. A block of indexed fields alone stands for the same head again and again, for
    /// as long as the table does not change: such blocks are looked up and not decoded.
    fn opening(&mut self, block: &[u8]) -> Result<Result<Arc<Head>, Refused>, Fatal> {
        if self.heads_generation == self.decoder.generation()
            && let Some((_, head)) = self.heads.iter().find(|(known, _)| known == block)
        {
            return Ok(Ok(head.clone()));
        }
        let mut builder = Builder::default();
        self.decoder.decode(block, |field| builder.field(field)).map_err(|_| Fatal(Reason::CompressionError))?;
        let mut head = match builder.finish() {
            Ok(head) => head,
            Err(refused) => return Ok(Err(refused)),
        };
        if head.grpc && &head.method[..] == b"POST" {
            head.registered = self.server.methods.find(&head.path);
        }
        let head = Arc::new(head);
        self.remember(block, &head);
        Ok(Ok(head))
    }

    fn remember(&mut self, block: &[u8], head: &Arc<Head>) {
        if self.heads_generation != self.decoder.generation() {
            self.heads_generation = self.decoder.generation();
            self.heads.clear();
        }
        if block.iter().all(|byte| byte & 0x80 != 0) {
            if self.heads.len() == MAX_HEADS {
                self.heads.remove(0);
            }
            self.heads.push((Bytes::copy_from_slice(block), head.clone()));
        }
    }

    fn start(&mut self, id: u32, head: Arc<Head>, finished: bool) {
        let server = self.server.clone();
        let handler = head.registered.map(|method| &server.methods.handlers[method]);
        let pipe = match handler {
            Some(Handler::Unary(_)) => None,
            Some(Handler::Streaming(_)) | None => Some(Pipe::new(id, self.ready.clone())),
        };
        let counted = match (head.registered, &server.observer) {
            (Some(method), Some(observer)) => Counted::start(observer, method, &self.call(&head)),
            _ => Counted::default(),
        };
        let stream = Stream {
            head: head.clone(),
            body: pipe.clone().map_or(Body::Single(Single::Nothing), Body::Pipe),
            call: None,
            raw: handler.is_none(),
            finished,
            head_sent: false,
            listed: false,
            send_window: self.initial_window,
            receive_window: i64::from(STREAM_WINDOW),
            uncredited: 0,
            received: 0,
            held: 0,
            out: Rope::default(),
            keep: None,
            end: None,
            counted,
        };
        self.streams.insert(id, stream);
        let Some(pipe) = pipe else {
            if finished {
                self.dispatch(id);
            }
            return;
        };
        if finished {
            pipe.arrive(Bytes::new(), true);
        }
        match handler {
            Some(Handler::Streaming(handler)) => {
                let requests = Requests::new(pipe.clone(), head.clone(), server.max_message_bytes);
                let call = self.call(&head);
                self.launch(id, &head, Work::Streaming(handler(call, requests, Sender { pipe })));
                self.accept(id);
            }
            _ => self.fall_back(id, &head, pipe),
        }
    }

    /// Sends the head of a stream that has not failed at once: there are clients that say nothing before they see it.
    fn accept(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.end.is_none()
            && !stream.head_sent
        {
            stream.head_sent = true;
            self.alive.sent();
            self.answers.head(id, self.output.tail());
        }
    }

    fn call(&self, head: &Arc<Head>) -> Call {
        Call { head: head.clone(), connection: self.extensions.clone() }
    }

    /// A unary call has all of its request.
    pub(super) fn dispatch(&mut self, id: u32) {
        let server = self.server.clone();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Body::Single(body) = &mut stream.body else { return };
        let body = body.take();
        self.held -= std::mem::take(&mut stream.held);
        let head = stream.head.clone();
        let Some(Handler::Unary(handler)) = head.registered.map(|method| &server.methods.handlers[method]) else {
            return;
        };
        match single(stream, body, server.max_message_bytes) {
            Ok(message) => {
                let work = Work::Unary(handler(self.call(&head), message));
                self.launch(id, &head, work);
            }
            Err(status) => self.end(id, Some(status)),
        }
    }

    fn fall_back(&mut self, id: u32, head: &Arc<Head>, pipe: Arc<Pipe>) {
        if self.server.fallback.is_none() && head.grpc {
            let text = format!("unknown method {}", String::from_utf8_lossy(&head.path));
            return self.end(id, Some(Status::new(Code::Unimplemented, text)));
        }
        let Some(request) = fallback::request(head, &self.extensions, &pipe) else {
            return self.reset(id, Reason::ProtocolError);
        };
        let server = self.server.clone();
        let work = async move {
            let response = match &server.fallback {
                Some(fallback) => fallback.call(request).await,
                None => fallback::not_found(),
            };
            fallback::carry(response, pipe).await;
        };
        self.launch(id, head, Work::Fallback(Box::pin(work)));
    }

    /// Runs a call's future, and polls it for the first time.
    fn launch(&mut self, id: u32, head: &Head, work: Work<R>) {
        let place = self.calls.insert(Running::new(id, work, head.timeout));
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.call = Some(place);
        }
        self.poll(place);
    }
}
