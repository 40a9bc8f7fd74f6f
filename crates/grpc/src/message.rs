//! Messages of gRPC: five bytes of prefix (a flag and a length) and the message.

use std::{any::Any, io::Read};

use bytes::{BufMut, Bytes};
use flate2::read::MultiGzDecoder;

use crate::{Code, Rope, Status};

pub(crate) const PREFIX_BYTES: usize = 5;
/// Room made for a message before it is written: more would be wasted where its bytes are shared.
const MAX_RESERVE_BYTES: usize = 256 * 1024;

/// Something that is written as one message.
pub trait Encode {
    /// How many bytes [`Encode::encode`] will append.
    fn encoded_len(&self) -> usize;

    /// Appends the message.
    fn encode(&self, into: &mut Rope);

    /// Appends the message and lets go of it: what it is made of need not be in memory beside what comes of it.
    fn encode_whole(self, into: &mut Rope)
    where
        Self: Sized,
    {
        self.encode(into);
    }

    /// What has to live until the message is sent.
    fn keep(&self) -> Option<Keep> {
        None
    }
}

/// Held for as long as a message waits to be sent.
pub type Keep = Box<dyn Any + Send + Sync>;

impl Encode for Bytes {
    fn encoded_len(&self) -> usize {
        self.len()
    }

    fn encode(&self, into: &mut Rope) {
        into.put_shared(self);
    }
}

/// Appends a message of `len` bytes with its prefix.
pub(crate) fn put(message: &impl Encode, len: usize, into: &mut Rope) {
    put_prefix(len, into);
    message.encode(into);
}

/// As [`put`], and lets go of the message.
pub(crate) fn put_whole(message: impl Encode, len: usize, into: &mut Rope) {
    put_prefix(len, into);
    message.encode_whole(into);
}

fn put_prefix(len: usize, into: &mut Rope) {
    let tail = into.tail();
    tail.reserve((PREFIX_BYTES + len).min(MAX_RESERVE_BYTES));
    tail.put_u8(0);
    tail.put_u32(len as u32);
}

/// What a prefix tells of the message behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Bytes as they were sent.
    pub len: usize,
    /// By gzip, the one compression that is read.
    pub compressed: bool,
}

impl Prefix {
    /// The prefix at the front of `bytes`, once it is there.
    pub fn read(bytes: &[u8], max: usize, encoding: Option<&Bytes>) -> Result<Option<Self>, Status> {
        let Some([flag, a, b, c, d]) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let compressed = is_compressed(*flag, encoding)?;
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if len > max {
            return Err(too_large(len, max));
        }
        Ok(Some(Prefix { len, compressed }))
    }

    /// The message itself, of the bytes behind the prefix.
    pub fn message(self, sent: Bytes, max: usize) -> Result<Bytes, Status> {
        if self.compressed { gunzip(&sent, max) } else { Ok(sent) }
    }
}

fn is_compressed(flag: u8, encoding: Option<&Bytes>) -> Result<bool, Status> {
    match (flag, encoding) {
        (0, _) => Ok(false),
        (1, Some(encoding)) if &encoding[..] == b"gzip" => Ok(true),
        (1, Some(encoding)) => {
            let name = String::from_utf8_lossy(encoding);
            let text = format!("grpc: Decompressor is not installed for grpc-encoding \"{name}\"");
            Err(Status::new(Code::Unimplemented, text))
        }
        _ => Err(Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding")),
    }
}

/// No more is unpacked than a message may have, whatever was sent.
fn gunzip(sent: &[u8], max: usize) -> Result<Bytes, Status> {
    let mut message = Vec::new();
    let mut unpacked = MultiGzDecoder::new(sent).take(max as u64 + 1);
    if let Err(error) = unpacked.read_to_end(&mut message) {
        let text = format!("grpc: failed to decompress the received message: {error}");
        return Err(Status::new(Code::Internal, text));
    }
    if message.len() > max {
        let text = format!("grpc: received message after decompression larger than max {max}");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(message.into())
}

fn too_large(len: usize, max: usize) -> Status {
    let text = format!("grpc: received message larger than max ({len} vs. {max})");
    Status::new(Code::ResourceExhausted, text)
}

/// A call with one request ended without it.
pub(crate) fn missing() -> Status {
    Status::new(Code::Internal, "the request's message is missing or not whole")
}

/// A call with one request sent more than that.
pub(crate) fn surplus() -> Status {
    Status::new(Code::Internal, "more than one message for a call that takes one")
}

/// The time that the caller gave is over.
pub(crate) fn deadline() -> Status {
    Status::new(Code::DeadlineExceeded, "context deadline exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let check = |bytes: &[u8], encoding: Option<&'static str>, expected: Result<Option<(usize, bool)>, Code>| {
            let encoding = encoding.map(Bytes::from);
            let read = Prefix::read(bytes, 100, encoding.as_ref()).map_err(|status| status.code);
            let expected = expected.map(|some| some.map(|(len, compressed)| Prefix { len, compressed }));
            assert_eq!(read, expected, "{bytes:?}");
        };
        check(&[0, 0, 0, 0], None, Ok(None));
        check(&[0, 0, 0, 0, 7, 1], None, Ok(Some((7, false))));
        check(&[0, 0, 0, 0, 101], None, Err(Code::ResourceExhausted));
        check(&[1, 0, 0, 0, 7], Some("gzip"), Ok(Some((7, true))));
        check(&[1, 0, 0, 0, 7], Some("snappy"), Err(Code::Unimplemented));
        check(&[1, 0, 0, 0, 7], None, Err(Code::Internal));
        check(&[9, 0, 0, 0, 7], Some("gzip"), Err(Code::Internal));
    }

    #[test]
    fn what_is_packed_is_unpacked_up_to_the_bound() {
        let packed = |len: usize| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut packer, &vec![7; len]).unwrap();
            Bytes::from(packer.finish().unwrap())
        };
        let check = |sent: Bytes, expected: Result<usize, Code>| {
            let message = Prefix { len: sent.len(), compressed: true }.message(sent, 1000);
            assert_eq!(message.map(|message| message.len()).map_err(|status| status.code), expected);
        };
        check(packed(0), Ok(0));
        check(packed(1000), Ok(1000));
        check(packed(1001), Err(Code::ResourceExhausted));
        check(packed(100 << 20), Err(Code::ResourceExhausted));
        check(packed(1000).slice(..12), Err(Code::Internal));
        check(Bytes::from_static(b"no such thing"), Err(Code::Internal));
    }
}
