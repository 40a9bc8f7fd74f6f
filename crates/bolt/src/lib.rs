//! The file format of bbolt (version 2), in and out: what etcd keeps its data in and what its snapshots are.
//!
//! ```text
//!  page 0, 1   meta: magic, version, page size, root bucket, freelist, number of pages, transaction, FNV-64a
//!  page 2..    leaf and branch pages of B+trees, the freelist, and the pages that continue a large one
//!
//!  root bucket ──▶ leaf: name → bucket ──▶ branch: first key → page ──▶ leaf: key → value
//!                                     └──▶ inline: a small bucket's only leaf page is the value itself
//! ```
//!
//! [`Db`] reads a file from memory or by position and believes nothing of what it reads: every length is checked, and
//! a damaged file ends in an error that names the page. [`Writer`] builds a file in one forward pass: each tree holds
//! one open page per level, so that memory does not grow with the number of keys. The meta pages come first in the
//! file and name the root, which comes last; hence a [`Measure`] is fed the same lengths before, and its [`Plan`] also
//! tells the size of the file up front.
//!
//! Knows no etcd, no file system and no clock; changes no existing file.

mod check;
mod cursor;
mod db;
mod error;
mod layout;
mod page;
mod source;
mod tree;
mod write;

pub use check::Checked;
pub use cursor::{Cursor, Entry, Value};
pub use db::{Bucket, Db};
pub use error::{ReadError, WriteError};
pub use layout::{MAX_KEY, MAX_VALUE, PAGE_SIZE};
pub use source::{Source, Stream};
pub use write::{Measure, Plan, Writer};
