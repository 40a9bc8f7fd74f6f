//! The proposing half of a turn: what clients and the member itself ask for becomes entries, and reads become questions.

use super::*;

impl Running {
    pub(super) fn change(&mut self, change: &MemberChange, ticket: Ticket, scene: &mut Scene<'_>) {
        let id = self.id();
        let (raft, context) = change.to_raft(id);
        let term = self.core.group(0).raft.brief().2;
        self.parts[0].pending.register(id, ticket, term, scene.now + REQUEST_LIMIT);
        if let Err(error) = self.core.group(0).raft.propose_change(&raft, context)
            && let Some(ticket) = self.parts[0].pending.withdraw(id)
        {
            scene.out.push(Out::Answer(ticket, Err(dropped(error))));
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn propose(&mut self, group: GroupId, scene: &mut Scene<'_>) {
        let mut proposals = self.part(group).take_proposals();
        if proposals.is_empty() || !self.make_room(&mut proposals, scene) {
            return;
        }
        let deadline = scene.now + REQUEST_LIMIT;
        let (role, leader, term, ..) = self.core.group(group).raft.brief();
        let misplaced = |p: &mut Proposal| p.in_term.is_some_and(|wanted| role != Role::Leader || wanted != term);
        refuse(proposals.extract_if(.., misplaced).collect(), &StoreError::NotLeader, scene);
        if leader == 0 {
            let over = self.part(group).keep_for_later(proposals, deadline);
            return refuse(over, &StoreError::TooManyRequests, scene);
        }
        let (mut batch, mut tickets) = (Batch::default(), Vec::new());
        for proposal in proposals {
            if batch.len() + proposal.request.len() > MAX_ENTRY_BYTES && !batch.is_empty() {
                self.propose_batch(group, &mut batch, &mut tickets, term, deadline, scene);
            }
            let id = self.id();
            batch.push(id, &proposal.request);
            tickets.push((id, proposal.ticket));
        }
        self.propose_batch(group, &mut batch, &mut tickets, term, deadline, scene);
    }

    fn propose_batch(
        &mut self,
        group: GroupId,
        batch: &mut Batch,
        tickets: &mut Vec<(u64, Ticket)>,
        term: u64,
        deadline: Micros,
        scene: &mut Scene<'_>,
    ) {
        let ids: Vec<u64> = tickets.iter().map(|(id, _)| *id).collect();
        let pending = &mut self.parts[group as usize].pending;
        tickets.drain(..).for_each(|(id, ticket)| pending.register(id, ticket, term, deadline));
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
