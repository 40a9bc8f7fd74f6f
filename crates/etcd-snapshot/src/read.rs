//! A snapshot, or an etcd's database, that is open for reading.
//!
//! Holds the facts; records are read one after the other. Knows no store that they go into.

use bolt::{Cursor, Db, Source, Value};
use sha2::{Digest, Sha256};

use crate::{
    Facts, ReadError, Record,
    pairs::{self, AFTER, BEFORE, KEY},
    record::encode_revision,
};

/// Bytes of facts that are held in memory at most.
const FACTS_LIMIT: usize = 256 << 20;
/// Bytes that are hashed at once.
const HASH_PORTION: usize = 64 * 1024;
const HASH_LEN: u64 = 32;
/// A database's length is a multiple of this, so that a hash behind it is told by the length.
const SECTOR: u64 = 512;

/// What to do about the hash at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashCheck {
    /// It must be there and match, as for what `etcdctl snapshot save` has made.
    Required,
    /// It must match if it is there.
    IfPresent,
    /// It is not looked at.
    Skip,
}

/// An etcd database.
#[derive(Debug)]
pub struct Snapshot<S> {
    pub(crate) db: Db<S>,
    facts: Facts,
}

impl<S: Source> Snapshot<S> {
    /// Opens a file; reads all of it once if its hash is to be checked.
    pub fn open(mut source: S, check: HashCheck) -> Result<Self, ReadError> {
        let has_hash = source.size() % SECTOR == HASH_LEN;
        match check {
            HashCheck::Required if !has_hash => return Err(ReadError::NoHash),
            HashCheck::Required | HashCheck::IfPresent if has_hash => check_hash(&mut source)?,
            _ => {}
        }
        let mut db = Db::open(source)?;
        let facts = read_facts(&mut db)?;
        Ok(Snapshot { db, facts })
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The history of all keys, in the order of revisions.
    pub fn records(&mut self) -> Result<Records<'_, S>, ReadError> {
        self.records_from(0)
    }

    /// The history from a revision on.
    pub fn records_from(&mut self, revision: i64) -> Result<Records<'_, S>, ReadError> {
        let bucket = self.db.bucket(&[KEY.as_bytes()])?.ok_or(ReadError::NoBucket(KEY))?;
        let mut cursor = self.db.cursor(&bucket)?;
        cursor.seek(&encode_revision(revision.max(0), 0))?;
        Ok(Records { cursor })
    }
}

/// The history of all keys.
#[derive(Debug)]
pub struct Records<'a, S> {
    cursor: Cursor<'a, S>,
}

impl<S: Source> Records<'_, S> {
    /// The next record; `None` after the last.
    #[allow(clippy::should_implement_trait, reason = "a record borrows the page that it is on")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        let Some(entry) = self.cursor.next()? else { return Ok(None) };
        let decoded = match entry.value {
            Value::Bytes(value) => Record::decode(entry.key, value),
            Value::Bucket(_) => Err("a bucket among the revisions"),
        };
        decoded.map(Some).map_err(|why| ReadError::Record { page: entry.page, key: hex::encode(entry.key), why })
    }
}

fn check_hash<S: Source>(source: &mut S) -> Result<(), ReadError> {
    let end = source.size() - HASH_LEN;
    let mut buffer = vec![0; HASH_PORTION];
    let mut hash = Sha256::new();
    let mut offset = 0;
    while offset < end {
        let length = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        read(source, offset, &mut buffer[..length])?;
        hash.update(&buffer[..length]);
        offset += length as u64;
    }
    let mut said = [0; HASH_LEN as usize];
    read(source, end, &mut said)?;
    let found: [u8; HASH_LEN as usize] = hash.finalize().into();
    if said == found {
        return Ok(());
    }
    Err(ReadError::Hash { said: hex::encode(said), found: hex::encode(found) })
}

fn read<S: Source>(source: &mut S, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
    let length = into.len();
    source.read_at(offset, into).map_err(|source| ReadError::Source { offset, length, source })
}

fn read_facts<S: Source>(db: &mut Db<S>) -> Result<Facts, ReadError> {
    let mut facts = Facts::default();
    let mut held = 0;
    for name in BEFORE.into_iter().chain(AFTER) {
        // Versions before 3.5 have fewer buckets.
        let Some(bucket) = db.bucket(&[name.as_bytes()])? else { continue };
        let mut cursor = db.cursor(&bucket)?;
        while let Some(entry) = cursor.next()? {
            let Value::Bytes(value) = entry.value else { continue };
            held += entry.key.len() + value.len();
            if held > FACTS_LIMIT {
                return Err(ReadError::TooManyFacts { limit: FACTS_LIMIT });
            }
            pairs::decode(&mut facts, name, entry.key, value).map_err(|why| ReadError::Fact {
                page: entry.page,
                bucket: name,
                key: String::from_utf8_lossy(entry.key).into_owned(),
                why,
            })?;
        }
    }
    Ok(facts)
}
