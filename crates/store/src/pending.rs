//! Who waits for what: proposals by their numbers, reads by the index that must be applied first.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use replica::Answer;
use store_api::StoreError;
use tokio::sync::oneshot;

use crate::inbox::Read;

/// One group's callers.
#[derive(Default)]
pub struct Pending {
    proposals: Mutex<Proposals>,
    reads: Mutex<Reads>,
}

#[derive(Default)]
struct Proposals {
    waiting: HashMap<u64, Waiting>,
    /// In the order of their deadlines, nearly, with numbers that may be answered already.
    deadlines: VecDeque<(Duration, u64)>,
}

struct Waiting {
    answer: oneshot::Sender<Answer>,
    /// The term in which it was proposed.
    term: u64,
}

#[derive(Default)]
struct Reads {
    /// The question that is under way, when it was asked, and who waits for its answer.
    asked: Option<(u64, Duration, Vec<Read>)>,
    /// Those of the next question.
    next: Vec<Read>,
    /// The index is known and not applied yet.
    confirmed: Vec<(u64, Vec<Read>)>,
}

impl Pending {
    /// Notes proposals that go into the log together, each with its deadline.
    pub fn register(&self, proposals: impl Iterator<Item = (u64, Duration, oneshot::Sender<Answer>)>, term: u64) {
        let mut inner = self.proposals.lock();
        for (id, deadline, answer) in proposals {
            inner.waiting.insert(id, Waiting { answer, term });
            inner.deadlines.push_back((deadline, id));
        }
    }

    /// Takes a proposal back that did not go into the log.
    pub fn withdraw(&self, id: u64) -> Option<oneshot::Sender<Answer>> {
        Some(self.proposals.lock().waiting.remove(&id)?.answer)
    }

    /// Answers proposals, where they are this member's.
    pub fn answer(&self, answers: Vec<(u64, Answer)>) {
        let mut inner = self.proposals.lock();
        let found = |(id, answer)| Some((inner.waiting.remove(&id)?.answer, answer));
        let found: Vec<_> = answers.into_iter().filter_map(found).collect();
        if inner.waiting.is_empty() {
            inner.deadlines.clear();
        }
        drop(inner);
        for (sender, answer) in found {
            // A caller that has gone away does not hear that its write was done.
            drop(sender.send(answer));
        }
    }

    /// An entry of `term` is applied: what was proposed in an earlier one and is not answered by now was lost with its
    /// leader, or is still on its way to nobody.
    pub fn term_applied(&self, term: u64) {
        self.fail(|waiting| waiting.term < term, &StoreError::LeaderChanged);
    }

    /// Fails what nobody will answer any more.
    pub fn fail_all(&self, error: &StoreError) {
        self.fail(|_| true, error);
        let mut reads = self.reads.lock();
        let asked = reads.asked.take().map(|(_, _, reads)| reads).unwrap_or_default();
        let confirmed = reads.confirmed.drain(..).flat_map(|(_, reads)| reads).collect::<Vec<_>>();
        let all: Vec<_> = asked.into_iter().chain(reads.next.drain(..)).chain(confirmed).collect();
        drop(reads);
        all.into_iter().for_each(|read| drop(read.send(Err(error.clone()))));
    }

    fn fail(&self, which: impl Fn(&Waiting) -> bool, error: &StoreError) {
        let mut inner = self.proposals.lock();
        let failed: Vec<_> = inner.waiting.extract_if(|_, w| which(w)).collect();
        drop(inner);
        failed.into_iter().for_each(|(_, w)| drop(w.answer.send(Err(error.clone()))));
    }

    /// Fails what has waited for too long. Returns whether anything waits on.
    pub fn expire(&self, now: Duration) -> bool {
        let mut inner = self.proposals.lock();
        let mut late = Vec::new();
        while let Some((_, id)) = inner.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            late.extend(inner.waiting.remove(&id));
        }
        let waiting = !inner.waiting.is_empty();
        drop(inner);
        late.into_iter().for_each(|w| drop(w.answer.send(Err(StoreError::Timeout))));
        waiting
    }

    pub fn waits(&self) -> bool {
        !self.proposals.lock().waiting.is_empty()
    }

    /// A read waits for the next question.
    pub fn read(&self, read: Read) {
        self.reads.lock().next.push(read);
    }

    /// Whether a question should be asked now; it gets the number `context`. One that is not answered after `patience`
    /// was lost, and is asked again.
    pub fn ask(&self, context: u64, now: Duration, patience: Duration) -> bool {
        let mut reads = self.reads.lock();
        reads.next.retain(|read| !read.is_closed());
        match &mut reads.asked {
            Some((_, at, _)) if *at + patience > now => return false,
            Some((_, _, waiting)) => {
                let mut again = std::mem::take(waiting);
                again.retain(|read| !read.is_closed());
                reads.next.append(&mut again);
                reads.asked = None;
            }
            None => {}
        }
        if reads.next.is_empty() {
            return false;
        }
        reads.asked = Some((context, now, std::mem::take(&mut reads.next)));
        true
    }

    /// Whether reads wait for an answer from the others.
    pub fn asks(&self) -> bool {
        let reads = self.reads.lock();
        reads.asked.is_some() || !reads.next.is_empty()
    }

    /// The others say: what was asked may be read at `index`. `applied` is where the state is.
    pub fn confirm(&self, context: u64, index: u64, applied: &AtomicU64) {
        let mut reads = self.reads.lock();
        let Some((_, _, waiting)) = reads.asked.take_if(|(asked, _, _)| *asked == context) else { return };
        self.wait(reads, index, applied, waiting);
    }

    /// A read may be served at `index`. `applied` is where the state is.
    pub fn wait_for(&self, index: u64, applied: &AtomicU64, read: Read) {
        self.wait(self.reads.lock(), index, applied, vec![read]);
    }

    /// The state's place is read under the lock that [`Pending::applied`] takes after it has moved: whoever waits for it
    /// is seen there, or has seen it here.
    fn wait(&self, mut reads: MutexGuard<'_, Reads>, index: u64, applied: &AtomicU64, waiting: Vec<Read>) {
        if index > applied.load(Ordering::Acquire) {
            reads.confirmed.push((index, waiting));
            return;
        }
        drop(reads);
        waiting.into_iter().for_each(|read| drop(read.send(Ok(()))));
    }

    /// The state has reached `index`.
    pub fn applied(&self, index: u64) {
        let mut reads = self.reads.lock();
        if reads.confirmed.is_empty() {
            return;
        }
        let ready: Vec<_> = reads.confirmed.extract_if(.., |(needed, _)| *needed <= index).collect();
        drop(reads);
        ready.into_iter().flat_map(|(_, reads)| reads).for_each(|read| drop(read.send(Ok(()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test]
    async fn proposals_are_answered_expire_or_fail_with_their_term() {
        let pending = Pending::default();
        let register = |id, term, deadline| {
            let (sender, receiver) = oneshot::channel();
            pending.register([(id, secs(deadline), sender)].into_iter(), term);
            receiver
        };
        let (a, b, c) = (register(1, 1, 5), register(2, 2, 6), register(3, 2, 9));
        pending.term_applied(2);
        assert_eq!(a.await.unwrap(), Err(StoreError::LeaderChanged));
        assert!(pending.expire(secs(7)));
        assert_eq!(b.await.unwrap(), Err(StoreError::Timeout));
        pending.answer(vec![(3, Ok(replica::Response::Alarms(vec![]))), (99, Err(StoreError::Stopped))]);
        assert_eq!(c.await.unwrap(), Ok(replica::Response::Alarms(vec![])));
        assert!(!pending.waits());
    }

    #[tokio::test]
    async fn a_read_waits_for_the_answer_and_then_for_the_state() {
        let pending = Pending::default();
        let (sender, receiver) = oneshot::channel();
        pending.read(sender);
        assert!(pending.ask(1, secs(1), secs(1)));
        assert!(!pending.ask(2, secs(1), secs(1)), "one question at a time");
        assert!(pending.ask(3, secs(2), secs(1)), "it was lost");
        let state = AtomicU64::new(9);
        pending.confirm(1, 5, &state);
        assert!(pending.asks(), "the answer to the lost one comes too late");
        pending.confirm(3, 10, &state);
        assert!(!pending.asks());
        pending.applied(9);
        pending.applied(10);
        assert_eq!(receiver.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_read_whose_index_is_known_waits_for_the_state_alone() {
        let (pending, state) = (Pending::default(), AtomicU64::new(9));
        let read = |index| {
            let (sender, receiver) = oneshot::channel();
            pending.wait_for(index, &state, sender);
            receiver
        };
        let (mut at_once, mut later) = (read(9), read(10));
        assert_eq!(at_once.try_recv(), Ok(Ok(())));
        assert!(later.try_recv().is_err());
        pending.applied(10);
        assert_eq!(later.try_recv(), Ok(Ok(())));
        assert!(!pending.asks());
    }
}
