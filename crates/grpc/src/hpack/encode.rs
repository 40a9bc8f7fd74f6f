//! What a server writes: literals that touch no table, so that they can be made once and sent on any connection.

use bytes::{BufMut, BytesMut};

use super::table::STATIC;

/// Appends a header that neither side remembers. The name comes from the static table where it is there.
pub(crate) fn literal(name: &[u8], value: &[u8], into: &mut BytesMut) {
    match STATIC.iter().position(|(known, _)| known.as_bytes() == name) {
        Some(position) => integer(position + 1, 4, 0, into),
        None => {
            into.put_u8(0);
            string(name, into);
        }
    }
    string(value, into);
}

/// Appends `:status`, always the first header of a response.
pub(crate) fn status_line(code: u16, into: &mut BytesMut) {
    let text = code.to_string();
    match STATIC.iter().position(|entry| *entry == (":status", &text)) {
        Some(position) => integer(position + 1, 7, 0x80, into),
        None => literal(b":status", text.as_bytes(), into),
    }
}

/// A string as it is, not Huffman-coded.
pub(crate) fn string(text: &[u8], into: &mut BytesMut) {
    integer(text.len(), 7, 0, into);
    into.put_slice(text);
}

/// An integer whose first octet has `bits` bits of it, below `flags` (RFC 7541, 5.1).
pub(crate) fn integer(value: usize, bits: u32, flags: u8, into: &mut BytesMut) {
    let most = (1usize << bits) - 1;
    if value < most {
        into.put_u8(flags | value as u8);
        return;
    }
    into.put_u8(flags | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        into.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    into.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_in_the_specification() {
        let check = |value: usize, bits: u32, expected: &[u8]| {
            let mut out = BytesMut::new();
            integer(value, bits, 0, &mut out);
            assert_eq!(&out[..], expected);
        };
        check(10, 5, &[10]);
        check(1337, 5, &[31, 154, 10]);
        check(42, 8, &[42]);
        check(127, 7, &[127, 0]);
    }
}
