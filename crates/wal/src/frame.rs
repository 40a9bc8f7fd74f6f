//! One batch of entries as bytes.
//!
//! ```text
//!    0  magic                 4 bytes
//!    4  length of the body    u32 (all numbers little-endian)
//!    8  index of the first    u64
//!   16  number of entries     u32
//!   20  crc32c of the body    u32, seeded with the store's id
//!   24  crc32c of bytes 0..24 u32, seeded likewise
//!   28  mark                  4 bytes: the head was written to its end
//!   32  body                  per entry: length u32, bytes
//!       padding               0 to 7 bytes, so that frames start at multiples of 8
//!       tail                  8 bytes: the frame was written to its end
//! ```
//!
//! Mark and tail have no zero byte: in a segment of zeroes, a frame whose tail is there was written completely, and
//! if its sums are wrong all the same, it is damaged and not torn.

use bytes::Bytes;

const MAGIC: [u8; 4] = *b"PLWF";
const MARK: [u8; 4] = [0xc3, 0x5a, 0xa5, 0x3c];
const TAIL: [u8; 8] = [0x96, 0xe1, 0x5a, 0xc3, 0x3c, 0xa5, 0x1e, 0x69];
const PAD: u8 = 0xa5;
pub const HEAD: usize = 32;
/// Frames start at multiples of this.
pub const ALIGN: usize = 8;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Appends a frame to `out`.
pub fn encode(out: &mut Vec<u8>, store: u64, first: u64, entries: &[Bytes]) {
    let start = out.len();
    let length = entries.iter().map(|e| 4 + e.len()).sum::<usize>();
    out.reserve(total(length));
    out.extend_from_slice(&[0; HEAD]);
    for entry in entries {
        let len = u32::try_from(entry.len()).expect("requests are bounded far below 4 GiB");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(entry);
    }
    let crc = crc(store, &out[start + HEAD..]);
    out.resize(start + total(length) - TAIL.len(), PAD);
    out.extend_from_slice(&TAIL);
    let head = &mut out[start..start + HEAD];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&u32::try_from(length).expect("batches are bounded far below 4 GiB").to_le_bytes());
    head[8..16].copy_from_slice(&first.to_le_bytes());
    head[16..20].copy_from_slice(&u32::try_from(entries.len()).expect("batches are bounded").to_le_bytes());
    head[20..24].copy_from_slice(&crc.to_le_bytes());
    let sum = self::crc(store, &head[..24]);
    head[24..28].copy_from_slice(&sum.to_le_bytes());
    head[28..].copy_from_slice(&MARK);
}

/// What stands at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole frame and the place after it.
    Frame { first: u64, entries: Vec<&'a [u8]>, size: usize },
    /// Nothing was written from here on.
    Nothing,
    /// A frame that was not written to its end.
    Torn,
    /// A frame that was written to its end and then changed.
    Damaged(&'static str),
}

/// Reads the frame at the start of `rest`, which goes from `offset` to the segment's end.
pub fn read(rest: &[u8], offset: usize, store: u64) -> Found<'_> {
    if rest.iter().all(|b| *b == 0) {
        return Found::Nothing;
    }
    let Some((head, after)) = rest.split_at_checked(HEAD) else { return Found::Torn };
    let (length, first, count) = match parse(head, store) {
        Ok(parsed) => parsed,
        Err(_) if head_is_torn(head, offset) => return Found::Torn,
        Err(why) => return Found::Damaged(why),
    };
    let size = total(length);
    if rest.len() < size {
        return Found::Torn;
    }
    let (body, end) = after[..size - HEAD].split_at(length);
    let (pad, tail) = end.split_at(end.len() - TAIL.len());
    if crc(store, body) == u32_at(head, 20) && tail == TAIL && pad.iter().all(|b| *b == PAD) {
        return match split(body, count) {
            Some(entries) => Found::Frame { first, entries, size },
            None => Found::Damaged("entries do not fill the frame"),
        };
    }
    // Writing goes by sectors in any order: a sector of zeroes was not written yet.
    let first_sector = (offset + HEAD).next_multiple_of(SECTOR) - (offset + HEAD);
    let sectors = after[..size - HEAD].get(first_sector..).unwrap_or_default();
    let hole = sectors.chunks_exact(SECTOR).any(|s| s.iter().all(|b| *b == 0));
    match hole || tail[TAIL.len() - 1] == 0 {
        true => Found::Torn,
        false => Found::Damaged("checksum mismatch"),
    }
}

/// Whether a head was written in part: to its beginning, or, where it lies in two sectors, only the second of them.
fn head_is_torn(head: &[u8], offset: usize) -> bool {
    let first = &head[..(offset.next_multiple_of(SECTOR) - offset).min(HEAD)];
    let second_alone = !first.is_empty() && first.iter().all(|b| *b == 0);
    second_alone || (head[28..] != MARK && head[HEAD - 1] == 0)
}

/// Whether a whole frame of an index after `index` starts anywhere in `rest`: then what stands before it was once
/// complete.
pub fn later_frame(rest: &[u8], store: u64, index: u64) -> Option<usize> {
    (0..rest.len().saturating_sub(HEAD)).step_by(ALIGN).find(|at| {
        rest[*at..].starts_with(&MAGIC)
            && matches!(read(&rest[*at..], *at, store), Found::Frame { first, .. } if first > index)
    })
}

fn parse(head: &[u8], store: u64) -> Result<(usize, u64, usize), &'static str> {
    if head[..4] != MAGIC {
        return Err("not a frame");
    }
    if crc(store, &head[..24]) != u32_at(head, 24) {
        return Err("checksum mismatch in a frame's head");
    }
    if head[28..] != MARK {
        return Err("a frame's head has no mark");
    }
    let first = u64::from_le_bytes(head[8..16].try_into().expect("eight bytes"));
    Ok((u32_at(head, 4) as usize, first, u32_at(head, 16) as usize))
}

fn split(mut body: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let (len, rest) = body.split_at_checked(4)?;
        let (entry, rest) = rest.split_at_checked(u32_at(len, 0) as usize)?;
        entries.push(entry);
        body = rest;
    }
    body.is_empty().then_some(entries)
}

fn total(length: usize) -> usize {
    (HEAD + length + TAIL.len()).next_multiple_of(ALIGN)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn crc(store: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&store.to_le_bytes()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(entries: &[&'static [u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, 7, 5, &entries.iter().map(|e| Bytes::from_static(e)).collect::<Vec<_>>());
        out
    }

    #[test]
    fn torn_and_damaged_are_told_apart() {
        let whole = frame(&[b"one", b"", b"three"]);
        assert!(matches!(read(&whole, 0, 7), Found::Frame { first: 5, .. }));
        assert!(matches!(read(&whole, 0, 8), Found::Damaged(_)), "another store's frame");
        for cut in 0..whole.len() {
            let expected = if cut == 0 { Found::Nothing } else { Found::Torn };
            assert_eq!(read(&whole[..cut], 0, 7), expected, "cut at {cut}");
            let mut zeroed = whole.clone();
            zeroed[cut..].fill(0);
            assert_eq!(read(&zeroed, 0, 7), expected, "zeroes from {cut}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(matches!(read(&flipped, 0, 7), Found::Damaged(_)), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_sector_that_was_not_written_is_a_tear() {
        let mut out = Vec::new();
        encode(&mut out, 7, 5, &[vec![1; 4096].into()]);
        for offset in [0, 8, 64, 504] {
            let sector = 1024 - offset;
            let mut torn = out.clone();
            torn[sector..sector + SECTOR].fill(0);
            assert_eq!(read(&torn, offset, 7), Found::Torn);
            torn[sector] = 1;
            assert!(matches!(read(&torn, offset, 7), Found::Damaged(_)));
        }
    }

    #[test]
    fn a_head_of_which_one_sector_was_not_written_is_a_tear() {
        let out = frame(&[b"one", b"two"]);
        for offset in [488, 496, 504] {
            let mut torn = out.clone();
            torn[..SECTOR - offset].fill(0);
            assert_eq!(read(&torn, offset, 7), Found::Torn, "only the second, at {offset}");
            assert!(matches!(read(&torn, 0, 7), Found::Damaged(_)), "a sector is whole");
            let mut torn = out.clone();
            torn[SECTOR - offset..].fill(0);
            assert_eq!(read(&torn, offset, 7), Found::Torn, "only the first, at {offset}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            drop(read(&bytes, 0, 1));
            later_frame(&bytes, 1, 0);
        }
    }
}
