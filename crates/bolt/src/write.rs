//! A file from its first byte to its last: buckets, each with its keys in order.
//!
//! Keeps the bytes that nobody has taken yet, and the open pages of the buckets that are open. Knows no destination.

use crate::{
    WriteError,
    layout::{FREELIST_PAGE, HEADER, Header, META_PAGE, META_PAGES, Meta, PAGE_SIZE},
    tree::{Closed, Content, Pages, Tree},
};

/// Bytes after which a portion of the file is handed out.
const PORTION: usize = 64 * 1024;
/// The pages of trees begin behind the meta pages and the freelist, which is empty.
const FREELIST: u64 = META_PAGES;
const FIRST: u64 = FREELIST + 1;

/// Where everything will be: what a [`Measure`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pages: u64,
    root: u64,
}

impl Plan {
    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.pages * PAGE_SIZE as u64
    }
}

/// The buckets that are open, the outermost first, over where pages go.
#[derive(Debug)]
struct Builder {
    pages: Pages,
    root: Tree,
    open: Vec<(Vec<u8>, Tree)>,
}

impl Builder {
    fn new(out: Option<Vec<u8>>) -> Self {
        Builder { pages: Pages { next: FIRST, out }, root: Tree::default(), open: Vec::new() }
    }

    fn top(&mut self) -> (&mut Tree, &mut Pages) {
        let tree = self.open.last_mut().map_or(&mut self.root, |(_, tree)| tree);
        (tree, &mut self.pages)
    }

    fn begin(&mut self, name: &[u8]) -> Result<(), WriteError> {
        self.top().0.check(name)?;
        self.open.push((name.to_vec(), Tree::default()));
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: Content<'_>) -> Result<(), WriteError> {
        if self.open.is_empty() {
            return Err(WriteError::Nesting);
        }
        let (tree, pages) = self.top();
        tree.put(key, value, pages)
    }

    fn end(&mut self) -> Result<(), WriteError> {
        let (name, tree) = self.open.pop().ok_or(WriteError::Nesting)?;
        let closed = tree.close(true, &mut self.pages);
        let (outer, pages) = self.top();
        outer.put_bucket(&name, closed, pages)
    }

    fn finish(mut self) -> Result<(Plan, Vec<u8>), WriteError> {
        if !self.open.is_empty() {
            return Err(WriteError::Nesting);
        }
        match self.root.close(false, &mut self.pages) {
            Closed::Root(root) => Ok((Plan { pages: self.pages.next, root }, self.pages.out.unwrap_or_default())),
            Closed::Inline(_) => unreachable!("the outermost bucket is never inline"),
        }
    }
}

/// The first pass over what will be written: keys, and lengths of values.
#[derive(Debug)]
pub struct Measure(Builder);

impl Default for Measure {
    fn default() -> Self {
        Measure::new()
    }
}

impl Measure {
    pub fn new() -> Self {
        Measure(Builder::new(None))
    }

    /// Begins a bucket in the one that is open.
    pub fn begin(&mut self, name: &[u8]) -> Result<(), WriteError> {
        self.0.begin(name)
    }

    /// Puts a key into the bucket that is open.
    pub fn put(&mut self, key: &[u8], value_length: usize) -> Result<(), WriteError> {
        self.0.put(key, Content::Length(value_length))
    }

    /// Ends the bucket that was begun last.
    pub fn end(&mut self) -> Result<(), WriteError> {
        self.0.end()
    }

    pub fn finish(self) -> Result<Plan, WriteError> {
        Ok(self.0.finish()?.0)
    }
}

/// The second pass: makes the file, portion by portion.
///
/// Takes what the [`Measure`] was told, in the same order, with the values. Between calls, take the portions
/// ([`Writer::portion`]): they are the file in order, and what is not taken stays in memory.
#[derive(Debug)]
pub struct Writer {
    builder: Builder,
    plan: Plan,
}

impl Writer {
    pub fn new(plan: Plan) -> Self {
        Writer { builder: Builder::new(Some(head(plan))), plan }
    }

    /// Begins a bucket in the one that is open.
    pub fn begin(&mut self, name: &[u8]) -> Result<(), WriteError> {
        self.builder.begin(name)
    }

    /// Puts a key into the bucket that is open.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        self.builder.put(key, Content::Bytes(value))
    }

    /// Ends the bucket that was begun last.
    pub fn end(&mut self) -> Result<(), WriteError> {
        self.builder.end()
    }

    /// The next bytes of the file, once there are many.
    pub fn portion(&mut self) -> Option<Vec<u8>> {
        let out = self.builder.pages.out.as_mut()?;
        (out.len() >= PORTION).then(|| std::mem::take(out))
    }

    /// The last bytes of the file. An error means that the bytes before are no file.
    pub fn finish(self) -> Result<Vec<u8>, WriteError> {
        let (plan, rest) = self.builder.finish()?;
        if plan == self.plan { Ok(rest) } else { Err(WriteError::PlanChanged) }
    }
}

/// Meta pages and freelist. A page's transaction has the number that bbolt looks for there: even on page 0.
fn head(plan: Plan) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * PORTION);
    for id in 0..META_PAGES {
        Header { id, flags: META_PAGE, count: 0, overflow: 0 }.encode(&mut out);
        let page_size = u32::try_from(PAGE_SIZE).expect("a constant");
        Meta { page_size, root: plan.root, sequence: 0, freelist: FREELIST, pages: plan.pages, txid: id }
            .encode(&mut out);
        out.resize((id as usize + 1) * PAGE_SIZE, 0);
    }
    Header { id: FREELIST, flags: FREELIST_PAGE, count: 0, overflow: 0 }.encode(&mut out);
    debug_assert_eq!(out.len(), FREELIST as usize * PAGE_SIZE + HEADER, "the freelist is empty");
    out.resize(FIRST as usize * PAGE_SIZE, 0);
    out
}
