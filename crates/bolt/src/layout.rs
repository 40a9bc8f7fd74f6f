//! The bytes of page headers and meta pages. Numbers are little-endian, as on every machine that etcd is released for.
//!
//! Knows no tree and no file.

/// The size of the pages that are written. Files with other sizes can be read.
pub const PAGE_SIZE: usize = 4096;
/// The longest key that bbolt takes.
pub const MAX_KEY: usize = 32768;
/// The longest value that bbolt takes.
pub const MAX_VALUE: usize = (1 << 31) - 2;

/// What is before a page's content: id (8), flags (2), count (2), overflow (4).
pub(crate) const HEADER: usize = 16;
/// One element of a branch: position (4), key length (4), child (8). Of a leaf: flags (4), position (4), key length
/// (4), value length (4). Positions count from the element itself.
pub(crate) const ELEMENT: usize = 16;
/// What a bucket's value begins with: root page (8), sequence (8). Root page 0: an inline page follows.
pub(crate) const BUCKET: usize = 16;
/// A meta page's content.
pub(crate) const META: usize = 64;

pub(crate) const BRANCH_PAGE: u16 = 0x01;
pub(crate) const LEAF_PAGE: u16 = 0x02;
pub(crate) const META_PAGE: u16 = 0x04;
pub(crate) const FREELIST_PAGE: u16 = 0x10;
/// The flag of a leaf's element whose value is a bucket.
pub(crate) const BUCKET_ELEMENT: u32 = 0x01;
/// The freelist's page when none is in the file.
pub(crate) const NO_FREELIST: u64 = u64::MAX;
/// The pages before those that trees are made of.
pub(crate) const META_PAGES: u64 = 2;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Page sizes that a file may say it has.
const MIN_PAGE: u32 = 512;
const MAX_PAGE: u32 = 1 << 24;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// What a page says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub id: u64,
    pub flags: u16,
    pub count: u16,
    /// Pages after this one that belong to it.
    pub overflow: u32,
}

impl Header {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, flags) = (u64_at(bytes, 0)?, u16_at(bytes, 8)?);
        Some(Header { id, flags, count: u16_at(bytes, 10)?, overflow: u32_at(bytes, 12)? })
    }
}

/// What a meta page says of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub page_size: u32,
    pub root: u64,
    pub sequence: u64,
    pub freelist: u64,
    /// Pages in the file, free ones included.
    pub pages: u64,
    pub txid: u64,
}

impl Meta {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for n in [MAGIC, VERSION, self.page_size, 0] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for n in [self.root, self.sequence, self.freelist, self.pages, self.txid] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        let sum = fnv64a(&out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
    }

    /// Takes a meta page's content, or says why it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "shorter than a meta page";
        let field = |at| u64_at(bytes, at).ok_or(SHORT);
        if u32_at(bytes, 0).ok_or(SHORT)? != MAGIC {
            return Err("the magic number is not there");
        }
        if u32_at(bytes, 4).ok_or(SHORT)? != VERSION {
            return Err("a version other than 2");
        }
        let page_size = u32_at(bytes, 8).ok_or(SHORT)?;
        if fnv64a(bytes.get(..META - 8).ok_or(SHORT)?) != field(META - 8)? {
            return Err("the checksum of the meta page does not match");
        }
        if !page_size.is_power_of_two() || !(MIN_PAGE..=MAX_PAGE).contains(&page_size) {
            return Err("the page size makes no sense");
        }
        let (root, sequence, freelist) = (field(16)?, field(24)?, field(32)?);
        Ok(Meta { page_size, root, sequence, freelist, pages: field(40)?, txid: field(48)? })
    }
}

/// FNV-1a over 64 bits (RFC 9923).
fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        for (text, hash) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv64a(text.as_bytes()), hash, "{text:?}");
        }
    }

    #[test]
    fn headers_and_meta_pages_come_back() {
        let header = Header { id: 7, flags: LEAF_PAGE, count: 3, overflow: 9 };
        let mut out = Vec::new();
        header.encode(&mut out);
        assert_eq!((out.len(), Header::decode(&out)), (HEADER, Some(header)));
        let meta = Meta { page_size: 4096, root: 5, sequence: 0, freelist: 2, pages: 6, txid: 1 };
        let mut out = Vec::new();
        meta.encode(&mut out);
        assert_eq!((out.len(), Meta::decode(&out)), (META, Ok(meta)));
        out[20] ^= 1;
        assert_eq!(Meta::decode(&out), Err("the checksum of the meta page does not match"));
    }
}
