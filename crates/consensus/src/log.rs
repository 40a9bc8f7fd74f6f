//! The part of the log that is kept in memory: what is not applied yet, and what slow peers may still be sent. Older
//! entries are in snapshots only.

use std::{cell::Cell, collections::VecDeque};

use raft::{
    Error, GetEntriesContext, RaftState, Result, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};

/// A point of the log: the state there, and who was a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    pub index: u64,
    pub term: u64,
    pub conf: ConfState,
}

/// Entries after `before`, in order and without gaps.
pub struct Log {
    hard: HardState,
    /// The last entry that is not kept any more.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The membership at the start; the engine keeps its own from then on.
    conf: ConfState,
    snapshot: Option<Base>,
    wanted: Cell<bool>,
}

impl Log {
    pub fn new(hard: HardState, base: Base, entries: Vec<Entry>) -> Self {
        let bytes = entries.iter().map(size).sum();
        Log {
            hard,
            before: (base.index, base.term),
            entries: entries.into(),
            bytes,
            conf: base.conf,
            snapshot: None,
            wanted: Cell::new(false),
        }
    }

    pub fn hard_state(&self) -> &HardState {
        &self.hard
    }

    pub fn set_hard_state(&mut self, hard: HardState) {
        self.hard = hard;
    }

    pub fn set_commit(&mut self, commit: u64) {
        self.hard.commit = self.hard.commit.max(commit);
    }

    /// Bytes that the entries take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that the entries after `index` take.
    pub fn bytes_after(&self, index: u64) -> usize {
        self.entries.iter().rev().take_while(|entry| entry.index > index).map(size).sum()
    }

    /// Adds entries; they replace those from the first one's index on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = usize::try_from(first.index.saturating_sub(self.before.0 + 1)).expect("the log is in memory");
        debug_assert!(keep <= self.entries.len(), "the log has no gaps");
        while self.entries.len() > keep {
            let gone = self.entries.pop_back().expect("it is longer than what is kept");
            self.bytes -= size(&gone);
        }
        for entry in entries {
            self.bytes += size(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// Begins anew after a snapshot.
    pub fn reset(&mut self, base: &Base) {
        self.before = (base.index, base.term);
        self.entries.clear();
        self.bytes = 0;
        self.hard.commit = self.hard.commit.max(base.index);
        self.snapshot = Some(base.clone());
    }

    /// Forgets entries up to `index`.
    pub fn compact(&mut self, index: u64) {
        while self.entries.front().is_some_and(|e| e.index <= index) {
            let gone = self.entries.pop_front().expect("it was just seen");
            self.bytes -= size(&gone);
            self.before = (gone.index, gone.term);
        }
    }

    /// Forgets entries up to `index` until no more than `bytes` are kept.
    pub fn compact_to(&mut self, index: u64, bytes: usize) {
        while self.bytes > bytes {
            match self.entries.front() {
                Some(entry) if entry.index <= index => self.compact(entry.index),
                _ => return,
            }
        }
    }

    pub fn set_snapshot(&mut self, base: Base) {
        self.snapshot = Some(base);
    }

    /// Whether a snapshot was asked for and there was none; asked once.
    pub fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    fn last(&self) -> u64 {
        self.entries.back().map_or(self.before.0, |e| e.index)
    }

    fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.before.0 + 1)?).ok()
    }
}

fn knows(conf: &ConfState, member: u64) -> bool {
    [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next].iter().any(|ids| ids.contains(&member))
}

fn size(entry: &Entry) -> usize {
    // What an entry costs beside its data.
    96 + entry.data.len() + entry.context.len()
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState { hard_state: self.hard.clone(), conf_state: self.conf.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        let Some(from) = self.position(low) else { return Err(Error::Store(StorageError::Compacted)) };
        let count = usize::try_from(high.saturating_sub(low)).unwrap_or(usize::MAX);
        let max = max_size.into().unwrap_or(u64::MAX);
        let mut total = 0;
        let wanted = self.entries.iter().skip(from).take(count).take_while(|entry| {
            let first = total == 0;
            total += size(entry) as u64;
            first || total <= max
        });
        Ok(wanted.cloned().collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        let Some(position) = self.position(index) else { return Err(Error::Store(StorageError::Compacted)) };
        self.entries.get(position).map(|e| e.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        match &self.snapshot {
            // The log must go on where the snapshot ends, and whoever gets it must be a member in it.
            Some(base) if base.index >= request_index.max(self.before.0) && knows(&base.conf, to) => {
                let mut snapshot = Snapshot::default();
                let metadata = snapshot.mut_metadata();
                metadata.index = base.index;
                metadata.term = base.term;
                metadata.set_conf_state(base.conf.clone());
                Ok(snapshot)
            }
            _ => {
                self.wanted.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
        let entry = |index| Entry { index, term, ..Default::default() };
        range.map(entry).collect()
    }

    fn log() -> Log {
        Log::new(HardState::default(), Base { index: 1, term: 1, ..Default::default() }, entries(2..=6, 1))
    }

    fn terms(log: &Log) -> Vec<(u64, u64)> {
        log.entries.iter().map(|e| (e.index, e.term)).collect()
    }

    #[test]
    fn later_entries_replace_earlier_ones() {
        let mut log = log();
        log.append(&entries(4..=5, 2));
        assert_eq!(terms(&log), [(2, 1), (3, 1), (4, 2), (5, 2)]);
        assert_eq!((log.last(), log.bytes), (5, 4 * 96));
    }

    #[test]
    fn what_is_compacted_is_told_as_such() {
        let mut log = log();
        log.compact(3);
        assert_eq!((log.first_index().unwrap(), log.term(3).unwrap()), (4, 1));
        assert_eq!(log.term(2).unwrap_err(), Error::Store(StorageError::Compacted));
        assert_eq!(log.term(7).unwrap_err(), Error::Store(StorageError::Unavailable));
        let some = log.entries(4, 7, 1, GetEntriesContext::empty(false)).unwrap();
        assert_eq!(some.len(), 1, "at least one");
    }

    #[test]
    fn a_snapshot_before_the_log_is_of_no_use() {
        let mut log = log();
        let conf = ConfState { voters: vec![1, 2], ..Default::default() };
        log.set_snapshot(Base { index: 3, term: 1, conf });
        assert!(log.snapshot(0, 3).is_err() && log.take_wanted(), "it does not know that member");
        assert_eq!(log.snapshot(0, 2).unwrap().get_metadata().index, 3);
        log.compact(5);
        assert!(log.snapshot(0, 2).is_err() && log.take_wanted() && !log.take_wanted());
    }
}
