//! Bytes on a connection between members.
//!
//! ```text
//!   greeting   magic 8, kind u8, cluster u64, from u64, to u64       answered by one frame: empty, or why not
//!   frame      length u32, crc32c of the body u32, body              (numbers little-endian)
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::PeerError;

pub const MAGIC: [u8; 8] = *b"PLINPEE1";
const GREETING: usize = 33;
/// A longer frame is no peer's: messages have at most a few entries more than a megabyte, portions less than this.
pub const MAX_FRAME: usize = 64 << 20;
const HEAD: usize = 8;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Messages = 1,
    Snapshot = 2,
    Question = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub kind: Kind,
    /// 0: not known yet; such a caller may only ask.
    pub cluster: u64,
    pub from: u64,
    /// 0: whoever listens there.
    pub to: u64,
}

impl Greeting {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(GREETING);
        out.put_slice(&MAGIC);
        out.put_u8(self.kind as u8);
        out.put_u64_le(self.cluster);
        out.put_u64_le(self.from);
        out.put_u64_le(self.to);
        out.freeze()
    }

    /// Reads the rest of a greeting whose magic was read.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, PeerError> {
        let mut bytes = [0; GREETING];
        bytes[..8].copy_from_slice(&MAGIC);
        stream.read_exact(&mut bytes[8..]).await?;
        Self::decode(&bytes)
    }

    fn decode(bytes: &[u8; GREETING]) -> Result<Self, PeerError> {
        if bytes[..8] != MAGIC {
            return Err(PeerError::Protocol("not a member's greeting"));
        }
        let kind = match bytes[8] {
            1 => Kind::Messages,
            2 => Kind::Snapshot,
            3 => Kind::Question,
            _ => return Err(PeerError::Protocol("a connection of an unknown kind")),
        };
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Ok(Greeting { kind, cluster: number(9), from: number(17), to: number(25) })
    }
}

/// Appends a frame whose body is written by `body`.
pub fn put(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_bytes(0, HEAD);
    body(out);
    let length = u32::try_from(out.len() - start - HEAD).expect("frames are bounded far below 4 GiB");
    let sum = crc32c::crc32c(&out[start + HEAD..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
}

pub async fn write(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> Result<(), PeerError> {
    let mut out = BytesMut::with_capacity(HEAD + body.len());
    put(&mut out, |o| o.put_slice(body));
    stream.write_all(&out).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads the next frame's body.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, PeerError> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await?;
    let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
    if length > MAX_FRAME {
        return Err(PeerError::Protocol("a frame over the bound"));
    }
    let mut body = BytesMut::with_capacity(length);
    // Grows with what arrives: a length alone asks for no more than its own bytes, and they are bounded.
    while body.len() < length {
        let missing = length - body.len();
        if stream.read_buf(&mut (&mut body).limit(missing)).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
    if crc32c::crc32c(&body) != u32::from_le_bytes(head[4..].try_into().expect("four bytes")) {
        return Err(PeerError::Protocol("checksum mismatch"));
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> Result<Bytes, PeerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(&mut &bytes[..]))
    }

    #[test]
    fn a_greeting_comes_back_as_it_went() {
        let greeting = Greeting { kind: Kind::Snapshot, cluster: 1, from: u64::MAX, to: 3 };
        let bytes: [u8; GREETING] = greeting.encode()[..].try_into().unwrap();
        assert_eq!(Greeting::decode(&bytes).unwrap(), greeting);
    }

    proptest! {
        #[test]
        fn frames_come_back_and_changed_ones_do_not(body: Vec<u8>, at: proptest::sample::Index, bit in 0..8) {
            let mut out = BytesMut::new();
            put(&mut out, |o| o.put_slice(&body));
            prop_assert_eq!(&read_all(&out).unwrap()[..], &body[..]);
            let at = at.index(out.len());
            out[at] ^= 1u8 << bit;
            prop_assert!(read_all(&out).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            drop(read_all(&bytes));
        }
    }
}
