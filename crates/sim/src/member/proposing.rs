//! The proposing half of a turn: what clients and the member itself ask for becomes entries, and reads become questions.

use super::*;

impl Running {
    pub(super) fn change(&mut self, group: GroupId, change: &MemberChange, ticket: Ticket, scene: &mut Scene<'_>) {
        let id = self.id();
        let (raft, context) = change.to_raft(id);
        let term = self.core.group(group).raft.brief().2;
        self.part(group).pending.register(id, ticket, term, scene.now + REQUEST_LIMIT);
        if let Err(error) = self.core.group(group).raft.propose_change(&raft, context)
            && let Some(ticket) = self.part(group).pending.withdraw(id)
        {
            scene.out.push(Out::Answer(ticket, Err(dropped(error))));
        }
    }

    /// Begins to make the members of the groups those of group 0, where it leads one of the two.
    pub fn follow_members(&mut self, scene: &mut Scene<'_>) {
        let home = self.parts[0].standing.leads;
        for group in self.groups().skip(1) {
            let part = &mut self.parts[group as usize];
            if (home || part.standing.leads) && part.follow_at <= scene.now {
                part.follow_at = scene.now + FOLLOW_EVERY;
                part.following = part.machine.members.clone();
                self.settle(0, Ticket::Follow { member: self.id, group }, scene);
            }
        }
    }

    /// Group 0's state is the last word.
    pub fn follow(&mut self, group: GroupId, scene: &mut Scene<'_>) {
        let part = &self.parts[group as usize];
        let Some(next) = part.following.follow(&self.parts[0].machine.members) else { return };
        scene.trace.say(scene.now, format_args!("{}: group {group} follows: {next:?}", self.id));
        let ticket = Ticket::Follow { member: self.id, group };
        match next {
            Follow::Change(change) => self.inbox.push_back(Input::Change(group, change, ticket)),
            Follow::Urls(member, urls) => {
                self.part(group).submit(ticket, replica::Request::PeerUrls { member, urls }, None, scene.now);
            }
        }
    }

    /// Answers when this member's state of a group is the last word.
    pub(super) fn settle(&mut self, group: GroupId, ticket: Ticket, scene: &mut Scene<'_>) {
        if self.part(group).is_last_word() {
            return scene.out.push(Out::Answer(ticket, Ok(Reply::Settled)));
        }
        self.inbox.push_back(Input::Read(group, ticket, ReadKind::Settle));
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn propose(&mut self, group: GroupId, scene: &mut Scene<'_>) {
        let mut proposals = self.part(group).take_proposals();
        if proposals.is_empty() || !self.make_room(&mut proposals, scene) {
            return;
        }
        let (role, leader, term, ..) = self.core.group(group).raft.brief();
        let misplaced = |p: &mut Proposal| p.in_term.is_some_and(|wanted| role != Role::Leader || wanted != term);
        refuse(proposals.extract_if(.., misplaced).collect(), &StoreError::NotLeader, scene);
        if leader == 0 {
            let over = self.part(group).keep_for_later(proposals);
            return refuse(over, &StoreError::TooManyRequests, scene);
        }
        let (mut batch, mut tickets) = (Batch::default(), Vec::new());
        for proposal in proposals {
            if batch.len() + proposal.request.len() > MAX_ENTRY_BYTES && !batch.is_empty() {
                self.propose_batch(group, &mut batch, &mut tickets, term, scene);
            }
            let id = self.id();
            batch.push(id, &proposal.request);
            tickets.push((id, proposal.deadline, proposal.ticket));
        }
        self.propose_batch(group, &mut batch, &mut tickets, term, scene);
    }

    fn propose_batch(
        &mut self,
        group: GroupId,
        batch: &mut Batch,
        tickets: &mut Vec<(u64, Micros, Ticket)>,
        term: u64,
        scene: &mut Scene<'_>,
    ) {
        let ids: Vec<u64> = tickets.iter().map(|(id, ..)| *id).collect();
        let pending = &mut self.parts[group as usize].pending;
        tickets.drain(..).for_each(|(id, deadline, ticket)| pending.register(id, ticket, term, deadline));
        if let Err(error) = self.core.group(group).raft.propose(batch.take()) {
            let error = dropped(error);
            let withdrawn: Vec<Ticket> = ids.into_iter().filter_map(|id| pending.withdraw(id)).collect();
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
    pub(super) fn ask(&mut self, group: GroupId, scene: &mut Scene<'_>) {
        let context = self.next_id + 1;
        if self.part(group).reads.ask(context, scene.now, READ_AGAIN) {
            self.next_id = context;
            self.core.group(group).raft.read_index(context, scene.steady());
        }
        if self.part(group).reads.asks() {
            scene.out.push(Out::Again(scene.now + READ_AGAIN));
        }
    }
}
