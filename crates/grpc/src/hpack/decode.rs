//! Decodes header blocks. A block's fields go to the caller one by one; the table outlives the block.

use bytes::Bytes;

use super::{DEFAULT_TABLE_BYTES, Field, huffman, table::Dynamic};

/// The block is no HPACK: a connection error of kind COMPRESSION_ERROR, since the tables differ from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header block cannot be decoded")]
pub(crate) struct DecodeError;

/// Bytes of one name or value at most.
const MAX_STRING_BYTES: usize = 64 * 1024;
/// Size updates at the start of one block at most (RFC 7541, 4.2).
const MAX_SIZE_UPDATES: usize = 2;

#[derive(Debug)]
pub(crate) struct Decoder {
    table: Dynamic,
    /// Changes whenever the table does: equal bytes mean equal fields for as long as it stays.
    generation: u64,
}

impl Decoder {
    pub fn new() -> Self {
        Decoder { table: Dynamic::new(DEFAULT_TABLE_BYTES), generation: 0 }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Decodes a whole block.
    pub fn decode(&mut self, block: &[u8], mut each: impl FnMut(Field)) -> Result<(), DecodeError> {
        let mut rest = block;
        let (mut updates, mut fields) = (0, 0usize);
        while let Some(first) = rest.first().copied() {
            match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    each(self.table.get(index).ok_or(DecodeError)?);
                    fields += 1;
                }
                0x40..0x80 => {
                    let field = self.literal(&mut rest, 6)?;
                    self.generation += 1;
                    self.table.insert(field.clone());
                    each(field);
                    fields += 1;
                }
                0x20..0x40 => {
                    let limit = integer(&mut rest, 5)?;
                    updates += 1;
                    if limit > DEFAULT_TABLE_BYTES || fields > 0 || updates > MAX_SIZE_UPDATES {
                        return Err(DecodeError);
                    }
                    self.generation += 1;
                    self.table.set_limit(limit);
                }
                _ => {
                    each(self.literal(&mut rest, 4)?);
                    fields += 1;
                }
            }
        }
        Ok(())
    }

    fn literal(&self, rest: &mut &[u8], bits: u32) -> Result<Field, DecodeError> {
        let name = match integer(rest, bits)? {
            0 => string(rest)?,
            index => self.table.get(index).ok_or(DecodeError)?.name,
        };
        Ok(Field { name, value: string(rest)? })
    }
}

fn byte(rest: &mut &[u8]) -> Result<u8, DecodeError> {
    let (first, others) = rest.split_first().ok_or(DecodeError)?;
    *rest = others;
    Ok(*first)
}

/// An integer whose first octet has `bits` bits of it. What is larger than any string is refused.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, DecodeError> {
    let most = (1usize << bits) - 1;
    let mut value = usize::from(byte(rest)?) & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let next = usize::from(byte(rest)?);
        value += (next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError)
}

fn string(rest: &mut &[u8]) -> Result<Bytes, DecodeError> {
    let coded = *rest.first().ok_or(DecodeError)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    if length > rest.len() || length > MAX_STRING_BYTES {
        return Err(DecodeError);
    }
    let (text, others) = rest.split_at(length);
    *rest = others;
    if !coded {
        return Ok(Bytes::copy_from_slice(text));
    }
    let mut decoded = Vec::with_capacity(length + length / 2);
    huffman::decode(text, MAX_STRING_BYTES, &mut decoded).ok_or(DecodeError)?;
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Decodes a block and compares its fields and the table's size afterwards.
    fn check(decoder: &mut Decoder, block: &str, expected: &[(&str, &str)], size: usize) {
        let mut found = Vec::new();
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        decoder.decode(&hex(block), |field| found.push((text(&field.name), text(&field.value)))).unwrap();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(found, expected);
        assert_eq!(decoder.table.size(), size);
    }

    const FIRST: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];

    #[test]
    fn requests_of_appendix_c_3_and_c_4() {
        let second: Vec<_> = FIRST.into_iter().chain([("cache-control", "no-cache")]).collect();
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        let mut plain = Decoder::new();
        check(&mut plain, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &FIRST, 57);
        check(&mut plain, "8286 84be 5808 6e6f 2d63 6163 6865", &second, 110);
        let block = "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65";
        check(&mut plain, block, &third, 164);
        let mut coded = Decoder::new();
        check(&mut coded, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &FIRST, 57);
        check(&mut coded, "8286 84be 5886 a8eb 1064 9cbf", &second, 110);
        check(&mut coded, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", &third, 164);
    }

    #[test]
    fn responses_of_appendix_c_6_evict() {
        let mut decoder = Decoder::new();
        decoder.table.set_limit(256);
        let (date, location) = ("Mon, 21 Oct 2013 20:13:21 GMT", "https://www.example.com");
        let first = [(":status", "302"), ("cache-control", "private"), ("date", date), ("location", location)];
        let block = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d
                     29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        check(&mut decoder, block, &first, 222);
        let second = [(":status", "307"), first[1], first[2], first[3]];
        check(&mut decoder, "4883 640e ffc1 c0bf", &second, 222);
        let third = [
            (":status", "200"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            ("location", location),
            ("content-encoding", "gzip"),
            ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ];
        let block = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d
                     d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106
                     3d50 07";
        check(&mut decoder, block, &third, 215);
    }

    #[test]
    fn damaged_blocks_are_refused() {
        for block in ["80", "c0", "ff ff ff ff ff 7f", "3f e2 1f", "82 20", "20 20 20", "40 03 61", "00 ff ff ff ff 0f"]
        {
            assert_eq!(Decoder::new().decode(&hex(block), |_| ()), Err(DecodeError), "{block}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe_and_the_table_keeps_its_bound(blocks: Vec<Vec<u8>>) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = decoder.decode(&block, |_| ());
                prop_assert!(decoder.table.size() <= DEFAULT_TABLE_BYTES);
            }
        }
    }
}
