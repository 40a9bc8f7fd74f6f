//! One revision of one key: what it is, and its two byte strings in the bucket `key`.
//!
//! Knows no file.

use crate::wire::{Field, Fields, bytes_len, int_len, put_bytes, put_int};

/// Main and sub revision with a '_' between them.
pub const REVISION_LEN: usize = 17;
const SEPARATOR: u8 = b'_';
/// What follows the revision of a deletion.
const TOMBSTONE: u8 = b't';

/// What a write or a deletion left in the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    pub revision: i64,
    /// Position among the writes of one revision.
    pub sub: i64,
    /// The key was deleted; value, create, version and lease are empty.
    pub tombstone: bool,
    /// Empty only in a mark (see [`Record::is_mark`]).
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub create: i64,
    /// Writes since creation; 1 for the first.
    pub version: i64,
    pub lease: i64,
}

impl<'a> Record<'a> {
    /// No key was written: `etcdutl snapshot restore --bump-revision` has left it, so that revisions go on from here.
    pub fn is_mark(&self) -> bool {
        self.key.is_empty()
    }

    /// Its key in the bucket.
    pub(crate) fn encode_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&encode_revision(self.revision, self.sub));
        out.extend(self.tombstone.then_some(TOMBSTONE));
    }

    /// Its value in the bucket.
    pub(crate) fn encode_value(&self, out: &mut Vec<u8>) {
        put_bytes(out, 1, self.key);
        if self.tombstone || self.is_mark() {
            return;
        }
        put_int(out, 2, self.create);
        put_int(out, 3, self.revision);
        put_int(out, 4, self.version);
        put_bytes(out, 5, self.value);
        put_int(out, 6, self.lease);
    }

    /// Bytes of its value in the bucket.
    pub(crate) fn value_len(&self) -> usize {
        let key = bytes_len(self.key.len());
        if self.tombstone || self.is_mark() {
            return key;
        }
        let numbers = [self.create, self.revision, self.version, self.lease];
        key + bytes_len(self.value.len()) + numbers.into_iter().map(int_len).sum::<usize>()
    }

    pub(crate) fn decode(key: &[u8], value: &'a [u8]) -> Result<Self, &'static str> {
        let (revision, suffix) = key.split_at_checked(REVISION_LEN).ok_or("a revision that is too short")?;
        let (revision, sub) = decode_revision(revision)?;
        let tombstone = match suffix {
            [] => false,
            [TOMBSTONE] => true,
            _ => return Err("a revision with an unknown suffix"),
        };
        let mut record = Record { revision, sub, tombstone, ..Record::default() };
        let mut modified = 0;
        let mut fields = Fields(value);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(bytes)) => record.key = bytes,
                (2, Field::Int(n)) => record.create = n,
                (3, Field::Int(n)) => modified = n,
                (4, Field::Int(n)) => record.version = n,
                (5, Field::Bytes(bytes)) => record.value = bytes,
                (6, Field::Int(n)) => record.lease = n,
                (1..=6, _) => return Err("a field of another type"),
                _ => {}
            }
        }
        if record.key.is_empty() && (tombstone || !value.is_empty()) {
            return Err("a record without its key");
        }
        if !tombstone && !record.is_mark() && modified != revision {
            return Err("a record of another revision");
        }
        Ok(record)
    }
}

/// A revision as it is in keys and in the bucket `meta`.
pub fn encode_revision(revision: i64, sub: i64) -> [u8; REVISION_LEN] {
    let mut out = [SEPARATOR; REVISION_LEN];
    out[..8].copy_from_slice(&revision.to_be_bytes());
    out[9..].copy_from_slice(&sub.to_be_bytes());
    out
}

pub fn decode_revision(bytes: &[u8]) -> Result<(i64, i64), &'static str> {
    let number = |at: usize| -> Option<i64> { Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
    match (bytes.len(), bytes.get(8), number(0), number(9)) {
        (REVISION_LEN, Some(&SEPARATOR), Some(main), Some(sub)) if main >= 0 && sub >= 0 => Ok((main, sub)),
        _ => Err("not a revision"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_has_etcds_bytes() {
        let check = |record: Record<'_>, key: &str, value: &str| {
            let (mut k, mut v) = (Vec::new(), Vec::new());
            record.encode_key(&mut k);
            record.encode_value(&mut v);
            assert_eq!((hex::encode(&k), hex::encode(&v)), (key.to_owned(), value.to_owned()));
            assert_eq!(Record::decode(&k, &v), Ok(record));
            assert_eq!(record.value_len(), v.len());
        };
        let put = Record { revision: 2, key: b"a", value: b"xy", create: 2, version: 1, ..Record::default() };
        check(put, "00000000000000025f0000000000000000", "0a01611002180220012a027879");
        let deletion = Record { revision: 258, sub: 3, tombstone: true, key: b"a", ..Record::default() };
        check(deletion, "00000000000001025f000000000000000374", "0a0161");
        check(Record { revision: 9, ..Record::default() }, "00000000000000095f0000000000000000", "");
    }

    proptest! {
        #[test]
        fn lengths_are_known_before(
            n: (i64, i64), key in prop::collection::vec(any::<u8>(), 1..300), value: Vec<u8>, lease: i64,
        ) {
            let record = Record {
                revision: n.0 & i64::MAX, key: &key, value: &value, create: n.1, version: n.1 >> 7, lease,
                ..Record::default()
            };
            let (mut k, mut v) = (Vec::new(), Vec::new());
            record.encode_key(&mut k);
            record.encode_value(&mut v);
            prop_assert_eq!(v.len(), record.value_len());
            prop_assert_eq!(Record::decode(&k, &v), Ok(record));
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(key: Vec<u8>, value: Vec<u8>, revision in 0..i64::MAX) {
            let _ = Record::decode(&key, &value);
            let _ = Record::decode(&encode_revision(revision, 0), &value);
        }
    }
}
