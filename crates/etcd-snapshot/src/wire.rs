//! As much of protobuf as etcd's stored messages need: integers and strings, absent when empty.
//!
//! Knows no message.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// Bytes of an integer.
pub fn varint_len(n: u64) -> usize {
    (u64::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Bytes of an integer field. Fields up to 15 have a tag of one byte; no message here has more.
pub fn int_len(n: i64) -> usize {
    if n == 0 { 0 } else { 1 + varint_len(n.cast_unsigned()) }
}

pub fn put_int(out: &mut Vec<u8>, field: u64, n: i64) {
    if n != 0 {
        put_varint(out, field << 3 | VARINT);
        put_varint(out, n.cast_unsigned());
    }
}

/// Bytes of a string field of `length` bytes.
pub fn bytes_len(length: usize) -> usize {
    if length == 0 { 0 } else { 1 + varint_len(length as u64) + length }
}

pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_varint(out, field << 3 | BYTES);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// A field of a message.
pub enum Field<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    /// Of a type that no field here has.
    Other,
}

/// The fields of a message, one after the other.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field with its number; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            VARINT => Field::Int(self.varint()?.cast_signed()),
            BYTES => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length).map_err(|_| "a field beyond the message")?)?)
            }
            FIXED64 => self.take(8).map(|_| Field::Other)?,
            FIXED32 => self.take(4).map(|_| Field::Other)?,
            _ => return Err("a field of an unknown type"),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("a field beyond the message")?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err("an integer over 64 bits")
    }
}
