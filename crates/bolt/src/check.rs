//! Whether a whole file is sound: every page is used once or free, and every key is where its tree says.
//!
//! What bbolt's own check finds, this finds; the first finding ends it. Changes nothing.

use crate::{
    Bucket, Db, ReadError, Source,
    cursor::{MAX_DEPTH, OUT_OF_ORDER},
    db::Root,
    layout::{META_PAGES, NO_FREELIST},
    page::Page,
};

/// What a sound file consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Pages of the file, those in use and those that are free.
    pub pages: u64,
    pub free: u64,
    /// Buckets, without the one that all are in.
    pub buckets: u64,
    /// Keys that are no buckets.
    pub keys: u64,
}

/// The pages that were met, a bit for each: one 32768th of the file at most.
struct Walk<'a, S> {
    db: &'a mut Db<S>,
    met: Vec<u64>,
    held: u64,
    found: Checked,
}

/// The keys that a page may have: from the first on, and before the second.
#[derive(Clone, Copy, Default)]
struct Bounds<'k> {
    low: Option<&'k [u8]>,
    high: Option<&'k [u8]>,
}

impl<S: Source> Db<S> {
    /// Reads every page that a tree leads to and compares what they say of each other.
    pub fn check(&mut self) -> Result<Checked, ReadError> {
        let (pages, freelist, root) = (self.pages(), self.freelist(), self.root());
        let words = usize::try_from(pages.div_ceil(64)).map_err(|_| ReadError::NotBolt("too many pages"))?;
        let found = Checked { pages, ..Checked::default() };
        let mut walk = Walk { db: self, met: vec![0; words], held: 0, found };
        (0..META_PAGES).try_for_each(|page| walk.meet(page))?;
        if freelist != NO_FREELIST {
            walk.freelist(freelist)?;
        }
        walk.bucket(&root, 0)?;
        let missing = (0..pages).find(|page| !walk.is_met(*page));
        match missing {
            // Without a list in the file, whatever no tree leads to is free.
            Some(page) if freelist != NO_FREELIST => {
                Err(ReadError::Damaged { page, why: "neither in use nor in the freelist" })
            }
            _ => Ok(walk.found),
        }
    }
}

impl<S: Source> Walk<'_, S> {
    fn is_met(&self, page: u64) -> bool {
        self.met[(page / 64) as usize] & (1 << (page % 64)) != 0
    }

    fn meet(&mut self, page: u64) -> Result<(), ReadError> {
        if page >= self.found.pages {
            return Err(ReadError::Damaged { page, why: "referred to, but there is no such page" });
        }
        if self.is_met(page) {
            return Err(ReadError::Damaged { page, why: "used twice, or used and free" });
        }
        self.met[(page / 64) as usize] |= 1 << (page % 64);
        Ok(())
    }

    fn freelist(&mut self, id: u64) -> Result<(), ReadError> {
        let page = self.db.page(id, 0)?;
        (id..id + page.span()).try_for_each(|page| self.meet(page))?;
        for free in page.free()? {
            self.meet(free)?;
            self.found.free += 1;
        }
        Ok(())
    }

    fn bucket(&mut self, bucket: &Bucket, depth: usize) -> Result<(), ReadError> {
        match &bucket.root {
            Root::Page(page) => self.tree(*page, Bounds::default(), depth),
            Root::Inline(page) => self.leaf(page, Bounds::default(), depth),
        }
    }

    fn tree(&mut self, id: u64, bounds: Bounds<'_>, depth: usize) -> Result<(), ReadError> {
        if depth >= MAX_DEPTH {
            return Err(ReadError::Damaged { page: id, why: "the tree is deeper than trees can be" });
        }
        let page = self.db.page(id, self.held)?;
        (id..id + page.span()).try_for_each(|page| self.meet(page))?;
        self.held += page.len() as u64;
        if page.is_branch() {
            self.branch(&page, bounds, depth)?;
        } else if page.is_leaf() {
            self.leaf(&page, bounds, depth)?;
        } else {
            return Err(page.damaged("part of a tree, but neither branch nor leaf"));
        }
        self.held -= page.len() as u64;
        Ok(())
    }

    fn branch(&mut self, page: &Page, bounds: Bounds<'_>, depth: usize) -> Result<(), ReadError> {
        if page.count() == 0 {
            return Err(page.damaged("a branch without children"));
        }
        for index in 0..page.count() {
            check_key(page, index, bounds)?;
            let (key, child) = page.branch(index)?;
            let next = if index + 1 < page.count() { Some(page.branch(index + 1)?.0) } else { bounds.high };
            self.tree(child, Bounds { low: Some(key), high: next }, depth + 1)?;
        }
        Ok(())
    }

    fn leaf(&mut self, page: &Page, bounds: Bounds<'_>, depth: usize) -> Result<(), ReadError> {
        for index in 0..page.count() {
            check_key(page, index, bounds)?;
            let leaf = page.leaf(index)?;
            if !leaf.is_bucket {
                self.found.keys += 1;
                continue;
            }
            self.found.buckets += 1;
            if depth >= MAX_DEPTH {
                return Err(page.damaged("buckets are nested deeper than can be"));
            }
            self.bucket(&Bucket::decode(page.id(), leaf.value)?, depth + 1)?;
        }
        Ok(())
    }
}

fn check_key(page: &Page, index: usize, bounds: Bounds<'_>) -> Result<(), ReadError> {
    let key = page.key(index)?;
    if index > 0 && page.key(index - 1)? >= key {
        return Err(page.damaged(OUT_OF_ORDER));
    }
    if bounds.low.is_some_and(|low| key < low) || bounds.high.is_some_and(|high| key >= high) {
        return Err(page.damaged("a key that belongs on another page"));
    }
    Ok(())
}
