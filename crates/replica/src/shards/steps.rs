//! The steps of a move, as a group takes them. A step that does not fit changes nothing.

use bytes::Bytes;
use mvcc::State;
use store_api::{KeyValue, LeaseId, StoreError, prefix_end};

use super::{Claim, Held, MAX_PREFIXES, Plan, ShardStep, Shards, Step, Stepped, Ticket, invalid, late, least, text};
use crate::GroupId;

/// Keys that are deleted at once: others wait for no more.
const SWEEP_KEYS: usize = 512;

/// What others have to be told of a step.
#[derive(Debug, Default)]
pub struct Told {
    /// Leases that came with keys.
    pub leases: Vec<(LeaseId, i64)>,
    /// A shard is served no more.
    pub released: Option<Bytes>,
}

impl Shards {
    /// Takes a step; `index` is its place in the group's log.
    pub fn step(
        &mut self,
        step: ShardStep,
        kv: &mut State,
        index: u64,
        told: &mut Told,
    ) -> Result<Stepped, StoreError> {
        let ShardStep { prefix, step } = step;
        match step {
            Step::Plan { to } => self.plan(prefix, to, index),
            Step::Route { plan } => self.route_to(&prefix, plan),
            Step::Done { plan } => self.done(&prefix, plan),
            Step::Freeze { plan } => {
                let ticket = Ticket { plan, attempt: index };
                self.freeze(prefix, ticket)?;
                Ok(Stepped::Frozen(ticket, kv.revision()))
            }
            Step::Release(ticket, to) => {
                self.release(&prefix, ticket, to)?;
                told.released = Some(prefix);
                Ok(Stepped::At(kv.revision()))
            }
            Step::Sweep(ticket) => {
                let held = *self.own(&prefix, ticket)?;
                // A part that has come since has keys of its own: the shard was swept before it could begin to come.
                let divided = self.under(&prefix).len() > 1;
                if divided || !matches!(held.claim, Claim::There(_) | Claim::Coming { next: 0 }) {
                    return Err(late(&prefix));
                }
                Ok(Stepped::Swept(kv.abandon(&least(&prefix), &prefix_end(&prefix), SWEEP_KEYS)))
            }
            Step::Receive(ticket, floor) => {
                self.receive(prefix, ticket)?;
                kv.raise(floor);
                Ok(Stepped::At(kv.revision()))
            }
            Step::Keys(ticket, number, leases, mut keys) => {
                self.portion(&prefix, ticket, number, &keys)?;
                for (id, ttl) in leases {
                    if kv.adopt_lease(id, ttl)? {
                        told.leases.push((id, ttl));
                    }
                }
                keys.retain(|key| key.lease == 0 || kv.lease_ttl(key.lease).is_some());
                kv.adopt(&keys);
                Ok(Stepped::At(kv.revision()))
            }
            Step::Open(ticket, floor) => {
                if !matches!(self.own(&prefix, ticket)?.claim, Claim::Coming { .. }) {
                    return Err(late(&prefix));
                }
                // A revision of its own: whoever has seen it has seen all that came.
                kv.raise(kv.revision().max(floor) + 1);
                self.own(&prefix, ticket)?.claim = Claim::Here { since: kv.revision() };
                Ok(Stepped::At(kv.revision()))
            }
        }
    }

    fn plan(&mut self, prefix: Bytes, to: GroupId, index: u64) -> Result<Stepped, StoreError> {
        if let Some((other, plan)) = self.plans.iter().find(|(p, _)| p.starts_with(&prefix) || prefix.starts_with(p)) {
            if *other == prefix && plan.to == to {
                return Ok(Stepped::Map(self.list(), Some(plan.id)));
            }
            if plan.routed {
                // It has moved, and what it has left behind is still swept up: that is soon over.
                return Err(StoreError::ShardMoving(text(other)));
            }
            return Err(invalid(format!("the shard of {:?} is on its way to group {}", text(other), plan.to)));
        }
        let from = *self.map.of(&prefix).1;
        let within = self.map.iter().find(|(p, group)| p.starts_with(&prefix) && **p != prefix && **group != from);
        if let Some((inner, group)) = within {
            let inner = text(inner);
            return Err(invalid(format!(
                "the shard of {inner:?} lies within and is kept by group {group}: move it first"
            )));
        }
        if from == to {
            return Ok(Stepped::Map(self.list(), None));
        }
        if self.map.len() + self.plans.len() >= MAX_PREFIXES {
            return Err(invalid(format!("there are {} shards; more are not possible", self.map.len())));
        }
        self.plans.insert(prefix, Plan { id: index, from, to, routed: false });
        Ok(Stepped::Map(self.list(), Some(index)))
    }

    fn route_to(&mut self, prefix: &Bytes, id: u64) -> Result<Stepped, StoreError> {
        let plan = self.plans.get_mut(prefix).filter(|plan| plan.id == id).ok_or_else(|| late(prefix))?;
        plan.routed = true;
        let to = plan.to;
        self.map.set(prefix.clone(), to);
        if !prefix.is_empty() {
            // Where a shorter prefix says the same, this one need not be told apart.
            self.map.remove(prefix);
            if *self.map.of(prefix).1 != to {
                self.map.insert(prefix.clone(), to);
            }
        }
        Ok(Stepped::Map(self.list(), Some(id)))
    }

    fn done(&mut self, prefix: &Bytes, id: u64) -> Result<Stepped, StoreError> {
        if self.plans.get(prefix).is_none_or(|plan| plan.id != id) {
            return Err(late(prefix));
        }
        self.plans.remove(prefix);
        Ok(Stepped::Map(self.list(), None))
    }

    fn freeze(&mut self, prefix: Bytes, ticket: Ticket) -> Result<(), StoreError> {
        let mut newest = 0;
        for held in self.under(&prefix) {
            newest = match held.claim {
                Claim::Here { since } if held.ticket.plan < ticket.plan => newest.max(since),
                Claim::Leaving { since } if held.ticket.plan == ticket.plan => newest.max(since),
                _ => return Err(late(&prefix)),
            };
        }
        self.hold(prefix, Held { claim: Claim::Leaving { since: newest }, ticket })
    }

    fn release(&mut self, prefix: &Bytes, ticket: Ticket, to: GroupId) -> Result<(), StoreError> {
        let held = self.own(prefix, ticket)?;
        if !matches!(held.claim, Claim::Leaving { .. }) {
            return Err(late(prefix));
        }
        held.claim = Claim::There(to);
        Ok(())
    }

    fn receive(&mut self, prefix: Bytes, ticket: Ticket) -> Result<(), StoreError> {
        let fits = |held: &Held| match held.claim {
            Claim::There(_) => held.ticket.plan < ticket.plan,
            // An attempt that was given up must not take the place of a later one.
            Claim::Coming { .. } => held.ticket < ticket,
            Claim::Here { .. } | Claim::Leaving { .. } => false,
        };
        if !self.under(&prefix).iter().all(fits) {
            return Err(late(&prefix));
        }
        self.hold(prefix, Held { claim: Claim::Coming { next: 0 }, ticket })
    }

    fn portion(&mut self, prefix: &Bytes, ticket: Ticket, n: u64, keys: &[KeyValue]) -> Result<(), StoreError> {
        let held = self.own(prefix, ticket)?;
        if held.claim != (Claim::Coming { next: n }) || keys.iter().any(|kv| !kv.key.starts_with(prefix)) {
            return Err(late(prefix));
        }
        held.claim = Claim::Coming { next: n + 1 };
        Ok(())
    }

    /// All that holds for some keys of the prefix.
    fn under(&self, prefix: &Bytes) -> Vec<Held> {
        self.held.touched(&least(prefix), &prefix_end(prefix)).into_iter().map(|(_, held)| *held).collect()
    }

    fn hold(&mut self, prefix: Bytes, held: Held) -> Result<(), StoreError> {
        if self.held.len() >= MAX_PREFIXES * 2 && self.held.get(&prefix).is_none() {
            return Err(invalid("too many shards were told apart".to_owned()));
        }
        self.held.set(prefix, held);
        Ok(())
    }

    /// The claim that this very attempt has made.
    fn own(&mut self, prefix: &Bytes, ticket: Ticket) -> Result<&mut Held, StoreError> {
        self.held.get_mut(prefix).filter(|held| held.ticket == ticket).ok_or_else(|| late(prefix))
    }
}
