//! Who waits for what on one member: proposals by their numbers, reads by the index that must be applied first.

use std::collections::BTreeMap;

use crate::member::{Micros, ReadKind, Ticket};

struct Waiting {
    ticket: Ticket,
    term: u64,
    deadline: Micros,
}

/// Proposals without an answer.
#[derive(Default)]
pub struct Pending(BTreeMap<u64, Waiting>);

impl Pending {
    pub fn register(&mut self, id: u64, ticket: Ticket, term: u64, deadline: Micros) {
        self.0.insert(id, Waiting { ticket, term, deadline });
    }

    /// Ends the waiting for a proposal.
    pub fn withdraw(&mut self, id: u64) -> Option<Ticket> {
        Some(self.0.remove(&id)?.ticket)
    }

    /// An entry of `term` is applied: what was proposed before is answered by now, or lost.
    pub fn term_applied(&mut self, term: u64) -> Vec<Ticket> {
        self.take(|w| w.term < term)
    }

    pub fn expire(&mut self, now: Micros) -> Vec<Ticket> {
        self.take(|w| w.deadline <= now)
    }

    pub fn take_all(&mut self) -> Vec<Ticket> {
        self.take(|_| true)
    }

    fn take(&mut self, which: impl Fn(&Waiting) -> bool) -> Vec<Ticket> {
        self.0.extract_if(.., |_, w| which(w)).map(|(_, w)| w.ticket).collect()
    }
}

type Read = (Ticket, ReadKind);

/// Linearizable reads: those of the next question, of the one under way, and those whose index is not applied yet.
#[derive(Default)]
pub struct Reads {
    asked: Option<(u64, Micros, Vec<Read>)>,
    next: Vec<Read>,
    confirmed: Vec<(u64, Vec<Read>)>,
}

impl Reads {
    pub fn wait(&mut self, ticket: Ticket, kind: ReadKind) {
        self.next.push((ticket, kind));
    }

    /// A read whose index is known.
    pub fn wait_for(&mut self, index: u64, ticket: Ticket, kind: ReadKind) {
        self.confirmed.push((index, vec![(ticket, kind)]));
    }

    /// Whether a question should be asked now, under the number `context`.
    pub fn ask(&mut self, context: u64, now: Micros, patience: Micros) -> bool {
        match self.asked.take() {
            Some(asked) if asked.1 + patience > now => {
                self.asked = Some(asked);
                return false;
            }
            Some((_, _, mut waiting)) => self.next.append(&mut waiting),
            None => {}
        }
        if self.next.is_empty() {
            return false;
        }
        self.asked = Some((context, now, std::mem::take(&mut self.next)));
        true
    }

    pub fn asks(&self) -> bool {
        self.asked.is_some() || !self.next.is_empty()
    }

    /// What was asked may be read at `index`; returns what can be read at once.
    pub fn confirm(&mut self, context: u64, index: u64, applied: u64) -> Vec<Read> {
        let Some((_, _, waiting)) = self.asked.take_if(|(asked, ..)| *asked == context) else { return Vec::new() };
        if index <= applied {
            return waiting;
        }
        self.confirmed.push((index, waiting));
        Vec::new()
    }

    pub fn applied(&mut self, index: u64) -> Vec<Read> {
        self.confirmed.extract_if(.., |(needed, _)| *needed <= index).flat_map(|(_, reads)| reads).collect()
    }

    pub fn take_all(&mut self) -> Vec<Ticket> {
        let asked = self.asked.take().map(|(_, _, reads)| reads).unwrap_or_default();
        let confirmed = self.confirmed.drain(..).flat_map(|(_, reads)| reads);
        asked.into_iter().chain(self.next.drain(..)).chain(confirmed).map(|(ticket, _)| ticket).collect()
    }
}
