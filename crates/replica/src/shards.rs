//! Which group has which keys: what each group knows of its own, and the map in group 0 by which requests are sent.
//!
//! A group refuses what is not its own, whatever the map says: a member that follows the map late loses time, and nothing
//! else. So a shard moves without a moment in which two groups would serve it:
//!
//! ```text
//!   group 0   Plan ─────────────────────────────────────────────────── Route ────────── Done
//!   source         Freeze: no writes            Release: no reads               Sweep…
//!   target                 Receive  Keys Keys…           Open: reads and writes
//! ```
//!
//! Whoever moves a shard may be replaced by another at any time, and what it has proposed may still come. Therefore each
//! step names a ticket: the plan, and the attempt to carry it out. A group takes only what fits to the last one it saw.

mod codec;
mod mover;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use mvcc::Command;
use store_api::{KeyValue, LeaseId, RequestOp, Revision, Shard, StoreError, TxnRequest};

pub use mover::{Mover, Next};
pub use steps::Told;

use crate::{GroupId, prefixes::Prefixes};

/// Prefixes that one group can tell apart.
pub const MAX_PREFIXES: usize = 1024;
/// A prefix's bytes.
pub const MAX_PREFIX_BYTES: usize = 1024;

/// Which plan, and which attempt at it: an attempt's number is the place of its `Freeze` in the source's log, so a later
/// one has a greater number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    pub plan: u64,
    pub attempt: u64,
}

/// What a group has to do with some keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It serves them; of revisions before `since` it knows nothing. From `Coming` by `Open`.
    Here { since: Revision },
    /// It serves reads of them, until another group has them. From `Here` by `Freeze`.
    Leaving { since: Revision },
    /// They are coming; the next portion has this number. From `There` by `Receive`.
    Coming { next: u64 },
    /// That group has them. From `Leaving` by `Release`.
    There(GroupId),
}

/// A claim, and the last step that was about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub claim: Claim,
    pub ticket: Ticket,
}

/// A shard that is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its number: later ones have greater ones.
    pub id: u64,
    pub from: GroupId,
    pub to: GroupId,
    /// The map names the target; the source still has to forget what it had.
    pub routed: bool,
}

/// A step on the way of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Group 0: the keys shall be kept by another group.
    Plan {
        to: GroupId,
    },
    /// Group 0: they are.
    Route {
        plan: u64,
    },
    /// Group 0: and nothing is left to do.
    Done {
        plan: u64,
    },
    /// Begins an attempt.
    Freeze {
        plan: u64,
    },
    Release(Ticket, GroupId),
    /// Deletes a portion of keys that are served by another group.
    Sweep(Ticket),
    /// Revisions go on after this one.
    Receive(Ticket, Revision),
    /// Portion of that number, and the leases that its keys have. A key whose lease is nowhere is not taken: it ended.
    Keys(Ticket, u64, Vec<(LeaseId, i64)>, Vec<KeyValue>),
    /// Revisions go on after this one, which the source had come to when it had released the shard: so a watch that begins
    /// after whatever was read there begins no later than the first change here.
    Open(Ticket, Revision),
}

/// A step, and the shard that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStep {
    pub prefix: Bytes,
    pub step: Step,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// All shards after it, and the plan's number if there is one.
    Map(Vec<Shard>, Option<u64>),
    /// The attempt that has begun, and the group's revision.
    Frozen(Ticket, Revision),
    /// The group's revision after it.
    At(Revision),
    /// Whether there is more to sweep.
    Swept(bool),
}

/// What one group knows of shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    held: Prefixes<Held>,
    /// Group 0's; the others' say that group 0 has everything.
    map: Prefixes<GroupId>,
    plans: BTreeMap<Bytes, Plan>,
}

impl Default for Shards {
    /// Everything is here.
    fn default() -> Self {
        Shards::founded(0, &[])
    }
}

impl Shards {
    /// A group's at the beginning of a cluster, in which these prefixes are not group 0's.
    pub fn founded(group: GroupId, others: &[(Bytes, GroupId)]) -> Self {
        let claim = |keeper| if keeper == group { Claim::Here { since: 0 } } else { Claim::There(keeper) };
        let held = |keeper| Held { claim: claim(keeper), ticket: Ticket::default() };
        let mut shards = Shards { held: Prefixes::new(held(0)), map: Prefixes::new(0), plans: BTreeMap::new() };
        for (prefix, keeper) in others {
            shards.held.insert(prefix.clone(), held(*keeper));
            if group == 0 {
                shards.map.insert(prefix.clone(), *keeper);
            }
        }
        shards
    }

    /// Refuses a list of prefixes that makes no sense for so many groups.
    pub fn check(others: &[(Bytes, GroupId)], groups: GroupId) -> Result<(), StoreError> {
        if others.len() >= MAX_PREFIXES {
            return Err(invalid(format!("{} shards are too many; {} are possible", others.len(), MAX_PREFIXES - 1)));
        }
        others.iter().try_for_each(|(prefix, group)| check_target(prefix, *group, groups))
    }

    /// The shards as the map has them.
    pub fn list(&self) -> Vec<Shard> {
        let mut shards: Vec<Shard> = self.map.iter().map(|(prefix, group)| self.shard(prefix, *group)).collect();
        let new = self.plans.keys().filter(|prefix| self.map.get(prefix).is_none());
        shards.extend(new.map(|prefix| self.shard(prefix, *self.map.of(prefix).1)));
        shards.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        shards
    }

    fn shard(&self, prefix: &Bytes, group: GroupId) -> Shard {
        let moving_to = self.plans.get(prefix).filter(|plan| !plan.routed).map(|plan| plan.to);
        Shard { prefix: prefix.clone(), group, moving_to }
    }

    /// Shards that are to move, as group 0 knows them.
    pub fn plans(&self) -> impl Iterator<Item = (&Bytes, &Plan)> {
        self.plans.iter()
    }

    /// What the group has to do with a shard.
    pub fn held(&self, prefix: &[u8]) -> Held {
        *self.held.of(prefix).1
    }

    /// The group that the map has for a range of keys.
    pub fn route(&self, key: &[u8], range_end: &[u8]) -> Result<GroupId, StoreError> {
        let mut route = Route::default();
        route.add(&self.map, key, range_end)?;
        Ok(route.group())
    }

    /// The group that the map has for all keys of a transaction.
    pub fn route_txn(&self, txn: &TxnRequest) -> Result<GroupId, StoreError> {
        let mut route = Route::default();
        spans(txn, &mut |key, range_end, _| route.add(&self.map, key, range_end))?;
        Ok(route.group())
    }

    /// Whether these keys can be read here now, and from which revision on.
    pub fn readable(&self, key: &[u8], range_end: &[u8]) -> Result<Revision, StoreError> {
        self.served(key, range_end, false)
    }

    /// Whether they can be read at a revision; 0 means the newest.
    pub fn readable_at(&self, key: &[u8], range_end: &[u8], revision: Revision) -> Result<(), StoreError> {
        let since = self.readable(key, range_end)?;
        match revision > 0 && revision < since {
            true => Err(StoreError::Compacted { requested: revision, compacted: since }),
            false => Ok(()),
        }
    }

    /// Whether a transaction without writes can be read here now.
    pub fn readable_txn(&self, txn: &TxnRequest) -> Result<(), StoreError> {
        if self.is_whole() {
            return Ok(());
        }
        spans(txn, &mut |key, range_end, _| self.readable(key, range_end).map(drop))
    }

    /// Refuses a command on keys that are not here, or are leaving.
    pub fn admit(&self, command: &Command) -> Result<(), StoreError> {
        if self.is_whole() {
            return Ok(());
        }
        match command {
            Command::Put(put) => self.served(&put.key, &[], true).map(drop),
            Command::DeleteRange(delete) => self.served(&delete.key, &delete.range_end, true).map(drop),
            Command::Txn(txn) => {
                spans(txn, &mut |key, range_end, writes| self.served(key, range_end, writes).map(drop))
            }
            Command::Compact(_)
            | Command::LeaseGrant { .. }
            | Command::LeaseRevoke { .. }
            | Command::LeaseCheckpoint(_) => Ok(()),
        }
    }

    /// Whether a key is served here.
    pub fn serves(&self, key: &[u8]) -> bool {
        matches!(self.held.of(key).1.claim, Claim::Here { .. } | Claim::Leaving { .. })
    }

    /// Nothing was ever divided: the usual case, which must cost nothing.
    fn is_whole(&self) -> bool {
        self.held.len() == 1 && matches!(self.held.of(&[]).1.claim, Claim::Here { since: 0 })
    }

    fn served(&self, key: &[u8], range_end: &[u8], write: bool) -> Result<Revision, StoreError> {
        let mut newest = 0;
        for (_, held) in self.held.touched(key, range_end) {
            newest = match held.claim {
                Claim::Here { since } => newest.max(since),
                Claim::Leaving { since } if !write => newest.max(since),
                _ => return Err(StoreError::ShardMoving(text(key))),
            };
        }
        Ok(newest)
    }
}

/// Finds the one group of several ranges.
#[derive(Default)]
struct Route {
    found: Option<(Bytes, GroupId)>,
}

impl Route {
    fn add(&mut self, map: &Prefixes<GroupId>, key: &[u8], range_end: &[u8]) -> Result<(), StoreError> {
        let own = key;
        for (n, (prefix, group)) in map.touched(key, range_end).into_iter().enumerate() {
            // The range's first key stands for itself, what else it touches for the shard.
            let name: &[u8] = if n == 0 { own } else { prefix };
            match &self.found {
                None => self.found = Some((Bytes::copy_from_slice(name), *group)),
                Some((_, before)) if before == group => {}
                Some((first, before)) => {
                    let (first, other) = (text(first), text(name));
                    return Err(StoreError::CrossShard { first, group: *before, other, other_group: *group });
                }
            }
        }
        Ok(())
    }

    fn group(self) -> GroupId {
        self.found.map_or(0, |(_, group)| group)
    }
}

/// Shows every range of keys that a transaction may touch, in both branches, and whether it may be written.
fn spans<E>(txn: &TxnRequest, visit: &mut impl FnMut(&[u8], &[u8], bool) -> Result<(), E>) -> Result<(), E> {
    for compare in &txn.compare {
        visit(&compare.key, &compare.range_end, false)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            RequestOp::Range(range) => visit(&range.key, &range.range_end, false)?,
            RequestOp::Put(put) => visit(&put.key, &[], true)?,
            RequestOp::DeleteRange(delete) => visit(&delete.key, &delete.range_end, true)?,
            RequestOp::Txn(txn) => spans(txn, visit)?,
        }
    }
    Ok(())
}

/// Refuses a shard or a group that cannot be.
pub fn check_target(prefix: &[u8], group: GroupId, groups: GroupId) -> Result<(), StoreError> {
    if group >= groups {
        return Err(invalid(format!("there is no group {group}: the groups are 0 to {}", groups - 1)));
    }
    if prefix.len() > MAX_PREFIX_BYTES {
        return Err(invalid(format!("a shard's prefix has at most {MAX_PREFIX_BYTES} bytes")));
    }
    Ok(())
}

fn invalid(why: String) -> StoreError {
    StoreError::InvalidArgument(why)
}

/// The least key of a shard that can be there.
fn least(prefix: &Bytes) -> Bytes {
    if prefix.is_empty() { Bytes::from_static(&[0]) } else { prefix.clone() }
}

/// The step is of an attempt that has been given up.
fn late(prefix: &[u8]) -> StoreError {
    StoreError::ShardMoving(text(prefix))
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
