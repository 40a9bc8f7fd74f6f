//! The replicated state: keys and leases, members, alarms, users and roles, and which keys are whose. The same entries in
//! the same order give the same state on every member.

use std::collections::BTreeSet;

use auth::{Auth, Permit, TokenEvent};
use bytes::Bytes;
use consensus::{Base, Entry, EntryType};
use mvcc::{Command, State};
use store_api::{Alarm, AlarmKind, AuthError, Caller, Event, LeaseId, Member, Revision, StoreError};

use crate::{
    GroupId,
    members::{MemberChange, Members},
    notes::Notes,
    proposal::{Batch, Request},
    shards::{Shards, Stepped, Told},
};

/// What a request's proposer hears.
pub type Answer = Result<Response, StoreError>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Kv(mvcc::Response),
    /// The alarms that this request raised or took back.
    Alarms(Vec<Alarm>),
    /// All members after the change.
    Members(Vec<Member>),
    /// With the revision of the keys at that time.
    Auth(auth::Response, Revision),
    Shard(Stepped),
    Noted,
}

/// For whoever watches over the leases' time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    Granted(LeaseId, i64),
    Revoked(LeaseId),
    /// It was noted that of the seconds granted so many are left; 0: all.
    Noted(LeaseId, i64, i64),
}

/// What came of some entries.
#[derive(Debug, Default)]
pub struct Applied {
    /// By the proposals' numbers, in the order of the log.
    pub answers: Vec<(u64, Answer)>,
    pub events: Vec<Event>,
    pub leases: Vec<LeaseChange>,
    /// Members were added, removed, promoted, or said something of themselves.
    pub members_changed: bool,
    /// What the commands on users and roles did to tokens; one for each of them, whatever it did.
    pub tokens: Vec<TokenEvent>,
    /// Prefixes of keys that are served here no more.
    pub released: Vec<Bytes>,
    /// A shard takes a step.
    pub shards_changed: bool,
}

/// The state that one group's log has built.
#[derive(Debug, Default)]
pub struct Machine {
    pub kv: State,
    pub members: Members,
    pub alarms: BTreeSet<Alarm>,
    /// Group 0's; the others' machines know no user.
    pub users: Auth,
    pub shards: Shards,
    /// Group 0's.
    pub notes: Notes,
    /// The last entry applied, and its term.
    pub index: u64,
    pub term: u64,
}

impl Machine {
    /// The state at the beginning of a cluster. Everything starts after entry 1, so that a member that joins later
    /// cannot mistake an empty log for the beginning: it is sent a snapshot.
    pub fn founded_by(members: impl IntoIterator<Item = Member>) -> Self {
        Machine { members: Members::new(members), index: 1, term: 1, ..Default::default() }
    }

    /// As [`Machine::founded_by`], for one of several groups, where these prefixes are not group 0's.
    pub fn founded_as(group: GroupId, members: impl IntoIterator<Item = Member>, shards: &[(Bytes, GroupId)]) -> Self {
        Machine { shards: Shards::founded(group, shards), ..Machine::founded_by(members) }
    }

    /// The point of the log that has been reached.
    pub fn base(&self) -> Base {
        Base { index: self.index, term: self.term, conf: self.members.conf_state() }
    }

    /// Does one entry. An error means that the entry was written by a newer version, or is damaged: the member must
    /// stop, for it cannot follow the others any more.
    pub fn apply(&mut self, entry: &Entry, out: &mut Applied) -> Result<(), String> {
        debug_assert_eq!(entry.index, self.index + 1, "entries are applied in order");
        let unreadable = |why: &dyn std::fmt::Display| format!("entry {} cannot be read: {why}", entry.index);
        match entry.get_entry_type() {
            EntryType::EntryNormal => {
                for request in Batch::read(entry.data.clone()) {
                    let (id, bytes) = request.map_err(|e| unreadable(&e))?;
                    // A copy: a value that stays must not keep the whole batch.
                    let request = Request::decode(Bytes::copy_from_slice(&bytes)).map_err(|e| unreadable(&e))?;
                    let answer = self.request(request, entry.index, out);
                    out.answers.push((id, answer));
                }
            }
            _ if entry.context.is_empty() => {}
            _ => {
                let (id, change) = MemberChange::from_context(entry.context.clone()).map_err(|e| unreadable(&e))?;
                let done = self.members.apply(&change);
                out.members_changed |= done.is_ok();
                let answer = done.map(|()| Response::Members(self.members.list()));
                out.answers.push((id, answer.map_err(StoreError::Membership)));
            }
        }
        (self.index, self.term) = (entry.index, entry.term);
        Ok(())
    }

    fn request(&mut self, request: Request, index: u64, out: &mut Applied) -> Answer {
        match request {
            Request::Kv(command) => self.checked(None, command, out),
            Request::KvAs(caller, command) => self.checked(Some(&caller), command, out),
            Request::Own(command) => self.command(command, out).map(Response::Kv),
            Request::Auth(command) => {
                let applied = self.users.apply(command, index);
                out.tokens.push(applied.tokens);
                Ok(Response::Auth(applied.response?, self.kv.revision()))
            }
            Request::Shard(step) => {
                let mut told = Told::default();
                let stepped = self.shards.step(step, &mut self.kv, index, &mut told)?;
                out.shards_changed = true;
                out.leases.extend(told.leases.iter().map(|(id, ttl)| LeaseChange::Granted(*id, *ttl)));
                out.released.extend(told.released);
                Ok(Response::Shard(stepped))
            }
            Request::Note(others) => {
                self.notes.take(self.kv.revision(), others);
                Ok(Response::Noted)
            }
            Request::AlarmRaise(alarm) => {
                let new = self.alarms.insert(alarm);
                Ok(Response::Alarms(new.then_some(alarm).into_iter().collect()))
            }
            Request::AlarmDisarm(alarm) => {
                let gone = |a: &Alarm| a.kind == alarm.kind && (alarm.member == 0 || a.member == alarm.member);
                Ok(Response::Alarms(self.alarms.extract_if(.., gone).collect()))
            }
            Request::Attributes { member, name, client_urls } => {
                self.members.set_attributes(member, name, client_urls);
                out.members_changed = true;
                Ok(Response::Members(self.members.list()))
            }
            Request::PeerUrls { member, urls } => {
                self.members.set_peer_urls(member, urls)?;
                out.members_changed = true;
                Ok(Response::Members(self.members.list()))
            }
        }
    }

    /// A command of somebody, who may have lost or gained permissions while it was on its way. As in etcd, an alarm
    /// refuses before permissions do.
    fn checked(&mut self, caller: Option<&Caller>, command: Command, out: &mut Applied) -> Answer {
        if self.users.enabled() {
            self.refuse_under_alarm(&command)?;
            allow(&self.users.permit(caller), &command, &self.kv)?;
        }
        self.command(command, out).map(Response::Kv)
    }

    fn command(&mut self, command: Command, out: &mut Applied) -> Result<mvcc::Response, StoreError> {
        self.refuse_under_alarm(&command)?;
        self.shards.admit(&command)?;
        let revoked = match command {
            Command::LeaseRevoke { id } => Some(id),
            _ => None,
        };
        let compacts = matches!(command, Command::Compact(_));
        if let Command::LeaseCheckpoint(left) = &command {
            let noted = |(id, left): &(LeaseId, i64)| Some(LeaseChange::Noted(*id, self.kv.lease_ttl(*id)?, *left));
            out.leases.extend(left.iter().filter_map(noted));
        }
        let mut effects = self.kv.apply(command);
        out.events.append(&mut effects.events);
        if compacts {
            self.notes.compacted(self.kv.compacted());
        }
        match (&effects.response, revoked) {
            (Ok(mvcc::Response::LeaseGranted(lease)), _) => out.leases.push(LeaseChange::Granted(lease.id, lease.ttl)),
            (Ok(_), Some(id)) => out.leases.push(LeaseChange::Revoked(id)),
            _ => {}
        }
        effects.response
    }

    /// Refuses what an alarm of this group's state is about.
    pub fn refuse_under_alarm(&self, command: &Command) -> Result<(), StoreError> {
        if self.alarms.is_empty() {
            return Ok(());
        }
        if self.alarms.iter().any(|a| a.kind == AlarmKind::Corrupt) {
            return Err(StoreError::Corrupt("an alarm stands: members disagree".to_owned()));
        }
        if !command.frees_space() {
            return Err(StoreError::NoSpace("an alarm stands: compact or delete, then disarm it".to_owned()));
        }
        Ok(())
    }
}

/// Whether a command is permitted, by the keys and leases that it touches.
pub fn allow(permit: &Permit<'_>, command: &Command, kv: &State) -> Result<(), AuthError> {
    let lease_keys = |id| kv.lease_keys(id);
    match command {
        Command::Put(put) => permit.put(put, lease_keys),
        Command::DeleteRange(delete) => permit.delete_range(delete),
        Command::Txn(txn) => permit.txn(txn, lease_keys),
        Command::Compact(_) => permit.compact(),
        Command::LeaseGrant { .. } => permit.lease_grant(),
        Command::LeaseRevoke { id } => permit.lease_revoke(*id, lease_keys),
        // Only the cluster itself notes what is left of leases.
        Command::LeaseCheckpoint(_) => Err(AuthError::PermissionDenied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_api::{AuthChange, DeleteRangeRequest, Permission, PermissionKind, PutRequest, ROOT};

    fn apply(machine: &mut Machine, request: Request) -> Answer {
        let mut batch = Batch::default();
        batch.push(7, &request.encode());
        let entry = Entry { index: machine.index + 1, term: 1, data: batch.take(), ..Default::default() };
        let mut out = Applied::default();
        machine.apply(&entry, &mut out).unwrap();
        let (id, answer) = out.answers.pop().unwrap();
        assert_eq!(id, 7);
        answer
    }

    #[test]
    fn alarms_refuse_what_they_are_about() {
        let mut machine = Machine::founded_by([Member { id: 1, ..Default::default() }]);
        let put = || Request::Kv(Command::Put(PutRequest { key: "a".into(), ..Default::default() }));
        let delete = || Request::Kv(Command::DeleteRange(DeleteRangeRequest { key: "a".into(), ..Default::default() }));
        assert!(apply(&mut machine, put()).is_ok());
        let alarm = Alarm { member: 1, kind: AlarmKind::NoSpace };
        assert_eq!(apply(&mut machine, Request::AlarmRaise(alarm)), Ok(Response::Alarms(vec![alarm])));
        assert_eq!(apply(&mut machine, Request::AlarmRaise(alarm)), Ok(Response::Alarms(vec![])), "it stands already");
        assert!(matches!(apply(&mut machine, put()), Err(StoreError::NoSpace(_))));
        assert!(apply(&mut machine, delete()).is_ok());
        let corrupt = Alarm { member: 1, kind: AlarmKind::Corrupt };
        assert!(apply(&mut machine, Request::AlarmRaise(corrupt)).is_ok());
        assert!(matches!(apply(&mut machine, delete()), Err(StoreError::Corrupt(_))));
        let all = |kind| Request::AlarmDisarm(Alarm { member: 0, kind });
        assert_eq!(apply(&mut machine, all(AlarmKind::Corrupt)), Ok(Response::Alarms(vec![corrupt])));
        assert_eq!(apply(&mut machine, all(AlarmKind::NoSpace)), Ok(Response::Alarms(vec![alarm])));
        assert!(apply(&mut machine, put()).is_ok());
    }

    fn change(machine: &mut Machine, change: AuthChange) {
        let caller = Some(Caller::new(ROOT, machine.users.revision()));
        let answer = apply(machine, Request::Auth(auth::Command::new(caller, change.clone())));
        assert!(matches!(answer, Ok(Response::Auth(auth::Response::Changed, _))), "{change:?}: {answer:?}");
    }

    #[test]
    fn permissions_count_when_a_request_is_applied() {
        let mut machine = Machine::founded_by([Member { id: 1, ..Default::default() }]);
        let user = |name: &str| AuthChange::UserAdd { name: name.into(), hash: "x".into(), no_password: false };
        let grant = |user: &str, role: &str| AuthChange::UserGrantRole { user: user.into(), role: role.into() };
        let permission = Permission { kind: PermissionKind::Write, key: "a".into(), range_end: Bytes::new() };
        let allow = AuthChange::RoleGrantPermission { role: "writer".into(), permission };
        for step in [user(ROOT), grant(ROOT, ROOT), user("alice"), AuthChange::RoleAdd { name: "writer".into() }] {
            change(&mut machine, step);
        }
        for step in [allow, grant("alice", "writer"), AuthChange::Enable] {
            change(&mut machine, step);
        }
        let put = |key: &'static str, lease| Command::Put(PutRequest { key: key.into(), lease, ..Default::default() });
        let revision = machine.users.revision();
        let by = |name: &str, revision, command| Request::KvAs(Caller::new(name, revision), command);
        let refused = |error: AuthError| Err(StoreError::Auth(error));
        assert_eq!(apply(&mut machine, Request::Kv(put("a", 0))), refused(AuthError::UserEmpty));
        assert!(apply(&mut machine, by("alice", revision, put("a", 0))).is_ok());
        assert_eq!(apply(&mut machine, by("alice", revision, put("b", 0))), refused(AuthError::PermissionDenied));
        assert_eq!(apply(&mut machine, by("alice", revision - 1, put("a", 0))), refused(AuthError::OldRevision));
        // A lease that has a key of root's is root's to write to and to end; or the cluster's, when its time is up.
        assert!(apply(&mut machine, by("alice", revision, Command::LeaseGrant { id: 7, ttl: 60 })).is_ok());
        assert!(apply(&mut machine, by(ROOT, revision, put("b", 7))).is_ok());
        assert_eq!(apply(&mut machine, by("alice", revision, put("a", 7))), refused(AuthError::PermissionDenied));
        let revoke = || Command::LeaseRevoke { id: 7 };
        assert_eq!(apply(&mut machine, by("alice", revision, revoke())), refused(AuthError::PermissionDenied));
        assert!(apply(&mut machine, Request::Own(revoke())).is_ok());
        change(&mut machine, AuthChange::UserRevokeRole { user: "alice".into(), role: "writer".into() });
        assert_eq!(apply(&mut machine, by("alice", revision, put("a", 0))), refused(AuthError::OldRevision));
        assert_eq!(apply(&mut machine, by("alice", revision + 1, put("a", 0))), refused(AuthError::PermissionDenied));
        change(&mut machine, AuthChange::Disable);
        assert!(apply(&mut machine, Request::Kv(put("a", 0))).is_ok());
    }

    #[test]
    fn an_entry_that_cannot_be_read_stops_the_member() {
        let mut machine = Machine::default();
        let entry = Entry { index: 1, data: "rubbish".into(), ..Default::default() };
        assert!(machine.apply(&entry, &mut Applied::default()).is_err());
    }
}
