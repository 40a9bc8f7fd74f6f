//! Header blocks (RFC 7541), as little of them as a load generator needs: requests whose headers are indexed after the
//! first one, and of answers only whether they say that the call succeeded.

use std::collections::VecDeque;

use anyhow::{Context, bail, ensure};

use super::huffman;

/// The table's size that both sides begin with and nobody here changes.
const TABLE_BYTES: usize = 4096;
/// What the standard counts for an entry beside its text.
const ENTRY_BYTES: usize = 32;
const STATIC_ENTRIES: usize = 61;
/// The static entries 1 and 4 to 7, 8 (`:status: 200`) and 31, by what they are used for here.
const AUTHORITY: u8 = 1;
const METHOD_POST: u8 = 0x80 | 3;
const PATH: u8 = 4;
const SCHEME_HTTP: u8 = 0x80 | 6;
const STATUS: std::ops::RangeInclusive<usize> = 8..=14;
const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
const CONTENT_TYPE: u8 = 31;
const USER_AGENT: u8 = 58;

/// Encodes the header blocks of gRPC requests on one connection.
pub struct Encoder {
    authority: String,
    /// Values in the order in which they went into the server's table; no two headers here share one.
    table: Vec<String>,
    /// The last block, as long as it holds.
    last: Option<(&'static str, Vec<u8>)>,
}

impl Encoder {
    pub fn new(authority: String) -> Self {
        Encoder { authority, table: Vec::new(), last: None }
    }

    /// Appends the block for a request to `path`. Some hundred bytes the first time, seven from then on.
    pub fn request(&mut self, path: &'static str, out: &mut Vec<u8>) {
        if let Some((_, block)) = self.last.as_ref().filter(|(last, _)| *last == path) {
            out.extend_from_slice(block);
            return;
        }
        let mut block = vec![METHOD_POST, SCHEME_HTTP];
        let (known, authority) = (self.table.len(), self.authority.clone());
        // What begins with a colon comes first, or the server takes the request as malformed.
        self.header(PATH, None, path, &mut block);
        self.header(AUTHORITY, None, &authority, &mut block);
        self.header(CONTENT_TYPE, None, "application/grpc", &mut block);
        self.header(0, Some("te"), "trailers", &mut block);
        self.header(USER_AGENT, None, "plinth-bench/1", &mut block);
        out.extend_from_slice(&block);
        self.last = (self.table.len() == known).then_some((path, block));
    }

    fn header(&mut self, name_index: u8, name: Option<&str>, value: &str, out: &mut Vec<u8>) {
        // The newest entry has the lowest index.
        match self.table.iter().rev().position(|known| known == value) {
            Some(age) => out.push(0x80 | (STATIC_ENTRIES + 1 + age) as u8),
            None => {
                insert(name_index, name, value, out);
                self.table.push(value.to_owned());
            }
        }
    }
}

/// A literal that both sides put into their tables. All texts here are shorter than 127 bytes.
fn insert(name_index: u8, name: Option<&str>, value: &str, out: &mut Vec<u8>) {
    out.push(0x40 | name_index);
    for text in name.into_iter().chain([value]) {
        debug_assert!(text.len() < 127);
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
}

/// What an answer's headers or trailers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// HTTP's status, unless 200.
    pub http_status: Option<String>,
    pub grpc_status: Option<u32>,
    pub grpc_message: Option<String>,
}

/// Reads header blocks and keeps the table that they refer to.
#[derive(Default)]
pub struct Decoder {
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Decoder {
    /// Reads a whole block.
    pub fn block(&mut self, mut block: &[u8]) -> anyhow::Result<Said> {
        let mut said = Said::default();
        while let [first, ..] = *block {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                self.indexed(index, &mut said)?;
            } else if first & 0xe0 == 0x20 {
                let size = integer(&mut block, 5)?;
                ensure!(size <= TABLE_BYTES, "a header table of {size} bytes");
                self.shrink(size);
            } else {
                let keep = first & 0x40 != 0;
                let index = integer(&mut block, if keep { 6 } else { 4 })?;
                let name = if index == 0 { string(&mut block)? } else { self.name(index)? };
                let value = string(&mut block)?;
                note(&name, &value, &mut said);
                if keep {
                    self.keep(name, value);
                }
            }
        }
        Ok(said)
    }

    fn indexed(&self, index: usize, said: &mut Said) -> anyhow::Result<()> {
        if index > STATIC_ENTRIES {
            let (name, value) =
                self.table.get(index - STATIC_ENTRIES - 1).context("a header that is not in the table")?;
            note(name, value, said);
        } else if STATUS.contains(&index) {
            note(b":status", STATUSES[index - STATUS.start()].as_bytes(), said);
        }
        Ok(())
    }

    /// The static table's other names mean nothing here.
    fn name(&self, index: usize) -> anyhow::Result<Vec<u8>> {
        if index > STATIC_ENTRIES {
            let entry = self.table.get(index - STATIC_ENTRIES - 1).context("a name that is not in the table")?;
            return Ok(entry.0.clone());
        }
        Ok(if STATUS.contains(&index) { b":status".to_vec() } else { vec![b'?'; static_name_len(index)?] })
    }

    fn keep(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.bytes += name.len() + value.len() + ENTRY_BYTES;
        self.table.push_front((name, value));
        self.shrink(TABLE_BYTES);
    }

    fn shrink(&mut self, size: usize) {
        while self.bytes > size {
            let (name, value) = self.table.pop_back().expect("bytes are counted only while entries are there");
            self.bytes -= name.len() + value.len() + ENTRY_BYTES;
        }
    }
}

/// Lengths of the names in the static table: an entry's size counts them.
fn static_name_len(index: usize) -> anyhow::Result<usize> {
    const LENGTHS: [u8; STATIC_ENTRIES] = [
        10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6,
        4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
    ];
    let length = index.checked_sub(1).and_then(|index| LENGTHS.get(index));
    Ok(usize::from(*length.context("a header with the index 0")?))
}

fn note(name: &[u8], value: &[u8], said: &mut Said) {
    let text = || String::from_utf8_lossy(value).into_owned();
    match name {
        b":status" if value != b"200" => said.http_status = Some(text()),
        b"grpc-status" => said.grpc_status = Some(text().parse().unwrap_or(u32::MAX)),
        b"grpc-message" => said.grpc_message = Some(text()),
        _ => {}
    }
}

/// An integer with a prefix of so many bits.
fn integer(block: &mut &[u8], prefix: u32) -> anyhow::Result<usize> {
    let mut next = || -> anyhow::Result<u8> {
        let (first, rest) = block.split_first().context("a header block that ends too early")?;
        *block = rest;
        Ok(*first)
    };
    let mask = (1u8 << prefix) - 1;
    let mut value = usize::from(next()? & mask);
    if value < usize::from(mask) {
        return Ok(value);
    }
    for shift in [0, 7, 14] {
        let byte = next()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a header integer that is too large")
}

fn string(block: &mut &[u8]) -> anyhow::Result<Vec<u8>> {
    let coded = block.first().context("a header block that ends too early")? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).context("a header text that ends too early")?;
    *block = rest;
    if coded { huffman::decode(text).context("a header text that is not Huffman code") } else { Ok(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_whether_they_succeeded() {
        let mut decoder = Decoder::default();
        let mut check = |block: &[u8], http: Option<&str>, status: Option<u32>, message: Option<&str>| {
            let said = Said {
                http_status: http.map(str::to_owned),
                grpc_status: status,
                grpc_message: message.map(str::to_owned),
            };
            assert_eq!(decoder.block(block).unwrap(), said, "{block:?}");
        };
        check(&[0x88], None, None, None);
        check(&[0x8d], Some("404"), None, None);
        // Without the table, then into it, then out of it.
        check(b"\x00\x0bgrpc-status\x012", None, Some(2), None);
        check(b"\x40\x0bgrpc-status\x010", None, Some(0), None);
        check(b"\x40\x0cgrpc-message\x02no", None, None, Some("no"));
        check(&[0xbf, 0xbe], None, Some(0), Some("no"));
        // content-type by its static name, which moves the others on.
        check(b"\x5f\x10application/grpc", None, None, None);
        check(&[0xc0], None, Some(0), None);
    }

    #[test]
    fn the_oldest_entries_leave_a_full_table() {
        let mut decoder = Decoder::default();
        for number in 0..200u8 {
            decoder.block(&[0x40, 1, b'n', 1, number]).unwrap();
        }
        assert_eq!(decoder.table.len(), TABLE_BYTES / (ENTRY_BYTES + 2));
        decoder.block(&[0x20]).unwrap();
        assert_eq!((decoder.table.len(), decoder.bytes), (0, 0));
    }

    #[test]
    fn the_second_request_is_seven_bytes() {
        let mut encoder = Encoder::new("127.0.0.1:1".into());
        let mut blocks = |path| {
            let mut out = Vec::new();
            encoder.request(path, &mut out);
            out
        };
        assert!(blocks("/a").len() > 7);
        // Path and authority stand before the rest.
        assert_eq!(blocks("/a"), [0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
        assert_eq!(blocks("/a"), [0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
        blocks("/b");
        assert_eq!(blocks("/a"), [0x83, 0x86, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf]);
        assert_eq!(blocks("/b"), [0x83, 0x86, 0xbe, 0xc2, 0xc1, 0xc0, 0xbf]);
    }
}
