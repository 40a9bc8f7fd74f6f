//! Huffman coding of header strings (RFC 7541, appendix B), decoding only: a server of small answers gains nothing by
//! encoding so.
//!
//! The code is canonical: within a length, codes ascend with the symbols. Hence the lengths alone give the table.

use std::sync::LazyLock;

/// Bits of each symbol's code; the last is the end-of-string mark.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28,
    28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23,
    23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21,
    26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const END_OF_STRING: u16 = 256;
const MAX_BITS: usize = 30;

/// Codes of one length.
#[derive(Clone, Copy, Default)]
struct Length {
    bits: u32,
    /// The first code past this length's, moved to the left end of 32 bits: a window below it has this length.
    limit: u64,
    /// The first code of this length, likewise.
    first: u64,
    /// Where this length's symbols begin in the table.
    start: usize,
}

struct Table {
    lengths: Vec<Length>,
    symbols: Vec<u16>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut symbols: Vec<u16> = (0..=END_OF_STRING).collect();
    symbols.sort_by_key(|symbol| LENGTHS[usize::from(*symbol)]);
    let (mut lengths, mut code, mut start) = (Vec::new(), 0u64, 0);
    for bits in 1..=MAX_BITS {
        code <<= 1;
        let count = LENGTHS.iter().filter(|length| usize::from(**length) == bits).count();
        if count > 0 {
            let shift = 32 - bits;
            let (first, limit) = (code << shift, (code + count as u64) << shift);
            lengths.push(Length { bits: bits as u32, limit, first, start });
            code += count as u64;
            start += count;
        }
    }
    Table { lengths, symbols }
});

/// Appends what `coded` stands for. `None` for what no encoder may write: the end-of-string mark, padding of more than
/// seven bits or of other bits than ones; or if more than `limit` bytes would come out.
pub(super) fn decode(coded: &[u8], limit: usize, into: &mut Vec<u8>) -> Option<()> {
    let table = &*TABLE;
    // The next bits, at the left end of 64.
    let (mut window, mut held) = (0u64, 0u32);
    let mut rest = coded.iter();
    loop {
        while held <= 56 {
            let Some(byte) = rest.next() else { break };
            window |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        let head = window >> 32;
        let length = table.lengths.iter().find(|length| head < length.limit)?;
        if length.bits > held {
            break;
        }
        let symbol = table.symbols[length.start + ((head - length.first) >> (32 - length.bits)) as usize];
        if symbol == END_OF_STRING || into.len() >= limit {
            return None;
        }
        into.push(symbol as u8);
        window <<= length.bits;
        held -= length.bits;
    }
    // What is left is the beginning of the end-of-string mark: ones only.
    let ones = if held == 0 { 0 } else { u64::MAX << (64 - held) };
    (held < 8 && window == ones).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &[u8]) -> Vec<u8> {
        let table = &*TABLE;
        let (mut out, mut window, mut held) = (Vec::new(), 0u64, 0u32);
        for byte in text {
            let bits = u32::from(LENGTHS[usize::from(*byte)]);
            let length = table.lengths.iter().find(|length| length.bits == bits).unwrap();
            let index = table.symbols[length.start..].iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            let code = (length.first >> (32 - bits)) + index as u64;
            window = (window << bits) | code;
            held += bits;
            while held >= 8 {
                out.push((window >> (held - 8)) as u8);
                held -= 8;
            }
        }
        if held > 0 {
            out.push(((window << (8 - held)) as u8) | (0xff >> held));
        }
        out
    }

    #[test]
    fn the_examples_of_the_specification() {
        let check = |hex: &[u8], text: &str| {
            let mut out = Vec::new();
            decode(hex, 100, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), text);
            assert_eq!(encode(text.as_bytes()), hex);
        };
        check(&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com");
        check(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache");
        check(&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value");
        check(&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private");
    }

    #[test]
    fn what_no_encoder_may_write_is_refused() {
        let check = |coded: &[u8]| assert_eq!(decode(coded, 100, &mut Vec::new()), None, "{coded:x?}");
        check(&[0xff]);
        check(&[0xff, 0xff, 0xff, 0xff]);
        check(&[0x00]);
        check(&[0x07, 0xff]);
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(text: Vec<u8>) {
            let mut out = Vec::new();
            prop_assert_eq!(decode(&encode(&text), text.len(), &mut out), Some(()));
            prop_assert_eq!(out, text);
        }

        #[test]
        fn any_bytes_are_safe(coded: Vec<u8>) {
            let mut out = Vec::new();
            let _ = decode(&coded, 64, &mut out);
            prop_assert!(out.len() <= 64);
        }
    }
}
