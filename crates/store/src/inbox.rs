//! Everything on its way to the writer: proposals, messages from peers, questions.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use consensus::MessageType;
use parking_lot::{Condvar, Mutex};
use replica::{Answer, Base, GroupId, MemberChange, Message};
use store_api::StoreError;
use tokio::sync::oneshot;

/// Proposals that wait at most.
const MAX_PENDING: usize = 16 * 1024;
/// Bytes of proposals that wait at most.
const MAX_PENDING_BYTES: usize = 64 << 20;
/// Messages from peers that wait at most; Raft sends again what is dropped.
const MAX_MESSAGES: usize = 64 * 1024;
/// Reads that wait at most.
const MAX_READS: usize = 64 * 1024;

pub struct Proposal {
    pub group: GroupId,
    pub request: Bytes,
    /// It may use what the log holds back for such requests.
    pub frees_space: bool,
    /// Only if this member leads in this term: not passed on to another leader.
    pub in_term: Option<u64>,
    pub answer: oneshot::Sender<Answer>,
    /// When its caller is told that it took too long.
    pub deadline: Duration,
    /// The request's span, so that the fsync which carried it can be found from it.
    pub span: tracing::Span,
}

/// A linearizable read that waits for its turn.
pub type Read = oneshot::Sender<Result<(), StoreError>>;

/// What is rarer than a proposal.
pub enum Input {
    Message(GroupId, Message),
    Read(GroupId, Read),
    Change(GroupId, MemberChange, oneshot::Sender<Answer>),
    /// How far everybody is in a group, as this member knows it.
    Progress(GroupId, oneshot::Sender<consensus::Status>),
    Transfer(u64),
    /// So many ticks pass at once, unless there is a leader.
    Advance(u32),
    Unreachable(u64),
    /// A peer has closed its connection: its process has ended, most likely.
    Gone(u64),
    SnapshotSent {
        group: GroupId,
        peer: u64,
        ok: bool,
    },
    /// A snapshot is on disk, and how many bytes it has; or none could be written.
    SnapshotWritten(Option<(GroupId, Base, u64)>),
}

impl Input {
    pub fn message(&self) -> Option<&Message> {
        if let Input::Message(_, message) = self { Some(message) } else { None }
    }

    /// A follower passes proposals on.
    pub fn is_proposal(&self) -> bool {
        self.message().is_some_and(|message| message.get_msg_type() == MessageType::MsgPropose)
    }

    /// The group that a message is for.
    pub fn group(&self) -> Option<GroupId> {
        if let Input::Message(group, _) = self { Some(*group) } else { None }
    }
}

#[derive(Default)]
pub struct Inbox {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inner {
    proposals: VecDeque<Proposal>,
    bytes: usize,
    inputs: Vec<Input>,
    messages: usize,
    reads: usize,
    /// The writer sleeps and must be woken.
    sleeping: bool,
    closed: bool,
}

/// What the writer takes at once.
#[derive(Default)]
pub struct Taken {
    pub proposals: Vec<Proposal>,
    pub inputs: Vec<Input>,
}

impl Inbox {
    /// Hands a proposal to the writer.
    pub fn propose(&self, proposal: Proposal) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(StoreError::Stopped);
        }
        if inner.proposals.len() >= MAX_PENDING || inner.bytes + proposal.request.len() > MAX_PENDING_BYTES {
            return Err(StoreError::TooManyRequests);
        }
        inner.bytes += proposal.request.len();
        inner.proposals.push_back(proposal);
        self.wake(&mut inner);
        Ok(())
    }

    /// Hands anything else to the writer.
    pub fn push(&self, input: Input) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(StoreError::Stopped);
        }
        match &input {
            Input::Message(..) if inner.messages >= MAX_MESSAGES => return Err(StoreError::TooManyRequests),
            Input::Read(..) if inner.reads >= MAX_READS => return Err(StoreError::TooManyRequests),
            Input::Message(..) => inner.messages += 1,
            Input::Read(..) => inner.reads += 1,
            _ => {}
        }
        inner.inputs.push(input);
        self.wake(&mut inner);
        Ok(())
    }

    /// Waits for something and takes it: at most `count` proposals of about `bytes`. Takes nothing after `patience`;
    /// `false` when the inbox is closed and empty.
    pub fn take(&self, into: &mut Taken, count: usize, bytes: usize, patience: Option<Duration>) -> bool {
        let mut inner = self.inner.lock();
        while inner.is_empty() {
            if inner.closed {
                return false;
            }
            inner.sleeping = true;
            match patience {
                None => self.arrived.wait(&mut inner),
                Some(patience) => {
                    if self.arrived.wait_for(&mut inner, patience).timed_out() {
                        inner.sleeping = false;
                        return true;
                    }
                }
            }
        }
        inner.sleeping = false;
        inner.drain(into, count, bytes);
        into.inputs.append(&mut inner.inputs);
        (inner.messages, inner.reads) = (0, 0);
        true
    }

    /// Takes proposals that have come since.
    pub fn take_more(&self, into: &mut Taken, count: usize, bytes: usize) {
        self.inner.lock().drain(into, count, bytes);
    }

    /// Takes no more; what waits is still done.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        self.wake(&mut inner);
    }

    /// Drops what waits: nobody will do it. Their callers hear that the answer is lost.
    pub fn abandon(&self) {
        self.close();
        let mut inner = self.inner.lock();
        let dropped = (std::mem::take(&mut inner.proposals), std::mem::take(&mut inner.inputs));
        drop(inner);
        drop(dropped);
    }

    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    pub fn is_empty(&self) -> bool {
        self.inner.lock().is_empty()
    }

    /// Proposals that wait.
    pub fn len(&self) -> usize {
        self.inner.lock().proposals.len()
    }

    fn wake(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.sleeping) {
            self.arrived.notify_one();
        }
    }
}

impl Inner {
    fn is_empty(&self) -> bool {
        self.proposals.is_empty() && self.inputs.is_empty()
    }

    fn drain(&mut self, into: &mut Taken, count: usize, bytes: usize) {
        let mut taken = 0;
        while into.proposals.len() < count && taken < bytes {
            let Some(proposal) = self.proposals.pop_front() else { break };
            taken += proposal.request.len();
            into.proposals.push(proposal);
        }
        self.bytes -= taken;
    }
}
