//! Protocol Buffers as they are written: a field that has its default is left out, and lengths are known beforehand.

use bytes::{BufMut, Bytes, BytesMut};
use grpc::Rope;

/// Something that is written as a message within a message, or as one of its own.
pub(crate) trait Wire {
    /// Bytes that [`Wire::put`] appends.
    fn len(&self) -> usize;
    fn put(&self, into: &mut Rope);
}

/// Bytes of a number.
pub(crate) fn varint_len(value: u64) -> usize {
    // Seven bits in a byte; zero takes one too.
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

pub(crate) fn put_varint(mut value: u64, into: &mut BytesMut) {
    if value < 0x80 {
        return into.put_u8(value as u8);
    }
    let (mut bytes, mut count) = ([0u8; 10], 0);
    while value >= 0x80 {
        bytes[count] = value as u8 | 0x80;
        value >>= 7;
        count += 1;
    }
    bytes[count] = value as u8;
    into.put_slice(&bytes[..=count]);
}

// The tags below are one byte, which holds for field numbers up to 15.

const NUMBER: u8 = 0;
const LENGTH: u8 = 2;

/// A number's field; zero is left out.
pub(crate) fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

pub(crate) fn put_number(field: u8, value: u64, into: &mut BytesMut) {
    if value != 0 {
        into.put_u8(field << 3 | NUMBER);
        put_varint(value, into);
    }
}

pub(crate) fn signed_len(value: i64) -> usize {
    number_len(value.cast_unsigned())
}

pub(crate) fn put_signed(field: u8, value: i64, into: &mut BytesMut) {
    put_number(field, value.cast_unsigned(), into);
}

/// A field of bytes; none are left out.
pub(crate) fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + varint_len(len as u64) + len }
}

/// Large bytes go out as a reference.
pub(crate) fn put_bytes(field: u8, bytes: &Bytes, into: &mut Rope) {
    if !bytes.is_empty() {
        put_head(field, bytes.len(), into.tail());
        into.put_shared(bytes);
    }
}

pub(crate) fn put_text(field: u8, text: &str, into: &mut Rope) {
    if !text.is_empty() {
        put_head(field, text.len(), into.tail());
        into.put_slice(text.as_bytes());
    }
}

/// A message's field. An empty message is written too: that it is there says something.
pub(crate) fn message_len(message: &impl Wire) -> usize {
    let len = message.len();
    1 + varint_len(len as u64) + len
}

pub(crate) fn put_message(field: u8, message: &impl Wire, into: &mut Rope) {
    put_head(field, message.len(), into.tail());
    message.put(into);
}

fn put_head(field: u8, len: usize, into: &mut BytesMut) {
    into.put_u8(field << 3 | LENGTH);
    put_varint(len as u64, into);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_told() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), i64::MAX as u64, u64::MAX] {
            let (mut ours, mut theirs) = (BytesMut::new(), Vec::new());
            put_varint(value, &mut ours);
            prost::encoding::encode_varint(value, &mut theirs);
            assert_eq!((&ours[..], ours.len()), (&theirs[..], varint_len(value)), "{value}");
        }
    }
}
