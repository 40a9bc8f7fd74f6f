//! A file that is open for reading: its newest meta page, its pages, and its buckets by name.
//!
//! Holds no page: each reader of a tree holds those on its own way.

use crate::{
    Cursor, ReadError, Source, Value,
    layout::{BUCKET, HEADER, META, META_PAGES, Meta, u64_at},
    page::Page,
};

/// Bytes of pages that one walk over a tree holds at most, unless the opener says otherwise. A page is as long as its
/// largest value and a little more.
const DEFAULT_LIMIT: u64 = 256 << 20;
/// The first page size that is tried where the first meta page cannot tell, and how often it is doubled.
const SMALLEST_GUESS: u64 = 1024;
const GUESSES: u32 = 15;

/// A bbolt file, read from a [`Source`]. No byte of it is believed unchecked: damage ends in an error, never in a
/// panic, an endless walk, or more memory than the limit.
#[derive(Debug)]
pub struct Db<S> {
    source: S,
    meta: Meta,
    limit: u64,
}

/// A bucket of a file.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub(crate) root: Root,
    sequence: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Root {
    Page(u64),
    Inline(Page),
}

impl Bucket {
    /// The bucket's own counter, for its users.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Takes a bucket from the value that describes it, which lies on `page`.
    pub(crate) fn decode(page: u64, value: &[u8]) -> Result<Self, ReadError> {
        let damaged = |why| ReadError::Damaged { page, why };
        let field = |at| u64_at(value, at).ok_or(damaged("a bucket shorter than its head"));
        let (root, sequence) = (field(0)?, field(8)?);
        if root != 0 {
            return Ok(Bucket { root: Root::Page(root), sequence });
        }
        let inline = Page::new(page, value[BUCKET..].to_vec())?;
        if !inline.is_leaf() {
            return Err(damaged("an inline bucket that is no leaf"));
        }
        Ok(Bucket { root: Root::Inline(inline), sequence })
    }
}

impl<S: Source> Db<S> {
    /// Opens a file. Bytes after its last page are none of its business.
    pub fn open(source: S) -> Result<Self, ReadError> {
        Db::open_with_limit(source, DEFAULT_LIMIT)
    }

    /// Opens a file with another bound on the memory of each walk, in bytes.
    pub fn open_with_limit(mut source: S, limit: u64) -> Result<Self, ReadError> {
        let meta = newest_meta(&mut source)?;
        let wanted = meta.pages.checked_mul(u64::from(meta.page_size));
        let wanted = wanted.ok_or(ReadError::NotBolt("more pages than a file can have"))?;
        if wanted > source.size() {
            return Err(ReadError::Short { size: source.size(), wanted });
        }
        Ok(Db { source, meta, limit })
    }

    /// The size of the file by its own account: all its pages.
    pub fn size(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_size)
    }

    /// Where the bytes come from.
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// The bucket that all others are in.
    pub fn root(&self) -> Bucket {
        Bucket { root: Root::Page(self.meta.root), sequence: self.meta.sequence }
    }

    /// The bucket at a path of names.
    pub fn bucket(&mut self, path: &[&[u8]]) -> Result<Option<Bucket>, ReadError> {
        let mut bucket = self.root();
        for name in path {
            let mut cursor = self.cursor(&bucket)?;
            cursor.seek(name)?;
            let inner = match cursor.next()? {
                Some(entry) if entry.key == *name => match entry.value {
                    Value::Bucket(inner) => inner,
                    Value::Bytes(_) => return Ok(None),
                },
                _ => return Ok(None),
            };
            bucket = inner;
        }
        Ok(Some(bucket))
    }

    /// The value of a key. Buckets are no values.
    pub fn get(&mut self, bucket: &Bucket, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let mut cursor = self.cursor(bucket)?;
        cursor.seek(key)?;
        Ok(cursor.next()?.filter(|entry| entry.key == key).and_then(|entry| match entry.value {
            Value::Bytes(value) => Some(value.to_vec()),
            Value::Bucket(_) => None,
        }))
    }

    /// A walk over a bucket, from its first key on.
    pub fn cursor(&mut self, bucket: &Bucket) -> Result<Cursor<'_, S>, ReadError> {
        Cursor::new(self, bucket)
    }

    pub(crate) fn pages(&self) -> u64 {
        self.meta.pages
    }

    pub(crate) fn freelist(&self) -> u64 {
        self.meta.freelist
    }

    /// Reads a page of a tree, or the freelist. `held` is what the walk holds already.
    pub(crate) fn page(&mut self, id: u64, held: u64) -> Result<Page, ReadError> {
        let damaged = |why| ReadError::Damaged { page: id, why };
        if !(META_PAGES..self.meta.pages).contains(&id) {
            return Err(damaged("referred to, but there is no such page"));
        }
        let size = u64::from(self.meta.page_size);
        let mut bytes = vec![0; self.meta.page_size as usize];
        read(&mut self.source, id * size, &mut bytes)?;
        let header = crate::layout::Header::decode(&bytes).ok_or(damaged("shorter than a page header"))?;
        if header.id != id {
            return Err(damaged("it says that it is another page"));
        }
        let overflow = u64::from(header.overflow);
        if overflow >= self.meta.pages - id {
            return Err(damaged("it goes on behind the last page"));
        }
        let wanted = held + (overflow + 1) * size;
        let length = usize::try_from((overflow + 1) * size).ok().filter(|_| wanted <= self.limit);
        let length = length.ok_or(ReadError::TooLarge { page: id, wanted, limit: self.limit })?;
        bytes.resize(length, 0);
        let first = self.meta.page_size as usize;
        if length > first {
            read(&mut self.source, (id + 1) * size, &mut bytes[first..])?;
        }
        Page::new(id, bytes)
    }
}

fn read<S: Source>(source: &mut S, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
    let length = into.len();
    source.read_at(offset, into).map_err(|source| ReadError::Source { offset, length, source })
}

/// The meta page of the last transaction that was completed. One of the two may be torn by a crash.
fn newest_meta<S: Source>(source: &mut S) -> Result<Meta, ReadError> {
    let first = meta_at(source, 0)?;
    let second = match &first {
        Ok(meta) => meta_at(source, u64::from(meta.page_size))?.ok(),
        Err(_) => {
            let mut found = None;
            for size in (0..GUESSES).map(|doubled| SMALLEST_GUESS << doubled) {
                found = meta_at(source, size)?.ok().filter(|meta| u64::from(meta.page_size) == size);
                if found.is_some() {
                    break;
                }
            }
            found
        }
    };
    match (first, second) {
        (Ok(first), Some(second)) if second.txid > first.txid && second.page_size == first.page_size => Ok(second),
        (Ok(first), _) => Ok(first),
        (Err(_), Some(second)) => Ok(second),
        (Err(why), None) => Err(ReadError::NotBolt(why)),
    }
}

fn meta_at<S: Source>(source: &mut S, offset: u64) -> Result<Result<Meta, &'static str>, ReadError> {
    let mut bytes = [0; HEADER + META];
    if source.size() < offset + bytes.len() as u64 {
        return Ok(Err("shorter than its meta pages"));
    }
    read(source, offset, &mut bytes)?;
    Ok(Meta::decode(&bytes[HEADER..]))
}
