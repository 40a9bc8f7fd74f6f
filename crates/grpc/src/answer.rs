//! Header blocks of answers. The two that every good call needs cost a byte or two each once the peer has them in its
//! table; everything else is written as literals that touch no table.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use crate::{
    Status, frame,
    hpack::{DEFAULT_TABLE_BYTES, literal, status_line},
};

/// `:status: 200` as the static table has it.
const STATUS_200: u8 = 0x88;
/// A literal to be remembered, named by the static table's content-type.
const REMEMBER_CONTENT_TYPE: u8 = 0x40 | 31;
const CONTENT_TYPE: &[u8] = b"application/grpc";
/// The newest entry of the peer's table, and the one before it, as indexed fields.
const NEWEST: u8 = 0x80 | 62;
const SECOND: u8 = 0x80 | 63;
/// Tells the peer that its table is emptied and stays so.
const EMPTY_TABLE: u8 = 0x20;

/// What the peer's table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remembered {
    Nothing,
    ContentType,
    /// The content type, and after it the good status.
    Both,
    /// The peer wants a smaller table than the default: nothing is ever remembered.
    Never,
}

#[derive(Debug)]
pub(crate) struct Answers {
    remembered: Remembered,
    /// The next block must begin with word of the emptied table.
    emptied: bool,
    /// The peer's largest frame.
    pub max_frame: usize,
}

impl Answers {
    pub fn new() -> Self {
        Answers { remembered: Remembered::Nothing, emptied: false, max_frame: frame::DEFAULT_MAX_FRAME }
    }

    /// The peer bounds the table that it keeps for us.
    pub fn set_table_limit(&mut self, limit: usize) {
        if limit < DEFAULT_TABLE_BYTES && self.remembered != Remembered::Never {
            self.remembered = Remembered::Never;
            self.emptied = true;
        }
    }

    /// The head of a good gRPC answer.
    pub fn head(&mut self, stream: u32, into: &mut BytesMut) {
        let second = match self.remembered {
            Remembered::ContentType => NEWEST,
            Remembered::Both => SECOND,
            Remembered::Nothing => {
                self.remembered = Remembered::ContentType;
                let mut block = BytesMut::from(&[STATUS_200, REMEMBER_CONTENT_TYPE, CONTENT_TYPE.len() as u8][..]);
                block.put_slice(CONTENT_TYPE);
                return self.block(&block, false, stream, into);
            }
            Remembered::Never => {
                let mut block = BytesMut::from(&[STATUS_200][..]);
                literal(b"content-type", CONTENT_TYPE, &mut block);
                return self.block(&block, false, stream, into);
            }
        };
        frame::put_head(2, 0x1, frame::END_HEADERS, stream, into);
        into.put_slice(&[STATUS_200, second]);
    }

    /// The trailers of a good gRPC answer, which end the stream. Its head went before.
    pub fn good_end(&mut self, stream: u32, into: &mut BytesMut) {
        match self.remembered {
            Remembered::Both => {
                frame::put_head(1, 0x1, frame::END_HEADERS | frame::END_STREAM, stream, into);
                into.put_u8(NEWEST);
            }
            Remembered::ContentType => {
                self.remembered = Remembered::Both;
                self.block(b"\x40\x0bgrpc-status\x010", true, stream, into);
            }
            Remembered::Nothing | Remembered::Never => self.block(b"\x00\x0bgrpc-status\x010", true, stream, into),
        }
    }

    /// The end of a gRPC call that failed: trailers, or the whole answer if its head was not sent.
    pub fn bad_end(&mut self, status: &Status, head_sent: bool, stream: u32, into: &mut BytesMut) {
        let mut block = BytesMut::new();
        if !head_sent {
            block.put_u8(STATUS_200);
            literal(b"content-type", CONTENT_TYPE, &mut block);
        }
        literal(b"grpc-status", (status.code as u8).to_string().as_bytes(), &mut block);
        if !status.message.is_empty() {
            literal(b"grpc-message", &status.encoded_message(), &mut block);
        }
        if status.code == crate::Code::Unimplemented {
            literal(b"grpc-accept-encoding", b"gzip", &mut block);
        }
        self.block(&block, true, stream, into);
    }

    /// An answer of nothing but a status line.
    pub fn bare(&mut self, code: u16, stream: u32, into: &mut BytesMut) {
        let mut block = BytesMut::new();
        status_line(code, &mut block);
        self.block(&block, true, stream, into);
    }

    /// A block that was made elsewhere, of literals only.
    pub fn block(&mut self, block: &[u8], end_stream: bool, stream: u32, into: &mut BytesMut) {
        if std::mem::take(&mut self.emptied) {
            let mut longer = BytesMut::from(&[EMPTY_TABLE][..]);
            longer.put_slice(block);
            return frame::put_headers(&longer, end_stream, stream, self.max_frame, into);
        }
        frame::put_headers(block, end_stream, stream, self.max_frame, into);
    }
}

/// The block of a response that somebody else made.
pub(crate) fn response_block(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let mut block = BytesMut::new();
    status_line(status.as_u16(), &mut block);
    put_map(headers, &mut block);
    block.freeze()
}

/// The block of trailers that somebody else made.
pub(crate) fn trailers_block(headers: &HeaderMap) -> Bytes {
    let mut block = BytesMut::new();
    put_map(headers, &mut block);
    block.freeze()
}

fn put_map(headers: &HeaderMap, block: &mut BytesMut) {
    // What speaks of an HTTP/1 connection has no place here.
    let kept = |name: &str| !matches!(name, "connection" | "keep-alive" | "transfer-encoding" | "upgrade");
    for (name, value) in headers.iter().filter(|(name, _)| kept(name.as_str())) {
        literal(name.as_str().as_bytes(), value.as_bytes(), block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, hpack::Decoder};

    /// Decodes the blocks of all HEADERS frames.
    fn told(decoder: &mut Decoder, frames: &[u8]) -> Vec<String> {
        let (mut rest, mut told) = (frames, Vec::new());
        while let Some(head) = frame::head(rest) {
            let (block, others) = rest[frame::HEAD_BYTES..].split_at(head.len);
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            let mut line = String::new();
            decoder.decode(block, |f| line += &format!("{}={} ", text(&f.name), text(&f.value))).unwrap();
            told.push(line.trim().to_owned());
            rest = others;
        }
        told
    }

    #[test]
    fn blocks_mean_the_same_whether_remembered_or_not() {
        let good = [":status=200 content-type=application/grpc", "grpc-status=0"];
        let mut answers = Answers::new();
        let (mut decoder, mut lens) = (Decoder::new(), Vec::new());
        for round in 0..4 {
            if round == 3 {
                answers.set_table_limit(100);
            }
            let mut out = BytesMut::new();
            answers.head(1, &mut out);
            answers.good_end(1, &mut out);
            assert_eq!(told(&mut decoder, &out), good);
            lens.push(out.len());
        }
        assert_eq!(lens[1], 9 + 2 + 9 + 1);
        let mut out = BytesMut::new();
        answers.bad_end(&Status::new(Code::NotFound, "no such\n"), false, 1, &mut out);
        let bad = [":status=200 content-type=application/grpc grpc-status=5 grpc-message=no such%0A"];
        assert_eq!(told(&mut decoder, &out), bad);
    }

    #[test]
    fn two_heads_before_the_first_end() {
        let (mut answers, mut out) = (Answers::new(), BytesMut::new());
        answers.head(1, &mut out);
        answers.head(3, &mut out);
        answers.good_end(1, &mut out);
        answers.head(5, &mut out);
        answers.good_end(3, &mut out);
        let head = ":status=200 content-type=application/grpc";
        assert_eq!(told(&mut Decoder::new(), &out), [head, head, "grpc-status=0", head, "grpc-status=0"]);
    }
}
