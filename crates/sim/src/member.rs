//! A running member: what the store's writer, applier and callers do with threads, done here step by step. It goes the
//! same way: inputs first, then proposals, then questions of readers, then one turn; what is committed is applied later.
//!
//! Knows no network and no client: what is to be sent and answered goes out as [`Out`].

mod applying;
mod moving;
mod part;
mod proposing;

pub use part::Part;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use consensus::MessageType;
use mvcc::{Command, LeaseTimes};
use replica::{
    Applied, Base, Batch, Consensus, Core, Dropped, Entry, Follow, GroupId, LeaseChange, Machine, MemberChange,
    Members, Message, Output, Recovery, Role, SnapshotMetadata, entry_bytes,
    snapshot::{self, FileReader, Incoming, Point, Portions},
};
use store_api::{LeaseId, RangeRequest, RangeResponse, Revision, StoreError};
use wal::CommitError;

use crate::{
    disk::VirtualDisk,
    invariants::Invariants,
    mutation::Mutation,
    pending::{Pending, Reads},
    random::Random,
    trace::Trace,
    watches::{Pushed, Watches},
};

/// Virtual time.
pub type Micros = u64;
pub const TICK: Micros = 100_000;
pub const ELECTION_TICKS: u32 = 10;
/// A question about the commit index is asked again after this.
const READ_AGAIN: Micros = 5 * TICK;
/// How long a proposal may wait.
pub const REQUEST_LIMIT: Micros = 7_000_000;
/// Bytes of one entry, about.
const MAX_ENTRY_BYTES: usize = 2048;
const MAX_BACKLOG: usize = 64;
const REVOKE_BATCH: usize = 256;
/// How often a group looks at the members of group 0.
const FOLLOW_EVERY: Micros = 4 * TICK;

pub fn wal_dir() -> &'static Path {
    Path::new("wal")
}

pub fn snapshot_dir() -> &'static Path {
    Path::new("snap")
}

/// How fast a clock goes, in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct Rate(pub u64);

impl Rate {
    pub fn clock(self, now: Micros) -> Duration {
        Duration::from_micros(now * self.0 / 1000)
    }

    /// How long a tick of such a clock takes.
    pub fn tick(self) -> Micros {
        TICK * 1000 / self.0
    }
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticket {
    Client {
        client: u32,
        operation: u64,
    },
    /// The member itself: a lease has ended.
    Expiry(LeaseId),
    /// The member itself: a group follows the members of group 0.
    Follow {
        member: u64,
        group: GroupId,
    },
    /// The member itself: a shard moves.
    Mover {
        member: u64,
        number: u64,
    },
    Operator(u64),
    /// Who plans moves.
    Planner,
    Administrator(u64),
}

/// What a client asks of a member.
#[derive(Clone, Debug)]
pub enum Call {
    Write(Command),
    Read(RangeRequest),
    KeepAlive(LeaseId),
}

#[derive(Clone, Debug)]
pub enum Reply {
    Done(replica::Response),
    Range(RangeResponse),
    /// Seconds granted; and the store's revision.
    Alive(i64, Revision),
    /// The state is the last word.
    Settled,
}

pub type Outcome = Result<Reply, StoreError>;

/// What has reached a member and waits for its next turn.
pub enum Input {
    Message(GroupId, Message),
    Read(GroupId, Ticket, ReadKind),
    Change(GroupId, MemberChange, Ticket),
    Transfer(GroupId, u64),
    Unreachable(u64),
    /// A member's connections were closed: its process has ended, or it only seems so.
    Gone(u64),
    SnapshotSent {
        group: GroupId,
        peer: u64,
        ok: bool,
    },
    SnapshotWritten(GroupId, Option<(Base, u64)>),
}

#[derive(Clone, Debug)]
pub enum ReadKind {
    Range(RangeRequest),
    KeepAlive(LeaseId),
    /// Nothing: who asks looks for itself.
    Settle,
}

pub struct Proposal {
    pub ticket: Ticket,
    pub request: Bytes,
    pub frees_space: bool,
    /// Only if this member leads in this term.
    pub in_term: Option<u64>,
    pub deadline: Micros,
}

/// What a member wants done outside of itself.
pub enum Out {
    Send(GroupId, Message),
    Answer(Ticket, Outcome),
    /// For the leader, who alone knows how much is left of leases.
    Ask(u64, GroupId, Ticket, LeaseId),
    Pushed(u64, Pushed),
    /// There is something to apply.
    Apply,
    /// A snapshot was begun and is to be written.
    Snapshot(GroupId),
    /// A turn is wanted at this time at the latest.
    Again(Micros),
    Removed,
}

/// The world around a step.
pub struct Scene<'a> {
    pub now: Micros,
    /// How much this member's clock is ahead.
    pub ahead: Micros,
    /// How fast its clock goes.
    pub rate: Rate,
    pub random: &'a mut Random,
    pub trace: &'a mut Trace,
    /// Of each group.
    pub invariants: &'a mut [Invariants],
    pub out: &'a mut Vec<Out>,
    pub mutation: Option<Mutation>,
}

impl Scene<'_> {
    /// What is to hold of a group.
    pub fn of(&mut self, group: GroupId) -> &mut Invariants {
        &mut self.invariants[group as usize]
    }

    /// The member's own time.
    fn clock(&self) -> Duration {
        Duration::from_micros(self.now + self.ahead)
    }

    /// Its own time as leases of leaders count it: a clock that is a little fast or slow and never jumps.
    fn steady(&self) -> Duration {
        self.rate.clock(self.now)
    }
}

enum Item {
    Entries(Vec<Entry>),
    Install(Box<Machine>),
}

/// Where consensus stands, as of the last turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub leads: bool,
    pub leader: u64,
    pub term: u64,
    pub lone: bool,
    pub learner: bool,
}

pub struct Running {
    pub id: u64,
    disk: VirtualDisk,
    salt: u64,
    pub core: Core,
    /// What each group has beside its consensus.
    pub parts: Vec<Part>,
    pub inbox: VecDeque<Input>,
    /// What came while a turn was unfinished and must not be lost.
    deferred: Vec<Input>,
    since_snapshot: u64,
    snapshot_bytes: u64,
    last_snapshot_bytes: u64,
    next_id: u64,
    pub tick_due: bool,
    /// The disk had no room in the middle of a turn.
    stalled: bool,
    pub broken: Option<String>,
    /// Snapshots that are on their way in.
    incoming: BTreeMap<u64, (Incoming, Message)>,
    moving: Option<moving::Moving>,
    /// When the next attempt at a move begins.
    move_at: Micros,
}

impl Running {
    pub fn begin(
        id: u64,
        disk: VirtualDisk,
        salt: u64,
        recovery: Recovery,
        snapshot_bytes: u64,
        scene: &mut Scene<'_>,
    ) -> Self {
        let Recovery { core, machines, since_snapshot, snapshot_bytes: last, .. } = recovery;
        let mut running = Running {
            id,
            disk,
            salt,
            core,
            parts: (0..).zip(machines).map(|(group, machine)| Part::new(id, group, machine, scene)).collect(),
            inbox: VecDeque::new(),
            deferred: Vec::new(),
            since_snapshot,
            snapshot_bytes,
            last_snapshot_bytes: last,
            next_id: scene.random.next() & !0xff_ffff_ffff,
            tick_due: false,
            stalled: false,
            broken: None,
            incoming: BTreeMap::new(),
            moving: None,
            move_at: 0,
        };
        for part in &running.parts {
            scene.of(part.group).started(id, running.core.group(part.group), &part.machine);
        }
        if running.core.is_lone() {
            running.groups().for_each(|group| running.core.group(group).raft.campaign());
        }
        running
    }

    /// The numbers of the groups.
    fn groups(&self) -> std::ops::Range<GroupId> {
        0..GroupId::try_from(self.parts.len()).expect("there are few")
    }

    pub fn part(&mut self, group: GroupId) -> &mut Part {
        &mut self.parts[group as usize]
    }

    /// A client's request arrives.
    pub fn call(&mut self, group: GroupId, ticket: Ticket, call: Call, scene: &mut Scene<'_>) {
        let broken = self.broken.is_some();
        let part = self.part(group);
        let answer = match call {
            _ if broken => Some(Err(StoreError::Stopped)),
            Call::Read(request) if request.serializable => Some(part.range(request)),
            Call::KeepAlive(lease) if !part.standing.leads => match part.standing.leader {
                0 => Some(Err(StoreError::NoLeader)),
                leader => {
                    scene.out.push(Out::Ask(leader, group, ticket, lease));
                    None
                }
            },
            Call::KeepAlive(lease) => return self.keep_alive(group, ticket, lease, scene),
            _ if part.standing.learner => Some(Err(StoreError::Learner)),
            Call::Read(request) if scene.mutation == Some(Mutation::ReadsDoNotAsk) || part.is_last_word() => {
                Some(part.range(request))
            }
            Call::Read(request) if part.is_leased(scene) => {
                return part.serve_settled(ticket, ReadKind::Range(request), scene);
            }
            Call::Read(request) => {
                self.inbox.push_back(Input::Read(group, ticket, ReadKind::Range(request)));
                None
            }
            Call::Write(command) => {
                part.submit(ticket, part.request(ticket, command), None, scene.now);
                None
            }
        };
        if let Some(answer) = answer {
            scene.out.push(Out::Answer(ticket, answer));
        }
    }

    /// Asked on the leader.
    pub fn keep_alive(&mut self, group: GroupId, ticket: Ticket, lease: LeaseId, scene: &mut Scene<'_>) {
        let part = self.part(group);
        if !part.standing.leads {
            return scene.out.push(Out::Answer(ticket, Err(StoreError::NotLeader)));
        }
        if part.is_last_word() || scene.mutation == Some(Mutation::RenewalsDoNotAsk) {
            return part.serve(ticket, ReadKind::KeepAlive(lease), scene);
        }
        if part.is_leased(scene) {
            return part.serve_settled(ticket, ReadKind::KeepAlive(lease), scene);
        }
        self.inbox.push_back(Input::Read(group, ticket, ReadKind::KeepAlive(lease)));
    }

    /// Leases whose time is up are to be revoked, while this member leads.
    pub fn end_leases(&mut self, scene: &mut Scene<'_>) {
        if self.broken.is_none() && scene.mutation != Some(Mutation::LeasesDoNotEnd) {
            self.parts.iter_mut().filter(|part| part.standing.leads).for_each(|part| part.end_leases(scene));
        }
    }

    /// One round of the writer.
    pub fn turn(&mut self, scene: &mut Scene<'_>) {
        if self.broken.is_some() {
            return self.refuse_all(scene);
        }
        if self.stalled && !self.carry_on(scene) {
            return self.wait_for_room(scene);
        }
        if std::mem::take(&mut self.tick_due) {
            self.tick(scene);
        }
        let deferred = std::mem::take(&mut self.deferred);
        for input in deferred.into_iter().chain(std::mem::take(&mut self.inbox)) {
            self.input(input, scene);
        }
        for group in self.groups() {
            self.propose(group, scene);
            self.ask(group, scene);
        }
        if self.carry_on(scene) && self.since_snapshot >= self.snapshot_bytes.max(self.last_snapshot_bytes) {
            self.since_snapshot = 0;
            self.parts.iter_mut().for_each(|part| part.start_snapshot(scene));
        }
    }

    fn tick(&mut self, scene: &mut Scene<'_>) {
        self.core.tick(scene.steady());
        for part in &mut self.parts {
            part.expire(scene);
            if self.core.group(part.group).raft.snapshot_wanted() {
                part.start_snapshot(scene);
            }
        }
    }

    fn input(&mut self, input: Input, scene: &mut Scene<'_>) {
        match input {
            Input::Message(group, message) => self.message(group, message, scene),
            Input::Read(group, ticket, kind) => self.part(group).reads.wait(ticket, kind),
            Input::Change(group, change, ticket) => self.change(group, &change, ticket, scene),
            Input::Transfer(group, to) => self.core.group(group).raft.transfer(to),
            Input::Unreachable(peer) => {
                self.groups().for_each(|group| self.core.group(group).raft.unreachable(peer));
            }
            Input::Gone(peer) => self.gone(peer),
            Input::SnapshotSent { group, peer, ok } => self.core.group(group).raft.snapshot_sent(peer, ok),
            Input::SnapshotWritten(group, written) => self.snapshot_written(group, written, scene),
        }
    }

    /// As the store's writer does where a leader's connections end.
    fn gone(&mut self, peer: u64) {
        for group in self.groups() {
            let (me, group) = (self.id, self.core.group(group));
            let before = group.members.iter().filter(|m| m.id != peer && !m.is_learner && m.id < me).count();
            if group.raft.brief().1 == peer {
                group.raft.leader_gone(1 + 2 * before);
            }
        }
    }

    fn message(&mut self, group: GroupId, mut message: Message, scene: &Scene<'_>) {
        let bytes: u64 = message.get_entries().iter().map(|e| entry_bytes(e.data.len() + e.context.len())).sum();
        if bytes > 0 && self.core.prepare(bytes, false).is_err() {
            return;
        }
        let leads = self.core.group(group).raft.brief().0 == Role::Leader;
        if message.get_msg_type() == MessageType::MsgPropose && !leads {
            return;
        }
        let clock = scene.steady();
        crate::rewrite::answered_now(scene.mutation, &mut message, clock);
        drop(self.core.group(group).raft.step(message, clock));
    }

    /// One turn of consensus; `false` if it could not be finished.
    fn carry_on(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.broken.is_some() {
            return false;
        }
        self.parts.iter().for_each(|part| self.core.applied(part.group, part.machine.index));
        // Before anything is sent: who has let its lease go must not use it when another may be elected.
        self.parts.iter_mut().for_each(|part| part.hold_lease(self.core.group(part.group).raft.leased(), scene));
        let before = self.core.appended;
        let mut hands = Hands {
            member: self.id,
            disk: &self.disk,
            salt: self.salt,
            parts: &mut self.parts,
            served: Vec::new(),
            removed: false,
            scene: &mut *scene,
        };
        let turned = self.core.turn(&mut hands);
        let (served, removed) = (hands.served, hands.removed);
        self.since_snapshot += self.core.appended - before;
        self.stalled = false;
        match turned {
            Ok(()) => {}
            Err(CommitError::Broken(why)) => self.fail(why, scene),
            Err(CommitError::Refused(error)) => {
                scene.trace.say(scene.now, format_args!("{}: the log waits for room: {error}", self.id));
                self.stalled = true;
            }
        }
        for (group, (ticket, kind)) in served {
            self.part(group).serve(ticket, kind, scene);
        }
        if removed {
            scene.out.push(Out::Removed);
        }
        if self.broken.is_none() {
            self.publish(scene);
        }
        if self.parts.iter().any(|part| !part.queue.is_empty()) {
            scene.out.push(Out::Apply);
        }
        self.broken.is_none() && !self.stalled
    }

    fn wait_for_room(&mut self, scene: &mut Scene<'_>) {
        let full = StoreError::NoSpace("the log waits for room".to_owned());
        self.parts.iter_mut().for_each(|part| refuse(std::mem::take(&mut part.proposals), &full, scene));
        for input in std::mem::take(&mut self.inbox) {
            match input {
                Input::Read(group, ticket, kind) => self.part(group).reads.wait(ticket, kind),
                Input::Change(_, _, ticket) => scene.out.push(Out::Answer(ticket, Err(full.clone()))),
                Input::SnapshotWritten(group, written) => self.snapshot_written(group, written, scene),
                Input::SnapshotSent { .. } => self.deferred.push(input),
                _ => {}
            }
        }
        scene.out.push(Out::Again(scene.now + 50_000));
    }

    fn publish(&mut self, scene: &mut Scene<'_>) {
        let (lone, learner) = (self.core.is_lone(), self.core.is_learner());
        for part in &mut self.parts {
            let (role, leader, term, commit, last) = self.core.group(part.group).raft.brief();
            scene.of(part.group).stands(self.id, role, term, commit, last);
            let leads = role == Role::Leader;
            let led = part.standing.leads;
            part.standing = Standing { leads, leader, term, lone, learner };
            part.committed = part.committed.max(commit);
            if leads && !led && scene.mutation != Some(Mutation::LeasesAreNotRestarted) {
                part.restart_leases(scene.clock());
            }
        }
    }

    fn fail(&mut self, why: String, scene: &mut Scene<'_>) {
        scene.trace.say(scene.now, format_args!("{}: broken: {why}", self.id));
        self.broken = Some(why);
        self.refuse_all(scene);
    }

    fn refuse_all(&mut self, scene: &mut Scene<'_>) {
        let error = StoreError::Stopped;
        let mut tickets: Vec<Ticket> = self.parts.iter_mut().flat_map(Part::take_tickets).collect();
        for input in self.inbox.drain(..) {
            if let Input::Read(_, ticket, _) | Input::Change(_, _, ticket) = input {
                tickets.push(ticket);
            }
        }
        tickets.into_iter().for_each(|ticket| scene.out.push(Out::Answer(ticket, Err(error.clone()))));
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.max(1).unsigned_abs())
}

/// What a message says of the commit index beside the field that is named so.
fn told(message: &Message) -> u64 {
    if message.get_msg_type() == MessageType::MsgReadIndexResp { message.index } else { 0 }
}

fn dropped(error: Dropped) -> StoreError {
    match error {
        Dropped::NoLeader => StoreError::NoLeader,
        Dropped::Misfit(text) => StoreError::InvalidArgument(text),
    }
}

fn refuse(proposals: Vec<Proposal>, error: &StoreError, scene: &mut Scene<'_>) {
    proposals.into_iter().for_each(|p| scene.out.push(Out::Answer(p.ticket, Err(error.clone()))));
}

/// Carries a turn's decisions out.
struct Hands<'a, 'b> {
    member: u64,
    disk: &'a VirtualDisk,
    salt: u64,
    parts: &'a mut [Part],
    served: Vec<(GroupId, (Ticket, ReadKind))>,
    removed: bool,
    scene: &'a mut Scene<'b>,
}

impl Output for Hands<'_, '_> {
    fn send(&mut self, group: GroupId, messages: Vec<Message>) {
        for message in messages {
            let part = &mut self.parts[group as usize];
            part.committed = part.committed.max(message.commit).max(told(&message));
            self.scene.of(group).sends(self.member, &message);
            self.scene.out.push(Out::Send(group, message));
        }
    }

    fn apply(&mut self, group: GroupId, entries: Vec<Entry>) {
        self.parts[group as usize].queue.push_back(Item::Entries(entries));
    }

    fn install(&mut self, group: GroupId, metadata: SnapshotMetadata) -> Result<Members, String> {
        let point = Point { group, index: metadata.index, term: metadata.term };
        let path = snapshot::path(snapshot_dir(), point);
        let (machine, _) = snapshot::read(self.disk, &path, self.salt, point)?;
        let members = machine.members.clone();
        self.parts[group as usize].queue.push_back(Item::Install(Box::new(machine)));
        Ok(members)
    }

    fn read(&mut self, group: GroupId, context: u64, index: u64) {
        let part = &mut self.parts[group as usize];
        let confirmed = part.reads.confirm(context, index, part.machine.index);
        self.served.extend(confirmed.into_iter().map(|read| (group, read)));
    }

    fn changed(&mut self, group: GroupId, role: Role, leader: u64) {
        self.scene.trace.say(self.scene.now, format_args!("{}: {role:?}, leader {leader}, group {group}", self.member));
    }

    fn removed(&mut self) {
        self.removed = true;
    }
}
