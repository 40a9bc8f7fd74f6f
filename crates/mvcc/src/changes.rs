//! The writes that watchers may still ask for, in order: a reference to each one's record, four bytes.
//!
//! Held in blocks: the oldest are given back as they are forgotten, and growing moves nothing. The revisions stand in
//! the records, of which this file knows nothing; a block knows only the one that it begins with.

use std::collections::VecDeque;

use store_api::Revision;

use crate::slab::Ref;

/// Revision, and position among its writes.
type When = (Revision, u32);

/// Writes of a block.
const BLOCK: usize = 1024;
/// Stands where a write was whose record is gone.
const NONE: Ref = Ref(u32::MAX);

#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// All but the last are full; of the first, some were forgotten.
    blocks: VecDeque<Block>,
    forgotten: usize,
}

#[derive(Debug)]
struct Block {
    first: When,
    refs: Vec<Ref>,
}

impl Changes {
    pub fn push(&mut self, when: When, change: Ref) {
        if self.blocks.back().is_none_or(|block| block.refs.len() == BLOCK) {
            self.blocks.push_back(Block { first: when, refs: Vec::new() });
        }
        let block = self.blocks.back_mut().expect("pushed above if there was none");
        block.refs.push(change);
    }

    pub fn len(&self) -> usize {
        let last = self.blocks.back().map_or(0, |block| block.refs.len());
        self.blocks.len().saturating_sub(1) * BLOCK + last - self.forgotten
    }

    /// The write at a position; `None` inside if its record is gone.
    pub fn get(&self, at: usize) -> Option<Option<Ref>> {
        let at = at + self.forgotten;
        let change = *self.blocks.get(at / BLOCK)?.refs.get(at % BLOCK)?;
        Some(Some(change).filter(|c| *c != NONE))
    }

    /// The record of the write at a position is gone.
    pub fn clear(&mut self, at: usize) {
        self.set(at, NONE);
    }

    /// The record of the write at a position has moved.
    pub fn set(&mut self, at: usize, to: Ref) {
        let at = at + self.forgotten;
        self.blocks[at / BLOCK].refs[at % BLOCK] = to;
    }

    pub fn pop_front(&mut self) {
        self.forgotten += 1;
        let last = self.blocks.len() == 1;
        if self.blocks.front().is_some_and(|block| self.forgotten == if last { block.refs.len() } else { BLOCK }) {
            self.blocks.pop_front();
            self.forgotten = 0;
            // The queue of blocks itself can be large where very much is forgotten.
            if self.blocks.len() < self.blocks.capacity() / 4 {
                self.blocks.shrink_to(self.blocks.len() * 2);
            }
        }
    }

    /// The position of the first write at `when` or later.
    pub fn find(&self, when: When, when_of: impl Fn(Ref) -> When) -> usize {
        let block = self.blocks.partition_point(|b| b.first <= when).saturating_sub(1);
        let mut from = (block * BLOCK).saturating_sub(self.forgotten);
        let mut to = ((block + 1) * BLOCK).saturating_sub(self.forgotten).min(self.len());
        // A write without a record was followed by another one of the key at the same revision.
        let when_at =
            |at: usize| (at..self.len()).find_map(|i| self.get(i).flatten()).map_or((Revision::MAX, 0), &when_of);
        while from < to {
            let middle = from.midpoint(to);
            if when_at(middle) < when {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        let refs: usize = self.blocks.iter().map(|b| b.refs.capacity()).sum();
        refs * size_of::<Ref>() + self.blocks.capacity() * size_of::<Block>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_what_is_forgotten() {
        let mut changes = Changes::default();
        let total = 3 * BLOCK + 7;
        // Two writes of each revision; the record's number is the write's.
        (0..total).for_each(|n| changes.push((n as Revision / 2, n as u32 % 2), Ref(n as u32)));
        for forgotten in 0..total {
            assert_eq!(changes.len(), total - forgotten);
            assert_eq!(changes.get(0), Some(Some(Ref(forgotten as u32))));
            assert_eq!(changes.get(changes.len()), None);
            for revision in [0, forgotten as Revision / 2, 700, total as Revision / 2, total as Revision] {
                let expected = (2 * revision as usize).clamp(forgotten, total) - forgotten;
                let found = changes.find((revision, 0), |r| (Revision::from(r.0) / 2, r.0 % 2));
                assert_eq!(found, expected, "revision {revision}");
            }
            changes.pop_front();
        }
        assert_eq!((changes.len(), changes.get(0), changes.blocks.len()), (0, None, 0));
    }
}
