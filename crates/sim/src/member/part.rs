//! What one group of a running member has beside its consensus: state, who waits, watches and leases' times.

use store_api::Caller;

use super::*;

pub struct Part {
    pub(super) member: u64,
    pub group: GroupId,
    pub machine: Machine,
    pub standing: Standing,
    /// Until when reads ask nobody, as of the last turn.
    lease: Option<Duration>,
    /// The commit index that others may know of.
    pub(super) committed: u64,
    pub(super) queue: VecDeque<Item>,
    pub(super) proposals: Vec<Proposal>,
    backlog: VecDeque<Proposal>,
    pub(super) pending: Pending,
    pub(super) reads: Reads,
    pub watches: Watches,
    pub(super) leases: LeaseTimes,
    /// When it looks again whether its members are those of group 0.
    pub(super) follow_at: Micros,
    /// As what it saw itself then.
    pub(super) following: Members,
    pub(super) snapshotting: Option<(Portions, Base, Members)>,
    /// The members by the newest snapshot: as which a restart may begin, whatever was committed since.
    pub kept_members: Members,
}

impl Part {
    pub(super) fn new(member: u64, group: GroupId, machine: Machine, scene: &Scene<'_>) -> Self {
        let mut part = Part {
            member,
            group,
            standing: Standing::default(),
            lease: None,
            committed: 0,
            queue: VecDeque::new(),
            proposals: Vec::new(),
            backlog: VecDeque::new(),
            pending: Pending::default(),
            reads: Reads::default(),
            watches: Watches::default(),
            leases: LeaseTimes::default(),
            follow_at: 0,
            following: Members::default(),
            snapshotting: None,
            kept_members: machine.members.clone(),
            machine,
        };
        part.restart_leases(scene.clock());
        part
    }

    /// The lone leader has nobody to ask.
    pub(super) fn is_last_word(&self) -> bool {
        self.standing.leads && self.standing.lone && self.machine.term == self.standing.term
    }

    /// What consensus says of the lease.
    pub(super) fn hold_lease(&mut self, until: Option<Duration>, scene: &Scene<'_>) {
        self.lease = match scene.mutation {
            Some(Mutation::LeaseIsKept) => self.lease.max(until),
            _ => until,
        };
    }

    /// Whether nobody else can have committed anything.
    pub(super) fn is_leased(&self, scene: &Scene<'_>) -> bool {
        self.lease.is_some_and(|until| scene.steady() < until)
    }

    /// Answers at the commit index of now, once that is applied.
    pub(super) fn serve_settled(&mut self, ticket: Ticket, kind: ReadKind, scene: &mut Scene<'_>) {
        if self.committed > self.machine.index {
            return self.reads.wait_for(self.committed, ticket, kind);
        }
        self.serve(ticket, kind, scene);
    }

    /// A client's command. With authentication on it is its user's, as of the users that this member knows.
    pub(super) fn request(&self, ticket: Ticket, command: Command) -> replica::Request {
        match ticket {
            Ticket::Client { client, .. } if self.machine.users.enabled() => {
                let user = crate::administrator::user(client);
                replica::Request::KvAs(Caller::new(user, self.machine.users.revision()), command)
            }
            _ => replica::Request::Kv(command),
        }
    }

    pub fn submit(&mut self, ticket: Ticket, request: replica::Request, in_term: Option<u64>, now: Micros) {
        let (frees_space, request) = (request.frees_space(), request.encode());
        self.proposals.push(Proposal { ticket, request, frees_space, in_term, deadline: now + REQUEST_LIMIT });
    }

    /// All that waits to be proposed, in order.
    pub(super) fn take_proposals(&mut self) -> Vec<Proposal> {
        self.backlog.drain(..).chain(self.proposals.drain(..)).collect()
    }

    /// There is no leader: some may wait, the others are given back.
    pub(super) fn keep_for_later(&mut self, mut proposals: Vec<Proposal>) -> Vec<Proposal> {
        let room = MAX_BACKLOG.saturating_sub(self.backlog.len());
        let over = proposals.split_off(proposals.len().min(room));
        self.backlog.extend(proposals);
        over
    }

    /// Who has waited too long hears of it.
    pub(super) fn expire(&mut self, scene: &mut Scene<'_>) {
        for ticket in self.pending.expire(scene.now) {
            scene.out.push(Out::Answer(ticket, Err(StoreError::Timeout)));
        }
        while let Some(late) = self.backlog.pop_front_if(|waiting| waiting.deadline <= scene.now) {
            scene.out.push(Out::Answer(late.ticket, Err(StoreError::Timeout)));
        }
    }

    /// Everybody who waits for anything.
    pub(super) fn take_tickets(&mut self) -> Vec<Ticket> {
        let mut tickets: Vec<Ticket> = self.proposals.drain(..).map(|p| p.ticket).collect();
        tickets.extend(self.backlog.drain(..).map(|p| p.ticket));
        tickets.append(&mut self.pending.take_all());
        tickets.append(&mut self.reads.take_all());
        tickets
    }

    /// Asks for the end of leases whose time is up.
    pub(super) fn end_leases(&mut self, scene: &mut Scene<'_>) {
        for lease in self.leases.tick(scene.clock(), REVOKE_BATCH) {
            scene.trace.say(scene.now, format_args!("{}: lease {lease} has ended", self.member));
            let revoke = Command::LeaseRevoke { id: lease };
            self.submit(Ticket::Expiry(lease), replica::Request::Own(revoke), Some(self.standing.term), scene.now);
        }
    }

    /// All leases have their whole time again.
    pub(super) fn restart_leases(&mut self, clock: Duration) {
        self.leases = LeaseTimes::default();
        let all: Vec<_> = self.machine.kv.leases().collect();
        for (id, ttl) in all {
            self.leases.start(id, seconds(ttl), clock);
        }
    }
}
