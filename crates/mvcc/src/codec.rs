//! The bytes that commands and snapshots are made of: LEB128 integers and length-prefixed strings.

use bytes::Bytes;

/// The bytes do not say anything that this version understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode: {0}")]
pub struct DecodeError(pub &'static str);

pub fn put_u64(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Negative numbers are rare and take ten bytes.
pub fn put_i64(out: &mut Vec<u8>, n: i64) {
    put_u64(out, n.cast_unsigned());
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes fields off the front of one encoded record.
pub struct Reader {
    whole: Bytes,
    at: usize,
}

impl Reader {
    pub fn new(whole: Bytes) -> Self {
        Reader { whole, at: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.whole.len()
    }

    pub fn remaining(&self) -> usize {
        self.whole.len() - self.at
    }

    /// All that is left, in the record's memory.
    pub fn rest(&mut self) -> Bytes {
        let from = std::mem::replace(&mut self.at, self.whole.len());
        self.whole.slice(from..)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.whole.get(self.at).ok_or(DecodeError("unexpected end"))?;
        self.at += 1;
        Ok(byte)
    }

    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError("neither true nor false")),
        }
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError("integer over 64 bits"));
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(DecodeError("integer over 64 bits"))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(self.u64()?.cast_signed())
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.u64()?).map_err(|_| DecodeError("integer over 32 bits"))
    }

    /// A count of things that take at least one byte each, so that a damaged count cannot ask for more memory than
    /// the record is long.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let n = self.u64()?;
        usize::try_from(n).ok().filter(|n| *n <= self.remaining()).ok_or(DecodeError("count beyond the record"))
    }

    /// A string where it stands.
    pub fn slice(&mut self) -> Result<&[u8], DecodeError> {
        let len = self.count()?;
        self.at += len;
        Ok(&self.whole[self.at - len..self.at])
    }

    /// A string that shares the record's memory, unless it is less than half of the record: a small value must not
    /// keep a large record alive.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.count()?;
        let range = self.at..self.at + len;
        self.at = range.end;
        Ok(match len {
            0 => Bytes::new(),
            _ if len * 2 < self.whole.len() => Bytes::copy_from_slice(&self.whole[range]),
            _ => self.whole.slice(range),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_and_strings_come_back(n: u64, i: i64, s: Vec<u8>) {
            let mut out = Vec::new();
            put_u64(&mut out, n);
            put_i64(&mut out, i);
            put_bytes(&mut out, &s);
            let mut reader = Reader::new(out.into());
            prop_assert_eq!(reader.u64().unwrap(), n);
            prop_assert_eq!(reader.i64().unwrap(), i);
            prop_assert_eq!(&reader.bytes().unwrap()[..], &s[..]);
            prop_assert!(reader.is_empty());
        }
    }
}
