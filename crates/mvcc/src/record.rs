//! One write of a key as bytes, in one slot of the slab.
//!
//! ```text
//!   key length, key, flags, revision, [sub], [revision - create, version], [lease], value length, value
//! ```
//!
//! Numbers are LEB128; what the flags say to be usual is left out. A value above [`INLINE`] bytes is kept beside, as
//! reference-counted bytes that every reader shares, and its number stands in four bytes at the place of the value.

use store_api::{LeaseId, Revision};

use crate::codec::put_u64;

/// Values up to so many bytes stand in the record and are copied for each reader: that costs no more than counting
/// references, and they need no allocation of their own.
pub(crate) const INLINE: usize = 4096;

const TOMBSTONE: u8 = 1;
/// The value is kept beside.
const BESIDE: u8 = 2;
const LEASED: u8 = 4;
/// Not the first write after creation.
const UPDATE: u8 = 8;
/// Not the first write of its revision.
const LATER: u8 = 16;

/// What a version says besides its key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub revision: Revision,
    /// Position among the writes of one revision: a transaction's events keep their order.
    pub sub: u32,
    pub tombstone: bool,
    /// 0 for a tombstone, as `version` and `lease`.
    pub create: Revision,
    /// 1 for the first write after creation.
    pub version: i64,
    pub lease: LeaseId,
}

impl Facts {
    pub fn tombstone(revision: Revision, sub: u32) -> Self {
        Facts { revision, sub, tombstone: true, create: 0, version: 0, lease: 0 }
    }
}

/// A value in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept<'a> {
    Inline(&'a [u8]),
    /// The number that it is kept under.
    Beside(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub key: &'a [u8],
    pub facts: Facts,
    pub value: Kept<'a>,
}

impl<'a> Record<'a> {
    pub fn write(&self, out: &mut Vec<u8>) {
        let f = &self.facts;
        put_u64(out, self.key.len() as u64);
        out.extend_from_slice(self.key);
        let update = !f.tombstone && (f.version != 1 || f.create != f.revision);
        let flag = |bit, set| if set { bit } else { 0 };
        out.push(
            flag(TOMBSTONE, f.tombstone)
                | flag(BESIDE, matches!(self.value, Kept::Beside(_)))
                | flag(LEASED, f.lease != 0)
                | flag(UPDATE, update)
                | flag(LATER, f.sub != 0),
        );
        put_u64(out, f.revision.cast_unsigned());
        if f.sub != 0 {
            put_u64(out, u64::from(f.sub));
        }
        if update {
            put_u64(out, f.revision.wrapping_sub(f.create).cast_unsigned());
            put_u64(out, f.version.cast_unsigned());
        }
        if f.lease != 0 {
            put_u64(out, f.lease.cast_unsigned());
        }
        match self.value {
            Kept::Inline(_) if f.tombstone => {}
            Kept::Inline(value) => {
                put_u64(out, value.len() as u64);
                out.extend_from_slice(value);
            }
            Kept::Beside(number) => out.extend_from_slice(&number.to_le_bytes()),
        }
    }

    /// Reads a record at the start of its slot.
    pub fn read(slot: &'a [u8]) -> Self {
        let mut at = 0;
        let key_len = number(slot, &mut at) as usize;
        let key = &slot[at..at + key_len];
        at += key_len;
        let flags = slot[at];
        at += 1;
        let revision = number(slot, &mut at).cast_signed();
        let sub = if flags & LATER == 0 { 0 } else { number(slot, &mut at) as u32 };
        let tombstone = flags & TOMBSTONE != 0;
        let (create, version) = match flags & (UPDATE | TOMBSTONE) {
            0 => (revision, 1),
            UPDATE => {
                let age = number(slot, &mut at).cast_signed();
                (revision.wrapping_sub(age), number(slot, &mut at).cast_signed())
            }
            _ => (0, 0),
        };
        let lease = if flags & LEASED == 0 { 0 } else { number(slot, &mut at).cast_signed() };
        let value = if tombstone {
            Kept::Inline(&[])
        } else if flags & BESIDE == 0 {
            let len = number(slot, &mut at) as usize;
            Kept::Inline(&slot[at..at + len])
        } else {
            Kept::Beside(u32::from_le_bytes([slot[at], slot[at + 1], slot[at + 2], slot[at + 3]]))
        };
        Record { key, facts: Facts { revision, sub, tombstone, create, version, lease }, value }
    }

    /// The key alone.
    pub fn key(slot: &'a [u8]) -> &'a [u8] {
        let mut at = 0;
        let len = number(slot, &mut at) as usize;
        &slot[at..at + len]
    }
}

fn number(slot: &[u8], at: &mut usize) -> u64 {
    let (mut n, mut shift) = (0, 0);
    loop {
        let byte = slot[*at];
        *at += 1;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return n;
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back(
            key in prop::collection::vec(any::<u8>(), 0..200),
            value in prop::collection::vec(any::<u8>(), 0..200),
            number in prop::option::of(any::<u32>()),
            facts in (1..1i64 << 62, any::<u32>(), any::<bool>(), 0..1i64 << 62, 1..1i64 << 62, any::<i64>()),
        ) {
            let (revision, sub, tombstone, create, version, lease) = facts;
            let record = Record {
                key: &key,
                facts: match tombstone {
                    true => Facts::tombstone(revision, sub),
                    false => Facts { revision, sub, tombstone, create, version, lease },
                },
                value: match number {
                    _ if tombstone => Kept::Inline(&[]),
                    Some(number) => Kept::Beside(number),
                    None => Kept::Inline(&value),
                },
            };
            let mut slot = Vec::new();
            record.write(&mut slot);
            slot.extend_from_slice(&[7; 9]);
            prop_assert_eq!(Record::read(&slot), record);
            prop_assert_eq!(Record::key(&slot), &key[..]);
        }
    }
}
