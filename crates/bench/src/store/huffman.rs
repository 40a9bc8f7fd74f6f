//! HPACK's Huffman code (RFC 7541, appendix B), decoding only. The code is canonical, so that the lengths say all.

/// Bits of each byte's code. The end-of-string code, 30 ones, never stands in a string and is left out.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
];
const LONGEST: usize = 30;

/// The bytes of an encoded string; padding at its end is dropped. `None` if it is no such string.
pub fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let table = Table::new();
    let mut out = Vec::with_capacity(encoded.len() * 8 / 5);
    let (mut code, mut bits) = (0u32, 0usize);
    for byte in encoded {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            bits += 1;
            if let Some(symbol) = table.symbol(code, bits) {
                out.push(symbol);
                (code, bits) = (0, 0);
            } else if bits >= LONGEST {
                return None;
            }
        }
    }
    // Padding is less than a byte, of ones.
    (bits < 8 && code == (1 << bits) - 1).then_some(out)
}

/// For each length the first code and the symbols in order. Made per call: strings are decoded only when a connection
/// shows a header for the first time.
struct Table {
    order: Vec<u8>,
    /// First code and index of its symbol, by length.
    first: [(u32, usize, usize); LONGEST + 1],
}

impl Table {
    fn new() -> Self {
        let mut order: Vec<u8> = (0..=255).collect();
        order.sort_by_key(|symbol| LENGTHS[usize::from(*symbol)]);
        let mut first = [(0, 0, 0); LONGEST + 1];
        let (mut code, mut index) = (0, 0);
        for (bits, slot) in first.iter_mut().enumerate().skip(1) {
            let count = LENGTHS.iter().filter(|length| usize::from(**length) == bits).count();
            *slot = (code, index, count);
            index += count;
            code = (code + count as u32) << 1;
        }
        Table { order, first }
    }

    fn symbol(&self, code: u32, bits: usize) -> Option<u8> {
        let (first, index, count) = self.first[bits];
        let offset = code.checked_sub(first)? as usize;
        (offset < count).then(|| self.order[index + offset])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_examples_decode() {
        // RFC 7541, C.4 and C.6.
        let cases: [(&[u8], &str); 4] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
        ];
        for (encoded, text) in cases {
            assert_eq!(decode(encoded).as_deref(), Some(text.as_bytes()), "{text}");
        }
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
    }
}
