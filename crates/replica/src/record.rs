//! The records of the log on disk. The first byte says which; numbers are little-endian.
//!
//! ```text
//!   1  entry        group u32, term u64, index u64, kind u8, length of the context u32, context, data
//!   2  hard state   group u32, term u64, vote u64, commit u64
//!   3  base         group u32, index u64, term u64: a snapshot from a peer took the place of the log before it
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use consensus::{Entry, EntryType, HardState};

use crate::GroupId;

#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Entry(GroupId, Entry),
    Hard(GroupId, HardState),
    Base { group: GroupId, index: u64, term: u64 },
}

/// Bytes of an entry's record beside its data.
pub const ENTRY_HEAD: usize = 26;

impl Record {
    pub fn entry(group: GroupId, entry: &Entry) -> Bytes {
        let mut out = BytesMut::with_capacity(ENTRY_HEAD + entry.context.len() + entry.data.len());
        out.put_u8(1);
        out.put_u32_le(group);
        out.put_u64_le(entry.term);
        out.put_u64_le(entry.index);
        out.put_u8(match entry.get_entry_type() {
            EntryType::EntryNormal => 0,
            EntryType::EntryConfChange => 1,
            EntryType::EntryConfChangeV2 => 2,
        });
        out.put_u32_le(u32::try_from(entry.context.len()).expect("a context is a number and a member"));
        out.put_slice(&entry.context);
        out.put_slice(&entry.data);
        out.freeze()
    }

    pub fn hard(group: GroupId, hard: &HardState) -> Bytes {
        let mut out = BytesMut::with_capacity(29);
        out.put_u8(2);
        out.put_u32_le(group);
        out.put_u64_le(hard.term);
        out.put_u64_le(hard.vote);
        out.put_u64_le(hard.commit);
        out.freeze()
    }

    pub fn base(group: GroupId, index: u64, term: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(21);
        out.put_u8(3);
        out.put_u32_le(group);
        out.put_u64_le(index);
        out.put_u64_le(term);
        out.freeze()
    }

    /// Reads a record; the error says what it is not.
    pub fn decode(mut bytes: Bytes) -> Result<Self, &'static str> {
        let short = |_| "the record is too short";
        let tag = bytes.try_get_u8().map_err(short)?;
        let group = bytes.try_get_u32_le().map_err(short)?;
        let mut number = || bytes.try_get_u64_le().map_err(short);
        match tag {
            1 => {
                let (term, index) = (number()?, number()?);
                let kind = match bytes.try_get_u8().map_err(short)? {
                    0 => EntryType::EntryNormal,
                    1 => EntryType::EntryConfChange,
                    2 => EntryType::EntryConfChangeV2,
                    _ => return Err("an entry of an unknown kind"),
                };
                let length = bytes.try_get_u32_le().map_err(short)? as usize;
                if length > bytes.len() {
                    return Err("the record is too short");
                }
                let context = bytes.split_to(length);
                let mut entry = Entry { term, index, context, data: bytes, ..Default::default() };
                entry.set_entry_type(kind);
                Ok(Record::Entry(group, entry))
            }
            2 => {
                let (term, vote, commit) = (number()?, number()?, number()?);
                Ok(Record::Hard(group, HardState { term, vote, commit, ..Default::default() }))
            }
            3 => Ok(Record::Base { group, index: number()?, term: number()? }),
            _ => Err("a record of an unknown kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_come_back_as_they_went() {
        let mut entry = Entry { term: 3, index: 9, data: "data".into(), context: "who".into(), ..Default::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        assert_eq!(Record::decode(Record::entry(7, &entry)), Ok(Record::Entry(7, entry)));
        let hard = HardState { term: 1, vote: 2, commit: 3, ..Default::default() };
        assert_eq!(Record::decode(Record::hard(7, &hard)), Ok(Record::Hard(7, hard)));
        let base = Record::Base { group: 7, index: 9, term: 3 };
        assert_eq!(Record::decode(Record::base(7, 9, 3)), Ok(base));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            drop(Record::decode(bytes.into()));
        }
    }
}
