//! Carries out the plan of a move: which step comes next, by what both groups say and what was answered to the last one.
//!
//! Knows no clock, no task and no network: whoever drives it does what it says and comes back with the answer. It asks the
//! groups where they stand before its first step, so another mover can go on where one has ended, and one that was given
//! up can do no harm.

use std::ops::Deref;

use bytes::Bytes;
use store_api::{LeaseId, RangeRequest, StoreError, prefix_end};

use super::{Claim, Plan, Step, Stepped, Ticket, late, least};
use crate::{GroupId, Machine};

/// Keys of one portion, and about how many bytes.
const PORTION_KEYS: i64 = 512;
const PORTION_BYTES: usize = 512 * 1024;

/// What is to be done before [`Mover::next`] is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait until this member's state of the group is the last word.
    Settle(GroupId),
    /// End the leases that the group knows and group 0 does not: one that has ended meanwhile takes its keys along before
    /// anybody sees them.
    EndOrphans(GroupId),
    /// Have the group take a step; the answer is handed to [`Mover::next`].
    Step(GroupId, Step),
    /// The shard has moved, and nothing is left of it where it was.
    Over,
}

/// One try at a plan. Where anything fails, it is dropped and another one begins.
pub struct Mover {
    prefix: Bytes,
    plan: Plan,
    asked: Asked,
}

/// What was said last.
enum Asked {
    Nothing,
    SettleSource,
    SettleTarget,
    Freeze,
    Receive(Ticket),
    SweepTarget(Ticket),
    /// The next portion: its number, and where it begins, unless there was none left.
    Keys(Ticket, u64, Option<Bytes>),
    Release(Ticket),
    EndOrphans(Ticket),
    Open,
    Route,
    SettleSwept,
    SweepSource(Ticket),
    Done,
}

impl Mover {
    pub fn new(prefix: Bytes, plan: Plan) -> Self {
        Mover { prefix, plan, asked: Asked::Nothing }
    }

    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What comes next. `machine` gives a group's state on this member, for a moment.
    pub fn next<M: Deref<Target = Machine>>(
        &mut self,
        answer: Option<Stepped>,
        machine: impl Fn(GroupId) -> M,
    ) -> Result<Next, StoreError> {
        let Plan { from, to, .. } = self.plan;
        let (asked, next) = match std::mem::replace(&mut self.asked, Asked::Nothing) {
            Asked::Nothing if self.plan.routed => (Asked::SettleSwept, Next::Settle(from)),
            Asked::Nothing => (Asked::SettleSource, Next::Settle(from)),
            Asked::SettleSource => (Asked::SettleTarget, Next::Settle(to)),
            Asked::SettleTarget => self.begin(&machine),
            Asked::Freeze => {
                let Some(Stepped::Frozen(ticket, revision)) = answer else { return Err(strange(answer.as_ref())) };
                (Asked::Receive(ticket), Next::Step(to, Step::Receive(ticket, revision)))
            }
            // What an attempt before has left.
            Asked::Receive(ticket) => (Asked::SweepTarget(ticket), Next::Step(to, Step::Sweep(ticket))),
            Asked::SweepTarget(ticket) => match answer {
                Some(Stepped::Swept(true)) => (Asked::SweepTarget(ticket), Next::Step(to, Step::Sweep(ticket))),
                _ => self.portion(&machine(from), ticket, 0, least(&self.prefix))?,
            },
            Asked::Keys(ticket, number, Some(first)) => self.portion(&machine(from), ticket, number, first)?,
            Asked::Keys(ticket, _, None) => (Asked::Release(ticket), Next::Step(from, Step::Release(ticket, to))),
            Asked::Release(ticket) => (Asked::EndOrphans(ticket), Next::EndOrphans(to)),
            Asked::EndOrphans(ticket) => {
                // The source has released the shard: whatever anybody has read of it there is not after this.
                let floor = machine(from).kv.revision();
                (Asked::Open, Next::Step(to, Step::Open(ticket, floor)))
            }
            Asked::Open => self.route(),
            Asked::Route => (Asked::SettleSwept, Next::Settle(from)),
            Asked::SettleSwept => {
                let ticket = machine(from).shards.held(&self.prefix).ticket;
                (Asked::SweepSource(ticket), Next::Step(from, Step::Sweep(ticket)))
            }
            Asked::SweepSource(ticket) if answer == Some(Stepped::Swept(true)) => {
                (Asked::SweepSource(ticket), Next::Step(from, Step::Sweep(ticket)))
            }
            Asked::SweepSource(_) => (Asked::Done, Next::Step(0, Step::Done { plan: self.plan.id })),
            Asked::Done => (Asked::Done, Next::Over),
        };
        self.asked = asked;
        Ok(next)
    }

    /// Both groups' states are the last word: goes on where the attempt before has ended.
    fn begin<M: Deref<Target = Machine>>(&self, machine: &impl Fn(GroupId) -> M) -> (Asked, Next) {
        let Plan { id, from, to, .. } = self.plan;
        let (there, here) = (machine(to).shards.held(&self.prefix), machine(from).shards.held(&self.prefix));
        if matches!(there.claim, Claim::Here { .. }) && there.ticket.plan == id {
            return self.route();
        }
        match here.claim {
            Claim::There(_) if here.ticket.plan == id => (Asked::EndOrphans(here.ticket), Next::EndOrphans(to)),
            _ => (Asked::Freeze, Next::Step(from, Step::Freeze { plan: id })),
        }
    }

    fn route(&self) -> (Asked, Next) {
        (Asked::Route, Next::Step(0, Step::Route { plan: self.plan.id }))
    }

    /// Reads some of the frozen keys.
    fn portion(
        &self,
        source: &Machine,
        ticket: Ticket,
        number: u64,
        first: Bytes,
    ) -> Result<(Asked, Next), StoreError> {
        let held = source.shards.held(&self.prefix);
        if held.ticket != ticket || !matches!(held.claim, Claim::Leaving { .. }) {
            return Err(late(&self.prefix));
        }
        let range_end = prefix_end(&self.prefix);
        let range = RangeRequest { key: first, range_end, limit: PORTION_KEYS, ..Default::default() };
        let mut found = source.kv.range(range)?;
        let mut bytes = 0;
        let fits = found.kvs.iter().take_while(|kv| {
            let room = bytes < PORTION_BYTES;
            bytes += kv.key.len() + kv.value.len();
            room
        });
        let count = fits.count();
        let more = found.more || count < found.kvs.len();
        found.kvs.truncate(count);
        let mut ids: Vec<LeaseId> = found.kvs.iter().map(|kv| kv.lease).filter(|id| *id != 0).collect();
        ids.sort_unstable();
        ids.dedup();
        if self.plan.to == 0 {
            // Group 0 knows better which leases there are.
            ids.clear();
        }
        let leases = ids.into_iter().filter_map(|id| Some((id, source.kv.lease_ttl(id)?))).collect();
        let next = found.kvs.last().filter(|_| more).map(|kv| [kv.key.as_ref(), &[0]].concat().into());
        let step = Step::Keys(ticket, number, leases, found.kvs);
        Ok((Asked::Keys(ticket, number + 1, next), Next::Step(self.plan.to, step)))
    }
}

fn strange(answer: Option<&Stepped>) -> StoreError {
    StoreError::Unavailable(format!("the step of a move was answered with {answer:?}"))
}
