//! Which revisions of the groups were current at one time: so that all groups can be compacted where group 0 is.
//!
//! ```text
//!   group 0   1 ── 2 ── 3 ───────── 4 ── 5 ───▶        a note at 3 says that group 1 had come to 7 by then,
//!   group 1   1 ──── 4 ──── 7 ── 9 ─────── 12 ─▶       so whoever compacts at 3 or 4 compacts group 1 at 7
//! ```
//!
//! A part of group 0's state: each note is an entry of its log, and counts from the revision at which it is applied. What
//! the others had come to was looked at before, so a note says at most too little. Knows no time: whoever leads notes
//! every few seconds.

use std::collections::VecDeque;

use mvcc::codec::{DecodeError, Reader, put_i64, put_u64};
use store_api::Revision;

/// Notes that are kept, an even number. When there are more, every second one is forgotten: so the whole past since the
/// last compaction stays covered, the sparser the older it is.
pub const MAX_NOTES: usize = 512;
/// Groups that a note tells of.
const MAX_GROUPS: usize = 64;

/// Revisions of group 0, each with what the groups from 1 on had come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(VecDeque<(Revision, Vec<Revision>)>);

impl Notes {
    /// From `revision` of group 0 on, the others had come to `others`.
    pub fn take(&mut self, revision: Revision, others: Vec<Revision>) {
        if others.len() > MAX_GROUPS {
            return;
        }
        match self.0.back_mut() {
            Some((last, known)) if *last == revision => *known = others,
            _ => self.0.push_back((revision, others)),
        }
        if self.0.len() > MAX_NOTES {
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
    }

    /// What the groups from 1 on had come to when group 0 was at `revision`; of group 0 alone nothing is known.
    pub fn at(&self, revision: Revision) -> Option<&[Revision]> {
        let after = self.0.partition_point(|(noted, _)| *noted <= revision);
        self.0.get(after.checked_sub(1)?).map(|(_, others)| &others[..])
    }

    /// The newest note.
    pub fn last(&self) -> Option<&(Revision, Vec<Revision>)> {
        self.0.back()
    }

    /// Group 0 was compacted at `revision`: nobody will ask for an earlier one.
    pub fn compacted(&mut self, revision: Revision) {
        let after = self.0.partition_point(|(noted, _)| *noted <= revision);
        self.0.drain(..after.saturating_sub(1));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.0.len() as u64);
        for (revision, others) in &self.0 {
            put_i64(out, *revision);
            put_revisions(out, others);
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        (0..r.count()?).map(|_| Ok((r.i64()?, revisions(r)?))).collect::<Result<_, _>>().map(Notes)
    }
}

pub(crate) fn put_revisions(out: &mut Vec<u8>, revisions: &[Revision]) {
    put_u64(out, revisions.len() as u64);
    revisions.iter().for_each(|revision| put_i64(out, *revision));
}

pub(crate) fn revisions(r: &mut Reader) -> Result<Vec<Revision>, DecodeError> {
    (0..r.count()?).map(|_| r.i64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_that_of_the_note_before_it() {
        let mut notes = Notes::default();
        for (revision, other) in [(3, 7), (5, 9), (5, 12), (8, 20)] {
            notes.take(revision, vec![other]);
        }
        let check = |notes: &Notes, revision, expected: Option<Revision>| {
            assert_eq!(notes.at(revision).map(|others| others[0]), expected, "at {revision}");
        };
        for (revision, expected) in [(2, None), (3, Some(7)), (4, Some(7)), (5, Some(12)), (7, Some(12)), (9, Some(20))]
        {
            check(&notes, revision, expected);
        }
        let mut bytes = Vec::new();
        notes.encode(&mut bytes);
        assert_eq!(Notes::decode(&mut Reader::new(bytes.into())).as_ref(), Ok(&notes));
        notes.compacted(6);
        for (revision, expected) in [(4, None), (6, Some(12)), (8, Some(20))] {
            check(&notes, revision, expected);
        }
    }

    #[test]
    fn many_notes_thin_out_and_reach_as_far_back() {
        let mut notes = Notes::default();
        (1..10_000).for_each(|revision| notes.take(revision, vec![2 * revision]));
        assert!(notes.0.len() <= MAX_NOTES);
        assert_eq!(notes.0[0].0, 1);
        assert_eq!(notes.last(), Some(&(9_999, vec![19_998])));
    }
}
