//! One bucket's tree, built from the left to the right: as each page fills, it goes out and its first key goes one
//! level up.
//!
//! Holds one open page per level (two for a moment, so that no branch is left with a single child, which bbolt cannot
//! rebalance). Knows nothing of other buckets and of where pages go.

use crate::{
    WriteError,
    layout::{BRANCH_PAGE, BUCKET, BUCKET_ELEMENT, ELEMENT, HEADER, Header, LEAF_PAGE, MAX_KEY, MAX_VALUE, PAGE_SIZE},
};

/// Bytes up to which a page is filled: about nine tenths, as etcd fills the pages of what it appends.
const FILL: usize = PAGE_SIZE * 9 / 10;
/// A bucket of at most so many bytes is kept inline, as bbolt does.
const MAX_INLINE: usize = PAGE_SIZE / 4;
/// Memory that an empty page keeps for the next one.
const KEPT: usize = 16 * PAGE_SIZE;

/// Where pages go: their bytes into `out`, or nowhere while the file is only measured.
#[derive(Debug)]
pub(crate) struct Pages {
    pub next: u64,
    pub out: Option<Vec<u8>>,
}

/// A value, or its length while the file is only measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    Length(usize),
}

impl Content<'_> {
    fn len(&self) -> usize {
        match self {
            Content::Bytes(bytes) => bytes.len(),
            Content::Length(length) => *length,
        }
    }
}

/// How a tree ended: on a page, or as the whole value of its bucket.
pub(crate) enum Closed {
    Root(u64),
    Inline(Vec<u8>),
}

/// An element of an open page: lengths, and flags of a leaf or the child of a branch.
#[derive(Clone, Copy, Debug)]
struct Cell {
    link: u64,
    key: usize,
    value: usize,
}

/// A page that is being filled.
#[derive(Debug, Default)]
struct Open {
    cells: Vec<Cell>,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Bytes of keys and values.
    content: usize,
}

impl Open {
    fn size(&self) -> usize {
        HEADER + self.cells.len() * ELEMENT + self.content
    }

    fn takes(&self, key: usize, value: usize) -> bool {
        self.size() + ELEMENT + key + value <= FILL
    }

    fn push(&mut self, link: u64, key: &[u8], value: Content<'_>) {
        self.cells.push(Cell { link, key: key.len(), value: value.len() });
        self.keys.extend_from_slice(key);
        self.content += key.len() + value.len();
        if let Content::Bytes(bytes) = value {
            self.values.extend_from_slice(bytes);
        }
    }

    fn first(&self) -> &[u8] {
        &self.keys[..self.cells.first().map_or(0, |cell| cell.key)]
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.content = 0;
        for bytes in [&mut self.keys, &mut self.values] {
            bytes.clear();
            bytes.shrink_to(KEPT);
        }
    }

    /// Moves everything of another page behind what is here.
    fn append(&mut self, mut other: Open) {
        self.cells.append(&mut other.cells);
        self.keys.append(&mut other.keys);
        self.values.append(&mut other.values);
        self.content += other.content;
    }

    fn encode(&self, id: u64, flags: u16, out: &mut Vec<u8>) {
        let overflow = self.size().div_ceil(PAGE_SIZE) - 1;
        let overflow = u32::try_from(overflow).expect("values are shorter than 2 GiB");
        let count = u16::try_from(self.cells.len()).expect("few elements fit a page");
        Header { id, flags, count, overflow }.encode(out);
        let mut position = self.cells.len() * ELEMENT;
        for cell in &self.cells {
            let [at, key, value] =
                [position, cell.key, cell.value].map(|n| u32::try_from(n).expect("values are shorter than 2 GiB"));
            if flags == BRANCH_PAGE {
                [at, key].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
                out.extend_from_slice(&cell.link.to_le_bytes());
            } else {
                let flags = u32::try_from(cell.link).expect("a leaf's link is its flags");
                [flags, at, key, value].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
            }
            position = position + cell.key + cell.value - ELEMENT;
        }
        let (mut keys, mut values) = (&self.keys[..], &self.values[..]);
        for cell in &self.cells {
            let (key, value);
            (key, keys) = keys.split_at(cell.key);
            (value, values) = values.split_at(cell.value);
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
    }
}

impl Pages {
    fn emit(&mut self, page: &Open, flags: u16) -> u64 {
        let id = self.next;
        self.next += page.size().div_ceil(PAGE_SIZE) as u64;
        if let Some(out) = &mut self.out {
            let start = out.len();
            page.encode(id, flags, out);
            let length = (out.len() - start).next_multiple_of(PAGE_SIZE);
            out.resize(start + length, 0);
        }
        id
    }
}

/// A level of branch pages.
#[derive(Debug, Default)]
struct Level {
    /// A page that is full and waits until the next has two children.
    full: Option<Open>,
    open: Open,
}

impl Level {
    /// Takes a child; returns the page that is complete now.
    fn push(&mut self, key: &[u8], child: u64) -> Option<Open> {
        if self.open.cells.len() >= 2 && !self.open.takes(key.len(), 0) {
            self.full = Some(std::mem::take(&mut self.open));
        }
        self.open.push(child, key, Content::Length(0));
        if self.open.cells.len() >= 2 { self.full.take() } else { None }
    }

    /// The last page. A single child joins the page before it, even over its size.
    fn close(&mut self) -> Open {
        let last = std::mem::take(&mut self.open);
        match self.full.take() {
            Some(mut full) => {
                full.append(last);
                full
            }
            None => last,
        }
    }
}

/// A tree that grows at its right edge.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    leaf: Open,
    levels: Vec<Level>,
    last: Vec<u8>,
    holds_buckets: bool,
}

impl Tree {
    /// Whether `key` may come next.
    pub fn check(&self, key: &[u8]) -> Result<(), WriteError> {
        match key.len() {
            0 => Err(WriteError::EmptyKey),
            length if length > MAX_KEY => Err(WriteError::KeyTooLarge(length)),
            _ if key <= self.last.as_slice() => Err(WriteError::Order),
            _ => Ok(()),
        }
    }

    pub fn put(&mut self, key: &[u8], value: Content<'_>, pages: &mut Pages) -> Result<(), WriteError> {
        self.push(0, key, value, pages)
    }

    pub fn put_bucket(&mut self, name: &[u8], closed: Closed, pages: &mut Pages) -> Result<(), WriteError> {
        let (root, inline) = match closed {
            Closed::Root(root) => (root, Vec::new()),
            Closed::Inline(page) => (0, page),
        };
        let mut value = Vec::with_capacity(BUCKET + inline.len());
        // The root page, and a sequence that nobody has used.
        [root, 0].iter().for_each(|n| value.extend_from_slice(&n.to_le_bytes()));
        value.extend_from_slice(&inline);
        self.holds_buckets = true;
        self.push(BUCKET_ELEMENT.into(), name, Content::Bytes(&value), pages)
    }

    fn push(&mut self, flags: u64, key: &[u8], value: Content<'_>, pages: &mut Pages) -> Result<(), WriteError> {
        self.check(key)?;
        if value.len() > MAX_VALUE {
            return Err(WriteError::ValueTooLarge(value.len()));
        }
        if !self.leaf.cells.is_empty() && !self.leaf.takes(key.len(), value.len()) {
            let page = pages.emit(&self.leaf, LEAF_PAGE);
            self.raise(0, self.leaf.first().to_vec(), page, pages);
            self.leaf.clear();
        }
        self.leaf.push(flags, key, if pages.out.is_some() { value } else { Content::Length(value.len()) });
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// Makes a page known to the level above it, and to those above that as they fill.
    fn raise(&mut self, mut level: usize, mut key: Vec<u8>, mut page: u64, pages: &mut Pages) {
        loop {
            if level == self.levels.len() {
                self.levels.push(Level::default());
            }
            let Some(complete) = self.levels[level].push(&key, page) else { return };
            page = pages.emit(&complete, BRANCH_PAGE);
            key = complete.first().to_vec();
            level += 1;
        }
    }

    /// Ends the tree. `inline` allows it to stay on no page of its own.
    pub fn close(mut self, inline: bool, pages: &mut Pages) -> Closed {
        if inline && self.levels.is_empty() && !self.holds_buckets && self.leaf.size() <= MAX_INLINE {
            let mut page = Vec::new();
            match pages.out {
                Some(_) => self.leaf.encode(0, LEAF_PAGE, &mut page),
                None => page.resize(self.leaf.size(), 0),
            }
            return Closed::Inline(page);
        }
        let mut last = std::mem::take(&mut self.leaf);
        let mut page = pages.emit(&last, LEAF_PAGE);
        let mut level = 0;
        // Raising may add a level, never below the one that is closed.
        while level < self.levels.len() {
            self.raise(level, last.first().to_vec(), page, pages);
            last = self.levels[level].close();
            page = pages.emit(&last, BRANCH_PAGE);
            level += 1;
        }
        Closed::Root(page)
    }
}
