//! One page as it was read: its elements, each checked against the page's own bounds.
//!
//! Knows no other page.

use crate::{
    ReadError,
    layout::{BRANCH_PAGE, BUCKET_ELEMENT, ELEMENT, FREELIST_PAGE, HEADER, Header, LEAF_PAGE, MAX_KEY, u32_at, u64_at},
};

/// A page with those that continue it. An inline page has the number of the page that it is on.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    id: u64,
    header: Header,
    bytes: Vec<u8>,
}

/// An element of a leaf page.
pub(crate) struct Leaf<'a> {
    pub is_bucket: bool,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Page {
    /// Takes a page's bytes; `id` is for errors.
    pub fn new(id: u64, bytes: Vec<u8>) -> Result<Self, ReadError> {
        let damaged = |why| ReadError::Damaged { page: id, why };
        let header = Header::decode(&bytes).ok_or(damaged("shorter than a page header"))?;
        let elements = match header.flags {
            BRANCH_PAGE | LEAF_PAGE => usize::from(header.count) * ELEMENT,
            FREELIST_PAGE => 0,
            _ => return Err(damaged("neither branch, leaf nor freelist")),
        };
        if HEADER + elements > bytes.len() {
            return Err(damaged("more elements than the page has room for"));
        }
        Ok(Page { id, header, bytes })
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Pages that it takes in the file.
    pub fn span(&self) -> u64 {
        u64::from(self.header.overflow) + 1
    }

    pub fn count(&self) -> usize {
        usize::from(self.header.count)
    }

    pub fn is_leaf(&self) -> bool {
        self.header.flags == LEAF_PAGE
    }

    pub fn is_branch(&self) -> bool {
        self.header.flags == BRANCH_PAGE
    }

    pub fn damaged(&self, why: &'static str) -> ReadError {
        ReadError::Damaged { page: self.id, why }
    }

    /// A leaf's element. `index` is below `count`.
    pub fn leaf(&self, index: usize) -> Result<Leaf<'_>, ReadError> {
        let at = HEADER + index * ELEMENT;
        let field = |offset| u32_at(&self.bytes, at + offset).ok_or_else(|| self.damaged("an element is cut off"));
        let (flags, key, value) = (field(0)?, field(8)?, field(12)?);
        let (key, rest) = self.cut(at, field(4)?, key, value)?;
        Ok(Leaf { is_bucket: flags & BUCKET_ELEMENT != 0, key, value: rest })
    }

    /// A branch's element: the first key below it, and the page. `index` is below `count`.
    pub fn branch(&self, index: usize) -> Result<(&[u8], u64), ReadError> {
        let at = HEADER + index * ELEMENT;
        let field = |offset| u32_at(&self.bytes, at + offset).ok_or_else(|| self.damaged("an element is cut off"));
        let child = u64_at(&self.bytes, at + 8).ok_or_else(|| self.damaged("an element is cut off"))?;
        Ok((self.cut(at, field(0)?, field(4)?, 0)?.0, child))
    }

    /// An element's key, on a page of either kind.
    pub fn key(&self, index: usize) -> Result<&[u8], ReadError> {
        if self.is_branch() { Ok(self.branch(index)?.0) } else { Ok(self.leaf(index)?.key) }
    }

    /// The first element whose key is not before `key`.
    pub fn lower_bound(&self, key: &[u8]) -> Result<usize, ReadError> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle)? < key { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The numbers of a freelist page.
    pub fn free(&self) -> Result<impl Iterator<Item = u64>, ReadError> {
        if self.header.flags != FREELIST_PAGE {
            return Err(self.damaged("the freelist is no freelist page"));
        }
        let room = &self.bytes[HEADER..];
        let (skip, count) = match self.header.count {
            // So many that the number itself is the first entry.
            u16::MAX => (8, u64_at(room, 0).ok_or_else(|| self.damaged("a freelist without its length"))?),
            count => (0, u64::from(count)),
        };
        let end = usize::try_from(count).ok().and_then(|count| count.checked_mul(8)?.checked_add(skip));
        let listed = end.and_then(|end| room.get(skip..end));
        let listed = listed.ok_or_else(|| self.damaged("a freelist longer than its page"))?;
        Ok(listed.chunks_exact(8).filter_map(|id| u64_at(id, 0)))
    }

    fn cut(&self, at: usize, position: u32, key: u32, value: u32) -> Result<(&[u8], &[u8]), ReadError> {
        let [position, key, value] = [position, key, value].map(|n| n as usize);
        if key > MAX_KEY {
            return Err(self.damaged("a key longer than keys may be"));
        }
        let start = at.checked_add(position);
        let both = start.and_then(|start| self.bytes.get(start..start.checked_add(key)?.checked_add(value)?));
        both.map(|both| both.split_at(key)).ok_or_else(|| self.damaged("an element lies outside of its page"))
    }
}
