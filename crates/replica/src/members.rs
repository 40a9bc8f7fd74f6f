//! Who is in the cluster: part of the replicated state, changed only by committed entries. The same rules decide on
//! every member whether a committed change takes effect.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use consensus::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};
use mvcc::codec::{DecodeError, Reader, put_bytes, put_u64};
use store_api::{Member, MembershipError};

use crate::proposal::{put_strings, string, strings};

/// Learners at one time, as etcd's `--experimental-max-learners` has it by default.
pub const MAX_LEARNERS: usize = 1;

/// A change that goes through the log as a change of Raft's own membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    Add(Member),
    Promote(u64),
    Remove(u64),
}

/// What one group does to have the members of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    Change(MemberChange),
    /// A member is reached elsewhere.
    Urls(u64, Vec<String>),
}

/// The members, and the ids that will never be members again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
}

impl Members {
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        Members { members: members.into_iter().map(|m| (m.id, m)).collect(), removed: BTreeSet::new() }
    }

    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn list(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// Raft's membership for these members.
    pub fn conf_state(&self) -> ConfState {
        let ids = |learner| self.iter().filter(move |m| m.is_learner == learner).map(|m| m.id);
        let mut conf = ConfState::default();
        conf.set_voters(ids(false).collect());
        conf.set_learners(ids(true).collect());
        conf
    }

    /// Whether a change may take effect.
    pub fn check(&self, change: &MemberChange) -> Result<(), MembershipError> {
        match change {
            MemberChange::Add(member) => {
                if self.removed.contains(&member.id) || self.members.contains_key(&member.id) {
                    return Err(MembershipError::IdExists);
                }
                self.check_urls(member.id, &member.peer_urls)?;
                let learners = self.iter().filter(|m| m.is_learner).count();
                if member.is_learner && learners >= MAX_LEARNERS {
                    return Err(MembershipError::TooManyLearners);
                }
                Ok(())
            }
            MemberChange::Promote(id) => match self.members.get(id) {
                None => Err(MembershipError::NotFound),
                Some(member) if !member.is_learner => Err(MembershipError::NotLearner),
                Some(_) => Ok(()),
            },
            MemberChange::Remove(id) => self.members.get(id).map(|_| ()).ok_or(MembershipError::NotFound),
        }
    }

    /// Whether a member may be reached there.
    pub fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), MembershipError> {
        let taken = self.iter().any(|m| m.id != id && m.peer_urls.iter().any(|url| urls.contains(url)));
        if taken { Err(MembershipError::UrlExists) } else { Ok(()) }
    }

    /// Does a committed change, or refuses it on every member alike.
    pub fn apply(&mut self, change: &MemberChange) -> Result<(), MembershipError> {
        self.check(change)?;
        match change {
            MemberChange::Add(member) => {
                self.members.insert(member.id, member.clone());
            }
            MemberChange::Promote(id) => {
                if let Some(member) = self.members.get_mut(id) {
                    member.is_learner = false;
                }
            }
            MemberChange::Remove(id) => {
                self.members.remove(id);
                self.removed.insert(*id);
            }
        }
        Ok(())
    }

    /// The next step on the way to another group's members. Only one that may be taken: a place or an address is free
    /// again maybe when something else was done.
    pub fn follow(&self, wanted: &Members) -> Option<Follow> {
        let known = |m: &&Member| self.get(m.id).is_some();
        let moved =
            wanted.iter().filter(known).filter(|m| self.get(m.id).is_some_and(|own| own.peer_urls != m.peer_urls));
        let mut moved = moved.filter(|m| self.check_urls(m.id, &m.peer_urls).is_ok());
        if let Some(m) = moved.next() {
            return Some(Follow::Urls(m.id, m.peer_urls.clone()));
        }
        let waits = |m: &&Member| !m.is_learner && self.get(m.id).is_some_and(|own| own.is_learner);
        let promoted = wanted.iter().filter(waits).map(|m| MemberChange::Promote(m.id));
        let new = wanted.iter().filter(|m| !known(m)).map(|m| MemberChange::Add(m.clone()));
        let gone = self.iter().filter(|m| wanted.get(m.id).is_none()).map(|m| MemberChange::Remove(m.id));
        promoted.chain(new).chain(gone).find(|change| self.check(change).is_ok()).map(Follow::Change)
    }

    /// Removes all but one, who has a vote from now on.
    pub fn keep_only(&mut self, id: u64) -> Result<(), MembershipError> {
        let mut kept = self.members.remove(&id).ok_or(MembershipError::NotFound)?;
        kept.is_learner = false;
        self.removed.extend(std::mem::take(&mut self.members).into_keys());
        self.members.insert(id, kept);
        Ok(())
    }

    pub fn set_attributes(&mut self, id: u64, name: String, client_urls: Vec<String>) {
        if let Some(member) = self.members.get_mut(&id) {
            (member.name, member.client_urls) = (name, client_urls);
        }
    }

    pub fn set_peer_urls(&mut self, id: u64, urls: Vec<String>) -> Result<(), MembershipError> {
        self.check_urls(id, &urls)?;
        self.members.get_mut(&id).ok_or(MembershipError::NotFound)?.peer_urls = urls;
        Ok(())
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.members.len() as u64);
        self.iter().for_each(|m| put_member(out, m));
        put_u64(out, self.removed.len() as u64);
        self.removed.iter().for_each(|id| put_u64(out, *id));
    }

    pub fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let count = r.count()?;
        let members = (0..count).map(|_| member(r)).collect::<Result<Vec<_>, DecodeError>>()?;
        let count = r.count()?;
        let removed = (0..count).map(|_| r.u64()).collect::<Result<_, _>>()?;
        Ok(Members { removed, ..Members::new(members) })
    }
}

impl MemberChange {
    /// The change as Raft takes it, and the context that says the rest: the proposal's number and the member.
    pub fn to_raft(&self, id: u64) -> (ConfChangeV2, Bytes) {
        let (kind, node) = match self {
            MemberChange::Add(m) if m.is_learner => (ConfChangeType::AddLearnerNode, m.id),
            MemberChange::Add(m) => (ConfChangeType::AddNode, m.id),
            MemberChange::Promote(id) => (ConfChangeType::AddNode, *id),
            MemberChange::Remove(id) => (ConfChangeType::RemoveNode, *id),
        };
        let mut single = ConfChangeSingle { node_id: node, ..Default::default() };
        single.set_change_type(kind);
        let mut change = ConfChangeV2::default();
        change.set_transition(ConfChangeTransition::Auto);
        change.set_changes(vec![single].into());
        let mut context = Vec::new();
        put_u64(&mut context, id);
        match self {
            MemberChange::Add(m) => {
                context.push(1);
                put_member(&mut context, m);
            }
            MemberChange::Promote(id) => {
                context.push(2);
                put_u64(&mut context, *id);
            }
            MemberChange::Remove(id) => {
                context.push(3);
                put_u64(&mut context, *id);
            }
        }
        (change, context.into())
    }

    /// Reads the context that [`MemberChange::to_raft`] gave.
    pub fn from_context(context: Bytes) -> Result<(u64, Self), DecodeError> {
        let mut r = Reader::new(context);
        let id = r.u64()?;
        let change = match r.u8()? {
            1 => MemberChange::Add(member(&mut r)?),
            2 => MemberChange::Promote(r.u64()?),
            3 => MemberChange::Remove(r.u64()?),
            _ => return Err(DecodeError("unknown change of membership")),
        };
        Ok((id, change))
    }
}

fn put_member(out: &mut Vec<u8>, m: &Member) {
    put_u64(out, m.id);
    put_bytes(out, m.name.as_bytes());
    put_strings(out, &m.peer_urls);
    put_strings(out, &m.client_urls);
    out.push(u8::from(m.is_learner));
}

fn member(r: &mut Reader) -> Result<Member, DecodeError> {
    Ok(Member {
        id: r.u64()?,
        name: string(r)?,
        peer_urls: strings(r)?,
        client_urls: strings(r)?,
        is_learner: r.bool()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, learner: bool) -> Member {
        Member { id, peer_urls: vec![format!("http://{id}")], is_learner: learner, ..Default::default() }
    }

    #[test]
    fn changes_follow_etcds_rules() {
        let mut members = Members::new([member(1, false), member(2, false)]);
        let mut check = |change, expected| assert_eq!(members.apply(&change), expected, "{change:?}");
        check(MemberChange::Add(member(2, false)), Err(MembershipError::IdExists));
        check(MemberChange::Add(Member { id: 9, ..member(1, false) }), Err(MembershipError::UrlExists));
        check(MemberChange::Add(member(3, true)), Ok(()));
        check(MemberChange::Add(member(4, true)), Err(MembershipError::TooManyLearners));
        check(MemberChange::Promote(2), Err(MembershipError::NotLearner));
        check(MemberChange::Promote(3), Ok(()));
        check(MemberChange::Remove(1), Ok(()));
        check(MemberChange::Remove(1), Err(MembershipError::NotFound));
        check(MemberChange::Add(member(1, false)), Err(MembershipError::IdExists));
        assert_eq!(members.conf_state().voters, [2, 3]);
        let mut bytes = Vec::new();
        members.encode(&mut bytes);
        assert_eq!(Members::decode(&mut Reader::new(bytes.into())), Ok(members));
    }

    #[test]
    fn one_group_follows_another_step_by_step() {
        let at = |id, url: &str, learner| Member { peer_urls: vec![url.to_owned()], ..member(id, learner) };
        // There is room for one learner, the new member has the address of one that is gone, and another one has moved.
        let wanted = Members::new([at(1, "moved", false), at(3, "http://2", false), at(4, "http://4", false)]);
        let wanted = Members { members: [(5, member(5, true))].into_iter().chain(wanted.members).collect(), ..wanted };
        let mut own = Members::new([member(1, false), member(2, false), member(4, true)]);
        let expected = [
            Follow::Urls(1, vec!["moved".to_owned()]),
            Follow::Change(MemberChange::Promote(4)),
            Follow::Change(MemberChange::Add(member(5, true))),
            Follow::Change(MemberChange::Remove(2)),
            Follow::Change(MemberChange::Add(at(3, "http://2", false))),
        ];
        for step in expected {
            assert_eq!(own.follow(&wanted).as_ref(), Some(&step));
            match step {
                Follow::Change(change) => own.apply(&change).unwrap(),
                Follow::Urls(id, urls) => own.set_peer_urls(id, urls).unwrap(),
            }
        }
        assert_eq!(own.follow(&wanted), None);
    }

    #[test]
    fn the_context_says_the_whole_change() {
        for change in [MemberChange::Add(member(3, true)), MemberChange::Promote(3), MemberChange::Remove(4)] {
            let (_, context) = change.to_raft(77);
            assert_eq!(MemberChange::from_context(context), Ok((77, change)));
        }
    }
}
