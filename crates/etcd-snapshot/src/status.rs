//! What `etcdutl snapshot status` says of a file.

use bolt::{Source, Value};

use crate::{ReadError, Snapshot, pairs::KEY, record::decode_revision};

/// The figures of `etcdutl snapshot status`, under its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over the names of all buckets, and their keys and values.
    pub hash: u32,
    /// The newest revision in the bucket `key`.
    pub revision: i64,
    /// Keys in all buckets.
    pub total_key: u64,
    /// Bytes of the database.
    pub total_size: u64,
}

impl<S: Source> Snapshot<S> {
    /// Checks the whole file, then sums it up.
    pub fn status(&mut self) -> Result<Status, ReadError> {
        self.db.check()?;
        let mut status = Status { total_size: self.db.size(), ..Status::default() };
        let root = self.db.root();
        let mut names = Vec::new();
        let mut cursor = self.db.cursor(&root)?;
        while let Some(entry) = cursor.next()? {
            if let Value::Bucket(bucket) = entry.value {
                names.push((entry.key.to_vec(), bucket));
            }
        }
        for (name, bucket) in names {
            status.hash = crc32c::crc32c_append(status.hash, &name);
            let mut cursor = self.db.cursor(&bucket)?;
            while let Some(entry) = cursor.next()? {
                let value = if let Value::Bytes(value) = entry.value { value } else { &[] };
                status.hash = crc32c::crc32c_append(crc32c::crc32c_append(status.hash, entry.key), value);
                status.total_key += 1;
                if name == KEY.as_bytes() {
                    let revision = entry.key.get(..17).map_or(Err("a revision that is too short"), decode_revision);
                    let damaged = |why| ReadError::Record { page: entry.page, key: hex::encode(entry.key), why };
                    status.revision = revision.map_err(damaged)?.0;
                }
            }
        }
        Ok(status)
    }
}
