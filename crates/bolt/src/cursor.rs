//! A walk over one bucket in the order of its keys.
//!
//! Holds the pages from the root down to where it is. A damaged file cannot keep it going: the pages it enters are
//! counted against those that the file has, and keys must ascend.

use crate::{Bucket, Db, ReadError, Source, db::Root, page::Page};

/// Levels of a tree. With two children to a branch that is more than a file has room for.
pub(crate) const MAX_DEPTH: usize = 48;
pub(crate) const OUT_OF_ORDER: &str = "a key is not greater than the one before it";

/// Where a walk is. Starts before the first key.
#[derive(Debug)]
pub struct Cursor<'a, S> {
    db: &'a mut Db<S>,
    root: Root,
    stack: Vec<Frame>,
    held: u64,
    /// Pages entered since the start or the last seek.
    entered: u64,
    last: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Frame {
    page: Page,
    next: usize,
}

/// A key and what is under it.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub key: &'a [u8],
    pub value: Value<'a>,
    /// The page that it is on, for errors.
    pub page: u64,
}

/// What is under a key.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Bytes(&'a [u8]),
    Bucket(Bucket),
}

impl<'a, S: Source> Cursor<'a, S> {
    pub(crate) fn new(db: &'a mut Db<S>, bucket: &Bucket) -> Result<Self, ReadError> {
        let root = bucket.root.clone();
        let mut cursor = Cursor { db, root, stack: Vec::new(), held: 0, entered: 0, last: None };
        cursor.rewind()?;
        Ok(cursor)
    }

    /// Goes on at `key`, or at the first one after it.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), ReadError> {
        self.rewind()?;
        loop {
            let Some(frame) = self.stack.last_mut() else { return Ok(()) };
            let found = frame.page.lower_bound(key)?;
            if frame.page.is_leaf() {
                frame.next = found;
                return Ok(());
            }
            // A branch names the first key below each child: the child before the bound may hold the key, too.
            let exact = found < frame.page.count() && frame.page.key(found)? == key;
            let child = if exact { found } else { found.saturating_sub(1) };
            frame.next = child + 1;
            let page = frame.page.branch(child)?.1;
            self.enter(page)?;
        }
    }

    /// The next key; `None` after the last.
    #[allow(clippy::should_implement_trait, reason = "an entry borrows the page that the walk holds")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        if !self.advance()? {
            return Ok(None);
        }
        let frame = self.stack.last().expect("advance stops on a leaf");
        let leaf = frame.page.leaf(frame.next - 1)?;
        match &mut self.last {
            Some(last) if last.as_slice() >= leaf.key => return Err(frame.page.damaged(OUT_OF_ORDER)),
            Some(last) => {
                last.clear();
                last.extend_from_slice(leaf.key);
            }
            None => self.last = Some(leaf.key.to_vec()),
        }
        let page = frame.page.id();
        let value =
            if leaf.is_bucket { Value::Bucket(Bucket::decode(page, leaf.value)?) } else { Value::Bytes(leaf.value) };
        Ok(Some(Entry { key: leaf.key, value, page }))
    }

    /// Moves on to the next element of a leaf; `false` when there is none.
    fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            let Some(frame) = self.stack.last_mut() else { return Ok(false) };
            if frame.next == frame.page.count() {
                self.held -= frame.page.len() as u64;
                self.stack.pop();
                continue;
            }
            frame.next += 1;
            if frame.page.is_leaf() {
                return Ok(true);
            }
            let child = frame.page.branch(frame.next - 1)?.1;
            self.enter(child)?;
        }
    }

    fn rewind(&mut self) -> Result<(), ReadError> {
        self.stack.clear();
        (self.held, self.entered, self.last) = (0, 0, None);
        match &self.root {
            Root::Page(page) => self.enter(*page),
            Root::Inline(page) => {
                self.held = page.len() as u64;
                self.stack.push(Frame { page: page.clone(), next: 0 });
                Ok(())
            }
        }
    }

    fn enter(&mut self, id: u64) -> Result<(), ReadError> {
        let damaged = |why| ReadError::Damaged { page: id, why };
        if self.stack.len() == MAX_DEPTH {
            return Err(damaged("the tree is deeper than trees can be"));
        }
        let page = self.db.page(id, self.held)?;
        self.entered += page.span();
        if self.entered > self.db.pages() {
            return Err(damaged("the tree leads here more than once"));
        }
        if !page.is_leaf() && !page.is_branch() {
            return Err(damaged("part of a tree, but neither branch nor leaf"));
        }
        if page.is_branch() && page.count() == 0 {
            return Err(damaged("a branch without children"));
        }
        self.held += page.len() as u64;
        self.stack.push(Frame { page, next: 0 });
        Ok(())
    }
}
