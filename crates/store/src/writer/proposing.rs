//! Proposals on their way to the log: what there is room for, in batches, group by group; and what the others are told.

use std::{sync::atomic::Ordering, time::Duration};

use replica::{Batch, Consensus, Dropped, GroupId, Role, entry_bytes};
use store_api::StoreError;
use wal::CommitError;

use super::{MAX_BACKLOG, MAX_ENTRY_BYTES, Writer, span::FsyncSpan};
use crate::{
    applier::broken,
    inbox::{Input, Proposal, Taken},
};

impl Writer {
    /// Puts proposals to the log, group by group, in the order in which they came.
    pub(super) fn propose(&mut self, proposals: &mut Vec<Proposal>) {
        if !self.backlog.is_empty() {
            let mut all: Vec<Proposal> = self.backlog.drain(..).collect();
            all.append(proposals);
            *proposals = all;
        }
        if proposals.is_empty() {
            return;
        }
        self.make_room(proposals);
        let spans = FsyncSpan::of(proposals);
        for group in 0..self.shared.groups.len() as GroupId {
            let mut own: Vec<Proposal> = proposals.extract_if(.., |p| p.group == group).collect();
            if !own.is_empty() {
                self.propose_to(group, &mut own);
            }
        }
        self.turn_in(spans);
    }

    /// Refuses what a full disk or the quota has no room for.
    fn make_room(&mut self, proposals: &mut Vec<Proposal>) {
        if !proposals.iter().all(|p| p.frees_space) {
            let used = self.shared.used_bytes();
            if used > self.shared.quota_bytes {
                let limit = self.shared.quota_bytes;
                let text = format!("{used} bytes are in use, the quota is {limit}; compact, or delete and compact");
                self.refuse_growth(proposals, &StoreError::NoSpace(text));
                self.shared.over_quota.notify_one();
            }
        }
        let bytes: u64 = proposals.iter().map(|p| entry_bytes(p.request.len())).sum();
        let frees_space = proposals.iter().all(|p| p.frees_space);
        match self.core.prepare(bytes, frees_space) {
            Ok(()) => {
                if !frees_space && self.shared.full.swap(false, Ordering::AcqRel) {
                    tracing::info!("there is room again");
                }
            }
            Err(CommitError::Broken(why)) => {
                self.fail(why);
                let why = broken(self.shared.broken.lock().clone().unwrap_or_default());
                self.refuse(proposals.drain(..), &why);
            }
            Err(CommitError::Refused(error)) => {
                // What gives space back may use what the log holds back for it.
                if !self.shared.full.swap(true, Ordering::AcqRel) {
                    tracing::warn!(%error, "writes are refused until there is room");
                }
                self.refuse_growth(proposals, &error);
                let bytes: u64 = proposals.iter().map(|p| entry_bytes(p.request.len())).sum();
                if let Err(CommitError::Refused(error)) = self.core.prepare(bytes, true) {
                    self.refuse(proposals.drain(..), &error);
                }
            }
        }
    }

    fn propose_to(&mut self, group: GroupId, proposals: &mut Vec<Proposal>) {
        let (role, leader, term, ..) = self.core.group(group).raft.brief();
        let misplaced = |p: &mut Proposal| p.in_term.is_some_and(|wanted| role != Role::Leader || wanted != term);
        self.refuse(proposals.extract_if(.., misplaced), &StoreError::NotLeader);
        if leader == 0 {
            let room = MAX_BACKLOG.saturating_sub(self.backlog.len());
            let over = proposals.split_off(proposals.len().min(room));
            self.backlog.extend(proposals.drain(..));
            return self.refuse(over.into_iter(), &StoreError::TooManyRequests);
        }
        let mut batch = Batch::default();
        let mut registered = Vec::new();
        for proposal in proposals.drain(..) {
            if batch.len() + proposal.request.len() > MAX_ENTRY_BYTES && !batch.is_empty() {
                self.propose_batch(group, &mut batch, &mut registered, term);
            }
            let id = self.id();
            batch.push(id, &proposal.request);
            registered.push((id, proposal.deadline, proposal.answer));
        }
        self.propose_batch(group, &mut batch, &mut registered, term);
    }

    fn propose_batch(
        &mut self,
        group: GroupId,
        batch: &mut Batch,
        registered: &mut Vec<(u64, Duration, tokio::sync::oneshot::Sender<replica::Answer>)>,
        term: u64,
    ) {
        let ids: Vec<u64> = registered.iter().map(|(id, ..)| *id).collect();
        let pending = &self.shared.group(group).pending;
        pending.register(registered.drain(..), term);
        if let Err(error) = self.core.group(group).raft.propose(batch.take()) {
            let error = match error {
                Dropped::NoLeader => StoreError::NoLeader,
                Dropped::Misfit(text) => StoreError::Unavailable(text),
            };
            ids.into_iter().filter_map(|id| pending.withdraw(id)).for_each(|a| drop(a.send(Err(error.clone()))));
        }
    }

    pub(super) fn refuse(&self, proposals: impl Iterator<Item = Proposal>, error: &StoreError) {
        for proposal in proposals {
            self.shared.metrics.failed.inc();
            drop(proposal.answer.send(Err(error.clone())));
        }
    }

    fn refuse_growth(&self, proposals: &mut Vec<Proposal>, error: &StoreError) {
        let growth = proposals.extract_if(.., |p| !p.frees_space);
        self.refuse(growth, error);
    }

    pub(super) fn refuse_all(&mut self, taken: &mut Taken) {
        let why = broken(self.shared.broken.lock().clone().unwrap_or_default());
        self.refuse(taken.proposals.drain(..), &why);
        for input in taken.inputs.drain(..) {
            match input {
                // What is applied is on disk; it can still be read where nobody else has to be asked.
                Input::Read(_, read) if self.core.is_lone() => drop(read.send(Ok(()))),
                Input::Read(_, read) => drop(read.send(Err(why.clone()))),
                Input::Change(_, _, answer) => drop(answer.send(Err(why.clone()))),
                _ => {}
            }
        }
        self.shared.groups.iter().for_each(|g| g.pending.fail_all(&why));
    }
}
