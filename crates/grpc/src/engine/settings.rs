//! What both sides tell each other about the connection before anything else.

use bytes::BytesMut;

use super::{CONNECTION_WINDOW, Engine, Fatal, STREAM_WINDOW};
use crate::{
    Encode,
    frame::{self, DEFAULT_WINDOW, MAX_WINDOW, Reason},
    head::MAX_LIST_BYTES,
};

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// The server's own settings.
pub(super) fn greet(max_streams: u32, into: &mut BytesMut) {
    let settings = [
        (MAX_CONCURRENT_STREAMS, max_streams),
        (INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        (MAX_HEADER_LIST_SIZE, MAX_LIST_BYTES as u32),
    ];
    frame::put_settings(&settings, into);
    frame::put_window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW as u32, into);
}

impl<R: Encode + Send + 'static> Engine<R> {
    /// The peer's settings; each takes effect as it is read.
    pub(super) fn settings(&mut self, payload: &[u8]) -> Result<(), Fatal> {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match name {
                HEADER_TABLE_SIZE => self.answers.set_table_limit(value as usize),
                ENABLE_PUSH if value > 1 => return Err(Fatal(Reason::ProtocolError)),
                INITIAL_WINDOW_SIZE => self.resize_windows(i64::from(value))?,
                MAX_FRAME_SIZE => {
                    let value = value as usize;
                    if !(frame::DEFAULT_MAX_FRAME..=frame::LARGEST_MAX_FRAME).contains(&value) {
                        return Err(Fatal(Reason::ProtocolError));
                    }
                    // A larger frame saves nothing, and keeps other streams waiting for longer.
                    self.answers.max_frame = value.min(MAX_SENT_FRAME);
                }
                _ => {}
            }
        }
        frame::put_settings_ack(self.output.tail());
        Ok(())
    }

    /// Windows of all streams move by the difference, even below zero (RFC 9113, 6.9.2).
    fn resize_windows(&mut self, initial: i64) -> Result<(), Fatal> {
        if initial > MAX_WINDOW {
            return Err(Fatal(Reason::FlowControlError));
        }
        let by = initial - self.initial_window;
        self.initial_window = initial;
        let mut waiting = Vec::new();
        for (id, stream) in &mut self.streams {
            stream.send_window += by;
            if stream.send_window > MAX_WINDOW {
                return Err(Fatal(Reason::FlowControlError));
            }
            waiting.push(*id);
        }
        if by > 0 {
            self.list(&mut waiting);
        }
        Ok(())
    }
}

/// The largest frame that is sent, whatever the peer would take.
const MAX_SENT_FRAME: usize = 64 * 1024;
