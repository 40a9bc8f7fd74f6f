//! A running member: what the store's writer, applier and callers do with threads, done here step by step. It goes the
//! same way: inputs first, then proposals, then questions of readers, then one turn; what is committed is applied later.
//!
//! Knows no network and no client: what is to be sent and answered goes out as [`Out`].

mod applying;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use consensus::MessageType;
use mvcc::{Command, LeaseTimes};
use replica::{
    Applied, Base, Batch, Consensus, Core, Dropped, Entry, GroupId, LeaseChange, Machine, MemberChange, Members,
    Message, Output, Recovery, Role, SnapshotMetadata, entry_bytes,
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
/// A question about the commit index is asked again after this.
const READ_AGAIN: Micros = 5 * TICK;
/// How long a proposal may wait.
pub const REQUEST_LIMIT: Micros = 7_000_000;
/// Bytes of one entry, about.
const MAX_ENTRY_BYTES: usize = 2048;
const MAX_BACKLOG: usize = 64;
const REVOKE_BATCH: usize = 256;
pub const GROUP: GroupId = 0;

pub fn wal_dir() -> &'static Path {
    Path::new("wal")
}

pub fn snapshot_dir() -> &'static Path {
    Path::new("snap")
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
    Operator(u64),
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
}

pub type Outcome = Result<Reply, StoreError>;

/// What has reached a member and waits for its next turn.
pub enum Input {
    Message(Message),
    Read(Ticket, ReadKind),
    Change(MemberChange, Ticket),
    Transfer(u64),
    Unreachable(u64),
    SnapshotSent { peer: u64, ok: bool },
    SnapshotWritten(Option<(Base, u64)>),
}

#[derive(Clone, Debug)]
pub enum ReadKind {
    Range(RangeRequest),
    KeepAlive(LeaseId),
}

pub struct Proposal {
    pub ticket: Ticket,
    pub request: Bytes,
    pub frees_space: bool,
    /// Only if this member leads in this term.
    pub in_term: Option<u64>,
}

/// What a member wants done outside of itself.
pub enum Out {
    Send(Message),
    Answer(Ticket, Outcome),
    /// For the leader, who alone knows how much is left of leases.
    Ask(u64, Ticket, LeaseId),
    Pushed(u64, Pushed),
    /// There is something to apply.
    Apply,
    /// A snapshot was begun and is to be written.
    Snapshot,
    /// A turn is wanted at this time at the latest.
    Again(Micros),
    Removed,
}

/// The world around a step.
pub struct Scene<'a> {
    pub now: Micros,
    pub random: &'a mut Random,
    pub trace: &'a mut Trace,
    pub invariants: &'a mut Invariants,
    pub out: &'a mut Vec<Out>,
    pub mutation: Option<Mutation>,
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
    pub machine: Machine,
    pub standing: Standing,
    queue: VecDeque<Item>,
    pub inbox: VecDeque<Input>,
    /// What came while a turn was unfinished and must not be lost.
    deferred: Vec<Input>,
    proposals: Vec<Proposal>,
    backlog: VecDeque<(Micros, Proposal)>,
    pending: Pending,
    reads: Reads,
    pub watches: Watches,
    leases: LeaseTimes,
    /// How much this member's clock is ahead.
    pub ahead: Micros,
    snapshotting: Option<(Portions, Base, Members)>,
    /// The members by the newest snapshot: as which a restart may begin, whatever was committed since.
    pub kept_members: Members,
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
}

impl Running {
    pub fn begin(
        id: u64,
        disk: VirtualDisk,
        salt: u64,
        recovery: Recovery,
        snapshot_bytes: u64,
        ahead: Micros,
        scene: &mut Scene<'_>,
    ) -> Self {
        let Recovery { core, mut machines, since_snapshot, snapshot_bytes: last, .. } = recovery;
        let machine = machines.swap_remove(GROUP as usize);
        let mut running = Running {
            id,
            disk,
            salt,
            core,
            standing: Standing::default(),
            queue: VecDeque::new(),
            inbox: VecDeque::new(),
            deferred: Vec::new(),
            proposals: Vec::new(),
            backlog: VecDeque::new(),
            pending: Pending::default(),
            reads: Reads::default(),
            watches: Watches::default(),
            leases: LeaseTimes::default(),
            ahead,
            snapshotting: None,
            kept_members: machine.members.clone(),
            since_snapshot,
            snapshot_bytes,
            last_snapshot_bytes: last,
            next_id: scene.random.next() & !0xff_ffff_ffff,
            tick_due: false,
            stalled: false,
            broken: None,
            incoming: BTreeMap::new(),
            machine,
        };
        running.restart_leases(scene.now);
        scene.invariants.started(id, running.core.group(GROUP), &running.machine);
        if running.core.is_lone() {
            running.core.group(GROUP).raft.campaign();
        }
        running
    }

    fn clock(&self, now: Micros) -> Duration {
        Duration::from_micros(now + self.ahead)
    }

    /// A client's request arrives.
    pub fn call(&mut self, ticket: Ticket, call: Call, scene: &mut Scene<'_>) {
        let answer = match call {
            _ if self.broken.is_some() => Some(Err(StoreError::Stopped)),
            Call::Read(request) if request.serializable => Some(self.machine.kv.range(request).map(Reply::Range)),
            Call::KeepAlive(lease) if !self.standing.leads => match self.standing.leader {
                0 => Some(Err(StoreError::NoLeader)),
                leader => {
                    scene.out.push(Out::Ask(leader, ticket, lease));
                    None
                }
            },
            Call::KeepAlive(lease) => return self.keep_alive(ticket, lease, scene),
            _ if self.standing.learner => Some(Err(StoreError::Learner)),
            Call::Read(request) if scene.mutation == Some(Mutation::ReadsDoNotAsk) || self.is_last_word() => {
                Some(self.machine.kv.range(request).map(Reply::Range))
            }
            Call::Read(request) => {
                self.inbox.push_back(Input::Read(ticket, ReadKind::Range(request)));
                None
            }
            Call::Write(command) => {
                self.submit(ticket, replica::Request::Kv(command), None);
                None
            }
        };
        if let Some(answer) = answer {
            scene.out.push(Out::Answer(ticket, answer));
        }
    }

    /// The lone leader has nobody to ask.
    fn is_last_word(&self) -> bool {
        self.standing.leads && self.standing.lone && self.machine.term == self.standing.term
    }

    fn submit(&mut self, ticket: Ticket, request: replica::Request, in_term: Option<u64>) {
        let (frees_space, request) = (request.frees_space(), request.encode());
        self.proposals.push(Proposal { ticket, request, frees_space, in_term });
    }

    /// Asked on the leader.
    pub fn keep_alive(&mut self, ticket: Ticket, lease: LeaseId, scene: &mut Scene<'_>) {
        if !self.standing.leads {
            return scene.out.push(Out::Answer(ticket, Err(StoreError::NotLeader)));
        }
        if self.is_last_word() || scene.mutation == Some(Mutation::RenewalsDoNotAsk) {
            return self.serve(ticket, ReadKind::KeepAlive(lease), scene);
        }
        self.inbox.push_back(Input::Read(ticket, ReadKind::KeepAlive(lease)));
    }

    /// Leases whose time is up are to be revoked, while this member leads.
    pub fn end_leases(&mut self, scene: &mut Scene<'_>) -> bool {
        if !self.standing.leads || self.broken.is_some() || scene.mutation == Some(Mutation::LeasesDoNotEnd) {
            return false;
        }
        let ended = self.leases.tick(self.clock(scene.now), REVOKE_BATCH);
        for lease in &ended {
            scene.trace.say(scene.now, format_args!("{}: lease {lease} has ended", self.id));
            let revoke = Command::LeaseRevoke { id: *lease };
            self.submit(Ticket::Expiry(*lease), replica::Request::Own(revoke), Some(self.standing.term));
        }
        !ended.is_empty()
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
        self.propose(scene);
        self.ask(scene);
        if self.carry_on(scene) && self.since_snapshot >= self.snapshot_bytes.max(self.last_snapshot_bytes) {
            self.since_snapshot = 0;
            self.start_snapshot(scene);
        }
    }

    fn tick(&mut self, scene: &mut Scene<'_>) {
        self.core.tick();
        for ticket in self.pending.expire(scene.now) {
            scene.out.push(Out::Answer(ticket, Err(StoreError::Timeout)));
        }
        while let Some((_, late)) = self.backlog.pop_front_if(|(deadline, _)| *deadline <= scene.now) {
            scene.out.push(Out::Answer(late.ticket, Err(StoreError::Timeout)));
        }
        if self.core.group(GROUP).raft.snapshot_wanted() {
            self.start_snapshot(scene);
        }
    }

    fn input(&mut self, input: Input, scene: &mut Scene<'_>) {
        match input {
            Input::Message(message) => self.message(message),
            Input::Read(ticket, kind) => self.reads.wait(ticket, kind),
            Input::Change(change, ticket) => self.change(&change, ticket, scene),
            Input::Transfer(to) => self.core.group(GROUP).raft.transfer(to),
            Input::Unreachable(peer) => self.core.group(GROUP).raft.unreachable(peer),
            Input::SnapshotSent { peer, ok } => self.core.group(GROUP).raft.snapshot_sent(peer, ok),
            Input::SnapshotWritten(written) => self.snapshot_written(written, scene),
        }
    }

    fn message(&mut self, message: Message) {
        let bytes: u64 = message.get_entries().iter().map(|e| entry_bytes(e.data.len() + e.context.len())).sum();
        if bytes > 0 && self.core.prepare(bytes, false).is_err() {
            return;
        }
        let leads = self.core.group(GROUP).raft.brief().0 == Role::Leader;
        if message.get_msg_type() == MessageType::MsgPropose && !leads {
            return;
        }
        drop(self.core.group(GROUP).raft.step(message));
    }

    fn change(&mut self, change: &MemberChange, ticket: Ticket, scene: &mut Scene<'_>) {
        let id = self.id();
        let (raft, context) = change.to_raft(id);
        let term = self.core.group(GROUP).raft.brief().2;
        self.pending.register(id, ticket, term, scene.now + REQUEST_LIMIT);
        if let Err(error) = self.core.group(GROUP).raft.propose_change(&raft, context)
            && let Some(ticket) = self.pending.withdraw(id)
        {
            scene.out.push(Out::Answer(ticket, Err(dropped(error))));
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn propose(&mut self, scene: &mut Scene<'_>) {
        let mut proposals: Vec<Proposal> = self.backlog.drain(..).map(|(_, proposal)| proposal).collect();
        proposals.append(&mut self.proposals);
        if proposals.is_empty() || !self.make_room(&mut proposals, scene) {
            return;
        }
        let deadline = scene.now + REQUEST_LIMIT;
        let (role, leader, term, ..) = self.core.group(GROUP).raft.brief();
        let misplaced = |p: &mut Proposal| p.in_term.is_some_and(|wanted| role != Role::Leader || wanted != term);
        refuse(proposals.extract_if(.., misplaced).collect(), &StoreError::NotLeader, scene);
        if leader == 0 {
            let room = MAX_BACKLOG.saturating_sub(self.backlog.len());
            let over = proposals.split_off(proposals.len().min(room));
            self.backlog.extend(proposals.into_iter().map(|p| (deadline, p)));
            return refuse(over, &StoreError::TooManyRequests, scene);
        }
        let (mut batch, mut tickets) = (Batch::default(), Vec::new());
        for proposal in proposals {
            if batch.len() + proposal.request.len() > MAX_ENTRY_BYTES && !batch.is_empty() {
                self.propose_batch(&mut batch, &mut tickets, term, deadline, scene);
            }
            let id = self.id();
            batch.push(id, &proposal.request);
            tickets.push((id, proposal.ticket));
        }
        self.propose_batch(&mut batch, &mut tickets, term, deadline, scene);
    }

    fn propose_batch(
        &mut self,
        batch: &mut Batch,
        tickets: &mut Vec<(u64, Ticket)>,
        term: u64,
        deadline: Micros,
        scene: &mut Scene<'_>,
    ) {
        let ids: Vec<u64> = tickets.iter().map(|(id, _)| *id).collect();
        tickets.drain(..).for_each(|(id, ticket)| self.pending.register(id, ticket, term, deadline));
        if let Err(error) = self.core.group(GROUP).raft.propose(batch.take()) {
            let error = dropped(error);
            let withdrawn: Vec<Ticket> = ids.into_iter().filter_map(|id| self.pending.withdraw(id)).collect();
            withdrawn.into_iter().for_each(|t| scene.out.push(Out::Answer(t, Err(error.clone()))));
        }
    }

    /// Refuses what a full disk has no room for; `false` if nothing is left.
    fn make_room(&mut self, proposals: &mut Vec<Proposal>, scene: &mut Scene<'_>) -> bool {
        let needed = |all: &[Proposal]| all.iter().map(|p| entry_bytes(p.request.len())).sum::<u64>();
        match self.core.prepare(needed(proposals), proposals.iter().all(|p| p.frees_space)) {
            Ok(()) => {}
            Err(CommitError::Broken(why)) => {
                refuse(std::mem::take(proposals), &StoreError::Unavailable(why.clone()), scene);
                self.fail(why, scene);
            }
            Err(CommitError::Refused(error)) => {
                refuse(proposals.extract_if(.., |p| !p.frees_space).collect(), &error, scene);
                match self.core.prepare(needed(proposals), true) {
                    Ok(()) => {}
                    Err(_) => refuse(std::mem::take(proposals), &error, scene),
                }
            }
        }
        !proposals.is_empty()
    }

    /// Asks the others for the commit index, where reads wait for it.
    fn ask(&mut self, scene: &mut Scene<'_>) {
        let context = self.next_id + 1;
        if self.reads.ask(context, scene.now, READ_AGAIN) {
            self.next_id = context;
            self.core.group(GROUP).raft.read_index(context);
        }
        if self.reads.asks() {
            scene.out.push(Out::Again(scene.now + READ_AGAIN));
        }
    }

    /// One turn of consensus; `false` if it could not be finished.
    fn carry_on(&mut self, scene: &mut Scene<'_>) -> bool {
        if self.broken.is_some() {
            return false;
        }
        self.core.applied(GROUP, self.machine.index);
        let before = self.core.appended;
        let mut hands = Hands {
            member: self.id,
            disk: &self.disk,
            salt: self.salt,
            queue: &mut self.queue,
            reads: &mut self.reads,
            applied: self.machine.index,
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
        for (ticket, kind) in served {
            self.serve(ticket, kind, scene);
        }
        if removed {
            scene.out.push(Out::Removed);
        }
        if self.broken.is_none() {
            self.publish(scene);
        }
        if !self.queue.is_empty() {
            scene.out.push(Out::Apply);
        }
        self.broken.is_none() && !self.stalled
    }

    fn wait_for_room(&mut self, scene: &mut Scene<'_>) {
        let full = StoreError::NoSpace("the log waits for room".to_owned());
        refuse(std::mem::take(&mut self.proposals), &full, scene);
        for input in std::mem::take(&mut self.inbox) {
            match input {
                Input::Read(ticket, kind) => self.reads.wait(ticket, kind),
                Input::Change(_, ticket) => scene.out.push(Out::Answer(ticket, Err(full.clone()))),
                Input::SnapshotWritten(written) => self.snapshot_written(written, scene),
                Input::SnapshotSent { .. } => self.deferred.push(input),
                _ => {}
            }
        }
        scene.out.push(Out::Again(scene.now + 50_000));
    }

    fn publish(&mut self, scene: &mut Scene<'_>) {
        let (lone, learner) = (self.core.is_lone(), self.core.is_learner());
        let group = self.core.group(GROUP);
        let (role, leader, term, commit, last) = group.raft.brief();
        scene.invariants.stands(self.id, role, term, commit, last);
        let leads = role == Role::Leader;
        let led = self.standing.leads;
        self.standing = Standing { leads, leader, term, lone, learner };
        if leads && !led && scene.mutation != Some(Mutation::LeasesAreNotRestarted) {
            self.restart_leases(scene.now);
        }
    }

    fn restart_leases(&mut self, now: Micros) {
        self.leases = LeaseTimes::default();
        let clock = self.clock(now);
        let all: Vec<_> = self.machine.kv.leases().collect();
        for (id, ttl) in all {
            self.leases.start(id, seconds(ttl), clock);
        }
    }

    fn fail(&mut self, why: String, scene: &mut Scene<'_>) {
        scene.trace.say(scene.now, format_args!("{}: broken: {why}", self.id));
        self.broken = Some(why);
        self.refuse_all(scene);
    }

    fn refuse_all(&mut self, scene: &mut Scene<'_>) {
        let error = StoreError::Stopped;
        let proposals = self.proposals.drain(..).chain(self.backlog.drain(..).map(|(_, p)| p));
        let mut tickets: Vec<Ticket> = proposals.map(|p| p.ticket).collect();
        tickets.append(&mut self.pending.take_all());
        tickets.append(&mut self.reads.take_all());
        for input in self.inbox.drain(..) {
            if let Input::Read(ticket, _) | Input::Change(_, ticket) = input {
                tickets.push(ticket);
            }
        }
        tickets.into_iter().for_each(|ticket| scene.out.push(Out::Answer(ticket, Err(error.clone()))));
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.max(1).unsigned_abs())
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
    queue: &'a mut VecDeque<Item>,
    reads: &'a mut Reads,
    applied: u64,
    served: Vec<(Ticket, ReadKind)>,
    removed: bool,
    scene: &'a mut Scene<'b>,
}

impl Output for Hands<'_, '_> {
    fn send(&mut self, _group: GroupId, messages: Vec<Message>) {
        for message in messages {
            self.scene.invariants.sends(self.member, &message);
            self.scene.out.push(Out::Send(message));
        }
    }

    fn apply(&mut self, _group: GroupId, entries: Vec<Entry>) {
        self.queue.push_back(Item::Entries(entries));
    }

    fn install(&mut self, group: GroupId, metadata: SnapshotMetadata) -> Result<Members, String> {
        let point = Point { group, index: metadata.index, term: metadata.term };
        let path = snapshot::path(snapshot_dir(), point);
        let (machine, _) = snapshot::read(self.disk, &path, self.salt, point)?;
        let members = machine.members.clone();
        self.queue.push_back(Item::Install(Box::new(machine)));
        Ok(members)
    }

    fn read(&mut self, _group: GroupId, context: u64, index: u64) {
        self.served.append(&mut self.reads.confirm(context, index, self.applied));
    }

    fn changed(&mut self, _group: GroupId, role: Role, leader: u64) {
        self.scene.trace.say(self.scene.now, format_args!("{}: {role:?}, leader {leader}", self.member));
    }

    fn removed(&mut self) {
        self.removed = true;
    }
}
