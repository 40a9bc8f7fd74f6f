//! SPDY/3.1 frames (the protocol that `kubectl port-forward` speaks inside a WebSocket), as far as a server of byte
//! streams needs them. Pure: bytes in, frames out, and the other way round.
//!
//! Windows are not counted: the peers in this field (Kubernetes' own library) send and expect no updates; what bounds
//! memory is that no more is read while a stream's queue is full.

mod dictionary;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dictionary::DICTIONARY;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// A longer frame ends the connection.
const MAX_FRAME: usize = 1024 * 1024;
/// Headers of one stream, unpacked.
const MAX_HEADERS: usize = 64 * 1024;
/// Name and value pairs of one stream.
const MAX_PAIRS: usize = 256;
const VERSION: u16 = 3;
const CONTROL: u16 = 0x8000;
const FLAG_FIN: u8 = 1;

/// Why a stream is cut (RST_STREAM).
pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 3;

/// What the peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A new stream; `fin`: the peer will send nothing on it.
    Open {
        stream: u32,
        headers: Vec<(String, String)>,
        fin: bool,
    },
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, window updates, replies, further headers and what later versions may add.
    Other,
}

/// The connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("SPDY frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    #[error("malformed SPDY frame")]
    Malformed,
    #[error("malformed SPDY header block")]
    Headers,
}

/// The reading side of a connection.
pub struct Reader {
    buffer: BytesMut,
    inflate: Decompress,
}

impl Default for Reader {
    fn default() -> Self {
        Reader { buffer: BytesMut::new(), inflate: Decompress::new(true) }
    }
}

impl Reader {
    /// Takes in bytes, however they are cut.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub fn next(&mut self) -> Result<Option<Frame>, Error> {
        let Some(head) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
        if length > MAX_FRAME {
            return Err(Error::TooLong(length));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let body = self.buffer.split_to(length).freeze();
        let (version, kind) = ((first >> 16) as u16, first as u16);
        if version & CONTROL == 0 {
            return Ok(Some(Frame::Data { stream: first, data: body, fin: flags & FLAG_FIN != 0 }));
        }
        if version & !CONTROL != VERSION {
            return Err(Error::Version(version & !CONTROL));
        }
        self.control(kind, flags, body).map(Some)
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, Error> {
        match kind {
            1 => {
                let stream = body.try_get_u32().map_err(|_| Error::Malformed)? & 0x7fff_ffff;
                // The associated stream, the priority and the slot mean nothing here.
                if body.len() < 6 {
                    return Err(Error::Malformed);
                }
                let headers = self.headers(&body[6..])?;
                Ok(Frame::Open { stream, headers, fin: flags & FLAG_FIN != 0 })
            }
            // Their headers are nobody's interest, but the compressor remembers them.
            2 | 8 => {
                if body.len() < 4 {
                    return Err(Error::Malformed);
                }
                self.headers(&body[4..])?;
                Ok(Frame::Other)
            }
            3 => {
                let mut number = || body.try_get_u32().map_err(|_| Error::Malformed);
                Ok(Frame::Reset { stream: number()? & 0x7fff_ffff, status: number()? })
            }
            6 => Ok(Frame::Ping { id: body.try_get_u32().map_err(|_| Error::Malformed)? }),
            7 => Ok(Frame::GoAway),
            _ => Ok(Frame::Other),
        }
    }

    fn headers(&mut self, packed: &[u8]) -> Result<Vec<(String, String)>, Error> {
        let mut block = self.unpack(packed)?;
        let number = |block: &mut Bytes| block.try_get_u32().map(|n| n as usize).map_err(|_| Error::Headers);
        let pairs = number(&mut block)?;
        if pairs > MAX_PAIRS {
            return Err(Error::Headers);
        }
        let text = |block: &mut Bytes| {
            let length = number(block)?;
            if length > block.len() {
                return Err(Error::Headers);
            }
            String::from_utf8(block.split_to(length).to_vec()).map_err(|_| Error::Headers)
        };
        (0..pairs).map(|_| Ok((text(&mut block)?.to_ascii_lowercase(), text(&mut block)?))).collect()
    }

    fn unpack(&mut self, packed: &[u8]) -> Result<Bytes, Error> {
        let mut output = Vec::with_capacity(1024);
        let start = self.inflate.total_in();
        loop {
            let consumed = (self.inflate.total_in() - start) as usize;
            let before = (consumed, output.len());
            match self.inflate.decompress_vec(&packed[consumed..], &mut output, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(Error::Headers),
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&DICTIONARY).map_err(|_| Error::Headers)?;
                    continue;
                }
                Err(_) => return Err(Error::Headers),
            }
            if output.len() > MAX_HEADERS {
                return Err(Error::Headers);
            }
            let consumed = (self.inflate.total_in() - start) as usize;
            // Room left over shows that nothing more is waiting inside.
            if consumed == packed.len() && output.len() < output.capacity() {
                return Ok(output.into());
            }
            if (consumed, output.len()) == before {
                if output.len() < output.capacity() {
                    return Err(Error::Headers);
                }
                output.reserve(output.capacity());
            }
        }
    }
}

/// The writing side's memory: headers are packed in the order in which they are sent.
pub struct Writer {
    deflate: Compress,
    primed: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Writer { deflate: Compress::new(Compression::fast(), true), primed: false }
    }
}

impl Writer {
    /// SYN_REPLY without headers.
    pub fn reply(&mut self, stream: u32) -> Bytes {
        let block = self.pack(&0u32.to_be_bytes());
        let mut body = BytesMut::with_capacity(4 + block.len());
        body.put_u32(stream);
        body.put_slice(&block);
        control(2, 0, &body)
    }

    fn pack(&mut self, block: &[u8]) -> Vec<u8> {
        if !self.primed {
            self.primed = true;
            self.deflate.set_dictionary(&DICTIONARY).expect("a fresh compressor takes a dictionary");
        }
        // Far more than so short a block can become.
        let mut output = Vec::with_capacity(block.len() * 2 + 256);
        self.deflate.compress_vec(block, &mut output, FlushCompress::Sync).expect("memory to memory cannot fail");
        output
    }
}

/// Bytes of a stream, at most 16 MiB.
pub fn data(stream: u32, bytes: &[u8], fin: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + bytes.len());
    frame.put_u32(stream & 0x7fff_ffff);
    frame.put_u32((u32::from(fin) * u32::from(FLAG_FIN)) << 24 | (bytes.len() as u32 & 0x00ff_ffff));
    frame.put_slice(bytes);
    frame.freeze()
}

pub fn reset(stream: u32, status: u32) -> Bytes {
    control(3, 0, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
}

pub fn ping(id: u32) -> Bytes {
    control(6, 0, &id.to_be_bytes())
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u16(CONTROL | VERSION);
    frame.put_u16(kind);
    frame.put_u32(u32::from(flags) << 24 | body.len() as u32);
    frame.put_slice(body);
    frame.freeze()
}

#[cfg(test)]
pub mod tests;
