//! Messages of gRPC: five bytes of prefix (a flag and a length) and the message.

use std::any::Any;

use bytes::{BufMut, Bytes};

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

/// The length that the prefix at the front of `bytes` tells, once it is there.
pub(crate) fn length(bytes: &[u8], max: usize, encoding: Option<&Bytes>) -> Result<Option<usize>, Status> {
    let Some([flag, a, b, c, d]) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    if *flag != 0 {
        return Err(compressed(*flag, encoding));
    }
    let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    if len > max {
        return Err(too_large(len, max));
    }
    Ok(Some(len))
}

fn compressed(flag: u8, encoding: Option<&Bytes>) -> Status {
    match encoding {
        Some(encoding) if flag == 1 => {
            let name = String::from_utf8_lossy(encoding);
            let text = format!("grpc: Decompressor is not installed for grpc-encoding \"{name}\"");
            Status::new(Code::Unimplemented, text)
        }
        _ => Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding"),
    }
}

fn too_large(len: usize, max: usize) -> Status {
    let text = format!("grpc: received message larger than max ({len} vs. {max})");
    Status::new(Code::OutOfRange, text)
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
        let check = |bytes: &[u8], encoding: Option<&'static str>, expected: Result<Option<usize>, Code>| {
            let encoding = encoding.map(Bytes::from);
            assert_eq!(length(bytes, 100, encoding.as_ref()).map_err(|status| status.code), expected, "{bytes:?}");
        };
        check(&[0, 0, 0, 0], None, Ok(None));
        check(&[0, 0, 0, 0, 7, 1], None, Ok(Some(7)));
        check(&[0, 0, 0, 0, 101], None, Err(Code::OutOfRange));
        check(&[1, 0, 0, 0, 7], Some("gzip"), Err(Code::Unimplemented));
        check(&[1, 0, 0, 0, 7], None, Err(Code::Internal));
        check(&[9, 0, 0, 0, 7], Some("gzip"), Err(Code::Internal));
    }
}
