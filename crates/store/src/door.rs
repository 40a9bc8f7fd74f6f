//! The member's door to its peers: what comes in from them, and what they may be told.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use replica::{
    GroupId, Message,
    snapshot::{self, FileReader, Point, forget_received, path, received_path},
};
use store_api::{Member, Store as _, StoreError};
use wal::disk::full_or;

use crate::{
    Store,
    inbox::Input,
    peers::{Question, Reply},
    shared::Shared,
};

impl Store {
    /// (cluster, member).
    pub fn identity(&self) -> (u64, u64) {
        (self.shared.identity.cluster, self.shared.identity.member)
    }

    /// Time as this member counts it.
    pub fn monotonic(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// The members as of the last applied entry, and the ids that were removed and that no group needs any more.
    pub fn membership(&self) -> (Vec<Member>, Vec<u64>) {
        let needed = self.shared.everybody();
        let machine = self.shared.group(0).machine.read();
        let gone = machine.members.removed().filter(|id| needed.iter().all(|member| member.id != *id));
        (machine.members.list(), gone.collect())
    }

    /// Whether this member was removed from its cluster; waits for it.
    pub async fn removed(&self) {
        let mut removed = self.shared.removed.subscribe();
        // The sender lives as long as the store.
        drop(removed.wait_for(|gone| *gone).await);
    }

    /// A message from a peer.
    pub fn receive(&self, group: GroupId, message: Message) -> Result<(), StoreError> {
        self.shared.inbox.push(Input::Message(group, message))
    }

    /// A peer could not be reached.
    pub fn unreachable(&self, peer: u64) {
        drop(self.shared.inbox.push(Input::Unreachable(peer)));
    }

    /// A peer has closed the connection on which it sends messages.
    pub fn gone(&self, peer: u64) {
        drop(self.shared.inbox.push(Input::Gone(peer)));
    }

    /// A snapshot reached a peer, or did not.
    pub fn snapshot_sent(&self, group: GroupId, peer: u64, ok: bool) {
        drop(self.shared.inbox.push(Input::SnapshotSent { group, peer, ok }));
    }

    /// A snapshot of this member's, to be sent.
    pub fn open_snapshot(&self, point: Point) -> Result<FileReader, String> {
        let path = path(&self.shared.snapshot_dir, point);
        FileReader::open(&self.shared.disk, &path, self.shared.identity.salt, point)
    }

    /// A snapshot from a peer begins. It counts when [`Incoming::finish`] has returned.
    pub fn receive_snapshot(&self, point: Point) -> Result<Incoming, StoreError> {
        let shared = self.shared.clone();
        if point.group as usize >= shared.groups.len() {
            return Err(StoreError::InvalidArgument(format!("there is no group {}", point.group)));
        }
        let (dir, salt) = (&shared.snapshot_dir, shared.identity.salt);
        let applied = shared.group(point.group).standing.applied.load(Ordering::Acquire);
        forget_received(&shared.disk, dir, point.group, applied);
        let number = shared.incoming.fetch_add(1, Ordering::Relaxed);
        let begun = snapshot::Incoming::begin(&shared.disk, dir, salt, point, number);
        let begun = begun.map_err(|e| full_or("cannot write", &received_path(dir, point), &e))?;
        Ok(Incoming { shared, begun: Some(begun), point })
    }

    /// Answers what another member asks of this one.
    pub async fn answer(&self, question: Question) -> Result<Reply, StoreError> {
        match question {
            Question::KeepAlive(group, id) => {
                let store = self.leading(group)?;
                store.keep_alive(id).await.map(Reply::KeepAlive)
            }
            Question::TimeToLive(group, id, keys) => {
                let store = self.leading(group)?;
                store.time_to_live(id, keys).await.map(Reply::TimeToLive)
            }
            Question::Promote(id) => self.leading(0)?.promote_here(id).await.map(Reply::Members),
            Question::Joining => Ok(Reply::Joining(self.membership().0, self.groups())),
            Question::Hash(group, revision) => match self.shared.compact_hashes.of(revision).filter(|_| group == 0) {
                Some(hash) => Ok(Reply::Hash(hash)),
                None => self.having(group)?.hash_kv(revision).await.map(Reply::Hash),
            },
            Question::InSync(group, id) => self.leading(group)?.has_in_sync(id).await.map(Reply::InSync),
        }
    }

    fn having(&self, group: GroupId) -> Result<Store, StoreError> {
        if group as usize >= self.shared.groups.len() {
            return Err(StoreError::InvalidArgument(format!("there is no group {group}")));
        }
        Ok(self.for_group(group))
    }

    fn leading(&self, group: GroupId) -> Result<Store, StoreError> {
        let store = self.having(group)?;
        if store.group().standing.leads() { Ok(store) } else { Err(StoreError::NotLeader) }
    }
}

/// A snapshot on its way in.
pub struct Incoming {
    shared: Arc<Shared>,
    begun: Option<snapshot::Incoming>,
    point: Point,
}

impl Incoming {
    /// The next portion, in order.
    pub fn portion(&mut self, portion: &Bytes) -> Result<(), StoreError> {
        let path = received_path(&self.shared.snapshot_dir, self.point);
        let begun = self.begun.as_mut().expect("it is taken by finish alone");
        begun.portion(portion).map_err(|e| full_or("cannot write", &path, &e))
    }

    /// All portions have come: the file is synced, and the message that announced it goes to consensus.
    pub fn finish(mut self, message: Message) -> Result<(), StoreError> {
        runtime::failpoint!("raftBeforeSaveSnap");
        let path = received_path(&self.shared.snapshot_dir, self.point);
        let begun = self.begun.take().expect("it is taken once");
        begun.finish(&self.shared.disk).map_err(|e| full_or("cannot write", &path, &e))?;
        runtime::failpoint!("raftAfterSaveSnap");
        self.shared.inbox.push(Input::Message(self.point.group, message))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            begun.abandon(&self.shared.disk);
        }
    }
}
