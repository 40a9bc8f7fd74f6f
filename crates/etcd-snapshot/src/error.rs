//! What is wrong with a file, or with what was to become one.

use std::{io, path::PathBuf};

/// A file is no sound etcd database.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file beneath is damaged, or is no bbolt file.
    #[error("cannot read the database")]
    Bolt(#[from] bolt::ReadError),
    #[error("the file does not match its hash: it says {said}, its content has {found}")]
    Hash { said: String, found: String },
    #[error("the file ends without a hash: it was not made by `etcdctl snapshot save`, or it is cut short")]
    NoHash,
    #[error("cannot read {length} bytes at offset {offset}")]
    Source { offset: u64, length: usize, source: io::Error },
    #[error("not an etcd database: it has no bucket {0:?}")]
    NoBucket(&'static str),
    /// A key's revision or value makes no sense.
    #[error("page {page}, record {key}: {why}")]
    Record { page: u64, key: String, why: &'static str },
    /// Something that is not a key's makes no sense.
    #[error("page {page}, bucket {bucket:?}, key {key}: {why}")]
    Fact { page: u64, bucket: &'static str, key: String, why: &'static str },
    #[error("what is stored beside the keys takes over {limit} bytes")]
    TooManyFacts { limit: usize },
    /// A data folder's database cannot be opened.
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: io::Error },
    /// An etcd writes to this database now.
    #[error("{path} is in use: stop the etcd that runs on it, or take `etcdctl snapshot save` of it")]
    InUse { path: PathBuf },
}

/// Records cannot be written. What was handed out so far is no file.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot lay out the database")]
    Bolt(#[from] bolt::WriteError),
    #[error("revision {revision}.{sub} is not after the one before it")]
    Order { revision: i64, sub: i64 },
    #[error("revision {revision}.{sub} is negative")]
    Negative { revision: i64, sub: i64 },
    #[error("cannot write the file")]
    Sink(#[source] io::Error),
}
