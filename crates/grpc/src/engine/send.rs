//! What goes out under flow control: each stream in its turn, a few frames at a time.

use super::{Engine, OUTPUT_BYTES, STREAM_CREDIT_FROM, is_open, stream::Body};
use crate::{Encode, Rope, frame, frame::Reason, pipe::End};

/// Frames of one stream before the next has its turn.
const FRAMES_PER_TURN: usize = 4;

/// What became of a stream's turn.
enum Turn {
    /// It has nothing to send now.
    Idle,
    /// It has more, and the windows allow it.
    More,
    /// It waits for its own window.
    Blocked,
    /// It waits for the connection's.
    Starved,
    /// Everything is sent.
    Over,
    /// Everything is sent, and the end with it.
    Ended,
}

impl<R: Encode + Send + 'static> Engine<R> {
    /// Gives the streams their turns until the output is full. Returns whether any had one.
    pub(super) fn send(&mut self) -> bool {
        let mut any = false;
        while self.output.len() < OUTPUT_BYTES
            && let Some(id) = self.pending.pop_front()
        {
            any = true;
            match self.turn_of(id) {
                Turn::Idle | Turn::Blocked => self.unlist(id),
                Turn::More => self.pending.push_back(id),
                Turn::Starved => self.starved.push_back(id),
                Turn::Over => {
                    self.unlist(id);
                    self.conclude(id);
                }
                Turn::Ended => {
                    if let Some(stream) = self.remove(id) {
                        self.ended(id, &stream);
                    }
                }
            }
        }
        any
    }

    fn unlist(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.listed = false;
        }
    }

    fn turn_of(&mut self, id: u32) -> Turn {
        let Engine { streams, output, answers, send_window, budget, alive, held, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return Turn::Idle };
        let pipe = match &stream.body {
            Body::Pipe(pipe) => Some(pipe.clone()),
            Body::Single(_) => None,
        };
        let mut state = pipe.as_ref().map(|pipe| pipe.lock());
        let (mut raw_head, mut raw_open, mut raw_whole) = (None, false, false);
        if let Some(state) = &mut state {
            state.listed = false;
            let consumed = std::mem::take(&mut state.consumed);
            let consumed = consumed.min(stream.held);
            stream.held -= consumed;
            *held -= consumed;
            stream.uncredited += consumed as u32;
            if !stream.finished && stream.uncredited as usize >= STREAM_CREDIT_FROM {
                frame::put_window_update(id, stream.uncredited, output.tail());
                stream.receive_window += i64::from(std::mem::take(&mut stream.uncredited));
            }
            raw_head = state.head.take();
            raw_open = is_open(&state.end);
            raw_whole = matches!(state.end, End::Done(None));
        }
        let open = if stream.raw { raw_open } else { stream.end.is_none() };
        let queue: &mut Rope = match &mut state {
            Some(state) => &mut state.out,
            None => &mut stream.out,
        };
        let before = queue.len();
        if let Some(block) = raw_head {
            // A status without a body is in the head, which then has to end the stream: clients in Go insist on it.
            let whole = queue.is_empty() && raw_whole;
            answers.block(&block, whole, id, output.tail());
            alive.sent();
            stream.head_sent = true;
            if whole {
                return Turn::Ended;
            }
        }
        if !stream.head_sent && !queue.is_empty() {
            answers.head(id, output.tail());
            stream.head_sent = true;
        }
        let mut turn = Turn::More;
        for _ in 0..FRAMES_PER_TURN {
            if queue.is_empty() {
                turn = if open { Turn::Idle } else { Turn::Over };
                break;
            }
            let room = stream.send_window.min(*send_window);
            if room <= 0 {
                turn = if stream.send_window <= 0 { Turn::Blocked } else { Turn::Starved };
                break;
            }
            let count = queue.len().min(answers.max_frame).min(room as usize);
            frame::put_data_head(count, id, output.tail());
            queue.take_into(count, output);
            stream.send_window -= count as i64;
            *send_window -= count as i64;
            budget.useful();
            alive.sent();
        }
        let after = queue.len();
        drop(state);
        if after < before {
            stream.counted.moved(0, before - after);
        }
        if let Some(pipe) = pipe {
            pipe.taken(before, after);
        }
        turn
    }

    /// The last frame of a stream whose queue is empty.
    fn conclude(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.raw {
            let status = stream.end.take().flatten();
            return self.end(id, status);
        }
        let end = stream.pipe().map(|pipe| std::mem::take(&mut pipe.lock().end));
        let trailers = match end {
            Some(End::Done(trailers)) if stream.head_sent => trailers,
            _ => return self.reset(id, Reason::InternalError),
        };
        let Some(stream) = self.remove(id) else { return };
        match trailers {
            Some(block) => self.answers.block(&block, true, id, self.output.tail()),
            None => frame::put_head(0, 0x0, frame::END_STREAM, id, self.output.tail()),
        }
        self.ended(id, &stream);
    }
}
