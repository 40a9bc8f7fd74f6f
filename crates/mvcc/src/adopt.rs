//! Keys that come from another state, and keys that go to one: written and deleted like others, told to nobody.
//!
//! Knows no reason for it; who serves which keys meanwhile is decided above.

use bytes::Bytes;
use store_api::{KeyValue, LeaseId, Revision, StoreError};

use crate::{
    history::Value,
    range::KeyRange,
    record::Facts,
    state::State,
    txn::{Write, live},
};

impl State {
    /// Puts keys as they were elsewhere, at one new revision: when they were created and how often written stays true, by
    /// the other state's count of revisions.
    pub fn adopt(&mut self, keys: &[KeyValue]) {
        if keys.is_empty() {
            return;
        }
        let revision = self.revision + 1;
        for (sub, kv) in (0..).zip(keys) {
            let (create, version, lease) = (kv.create_revision, kv.version, kv.lease);
            let facts = Facts { revision, sub, tombstone: false, create, version, lease };
            let place = self.space.find(&kv.key);
            self.record(place, &kv.key, &facts, &Value::Shared(&kv.value));
        }
        self.revision = revision;
    }

    /// Deletes at most `limit` keys of a range, at one new revision. Returns whether any are left.
    pub fn abandon(&mut self, key: &Bytes, range_end: &Bytes, limit: usize) -> bool {
        let range = KeyRange::new(key, range_end);
        let mut keys: Vec<Vec<u8>> = live(self, &range).take(limit + 1).map(|v| v.key.to_vec()).collect();
        let more = keys.len() > limit;
        keys.truncate(limit);
        let mut write = Write::new(self);
        keys.iter().for_each(|key| write.delete_key(key));
        drop(write.finish());
        more
    }

    /// Revisions go on after `revision`, though nothing was written up to there.
    pub fn raise(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// A lease that came with its keys. One that is there already stays as it is; the flag says that it was not.
    pub fn adopt_lease(&mut self, id: LeaseId, ttl: i64) -> Result<bool, StoreError> {
        match self.leases.grant(id, ttl) {
            Ok(_) => Ok(true),
            Err(StoreError::LeaseExists(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, HashQuery, Replay};
    use store_api::{PutRequest, RangeRequest};

    fn put(state: &mut State, key: &'static str, lease: LeaseId) {
        let put = PutRequest { key: key.into(), value: "v".into(), lease, ..Default::default() };
        state.apply(Command::Put(put)).response.unwrap();
    }

    fn all(state: &State) -> Vec<KeyValue> {
        let request = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        state.range(request).unwrap().kvs
    }

    #[test]
    fn keys_move_with_their_age_and_their_lease() {
        let mut from = State::default();
        from.apply(Command::LeaseGrant { id: 7, ttl: 60 }).response.unwrap();
        for (key, lease) in [("a", 7), ("b", 0), ("b", 0), ("c", 0)] {
            put(&mut from, key, lease);
        }
        let keys = all(&from);
        let mut to = State::default();
        put(&mut to, "z", 0);
        to.raise(from.revision());
        assert_eq!(to.adopt_lease(7, 60), Ok(true));
        assert_eq!(to.adopt_lease(7, 60), Ok(false));
        to.adopt(&keys[..2]);
        to.adopt(&keys[2..]);
        assert_eq!(to.revision(), from.revision() + 2);
        for (before, after) in keys.iter().zip(all(&to)) {
            let revision = after.mod_revision;
            assert!(revision > from.revision(), "{after:?}");
            assert_eq!(KeyValue { mod_revision: revision, ..before.clone() }, after);
        }
        assert_eq!(to.lease_keys(7), ["a"]);
        // What was moved away leaves the lease, and is written as often as before when it comes back.
        assert!(from.abandon(&"a".into(), &"c".into(), 1));
        assert!(!from.abandon(&"a".into(), &"c".into(), 1));
        assert!(!from.abandon(&"a".into(), &"c".into(), 1));
        assert_eq!((all(&from).len(), from.lease_keys(7).len(), from.keys()), (1, 0, 1));
        let revision = from.revision();
        assert!(!from.abandon(&"a".into(), &"c".into(), 1));
        assert_eq!(from.revision(), revision, "nothing was left to delete");
    }

    #[test]
    fn revisions_may_be_left_out() {
        let mut state = State::default();
        put(&mut state, "a", 0);
        state.raise(1000);
        put(&mut state, "a", 0);
        assert_eq!(state.revision(), 1001);
        let at = |revision| RangeRequest { key: "a".into(), revision, ..Default::default() };
        assert_eq!(state.range(at(500)).unwrap().kvs[0].version, 1);
        let mut replay = Replay::new(KeyRange::new(&"a".into(), &Bytes::new()), 3);
        let events = replay.step(&state, 100).unwrap();
        assert_eq!(events.iter().map(|e| e.kv.mod_revision).collect::<Vec<_>>(), [1001]);
        assert!(state.apply(Command::Compact(700)).response.is_ok());
        state.trim(usize::MAX);
        let mut hash = HashQuery::new(&state, 0).unwrap();
        while !hash.step(&state, 100).unwrap() {}
        assert_eq!((state.keys(), all(&state)[0].version), (1, 2));
    }
}
