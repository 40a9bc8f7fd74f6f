//! Shards and steps as bytes.

use bytes::Bytes;
use mvcc::codec::{DecodeError, Reader, put_bytes, put_i64, put_u64};
use store_api::{KeyValue, LeaseId, Revision};

use super::{Claim, Held, Plan, ShardStep, Shards, Step, Ticket};
use crate::prefixes::Prefixes;

impl ShardStep {
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.prefix);
        match &self.step {
            Step::Plan { to } => numbers(out, 1, &[u64::from(*to)]),
            Step::Route { plan } => numbers(out, 2, &[*plan]),
            Step::Done { plan } => numbers(out, 3, &[*plan]),
            Step::Freeze { plan } => numbers(out, 4, &[*plan]),
            Step::Release(ticket, to) => {
                put_ticket(out, 5, *ticket);
                put_u64(out, u64::from(*to));
            }
            Step::Sweep(ticket) => put_ticket(out, 6, *ticket),
            Step::Receive(ticket, floor) => {
                put_ticket(out, 7, *ticket);
                put_i64(out, *floor);
            }
            Step::Keys(ticket, number, leases, keys) => {
                put_ticket(out, 8, *ticket);
                put_u64(out, *number);
                put_u64(out, leases.len() as u64);
                for (id, ttl) in leases {
                    put_i64(out, *id);
                    put_i64(out, *ttl);
                }
                put_u64(out, keys.len() as u64);
                keys.iter().for_each(|kv| put_key(out, kv));
            }
            Step::Open(ticket, floor) => {
                put_ticket(out, 9, *ticket);
                put_i64(out, *floor);
            }
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let prefix = r.bytes()?;
        let step = match r.u8()? {
            1 => Step::Plan { to: r.u32()? },
            2 => Step::Route { plan: r.u64()? },
            3 => Step::Done { plan: r.u64()? },
            4 => Step::Freeze { plan: r.u64()? },
            5 => Step::Release(ticket(r)?, r.u32()?),
            6 => Step::Sweep(ticket(r)?),
            7 => Step::Receive(ticket(r)?, r.i64()?),
            8 => {
                let (ticket, number) = (ticket(r)?, r.u64()?);
                let leases = (0..r.count()?).map(|_| Ok((r.i64()?, r.i64()?)));
                let leases: Vec<(LeaseId, i64)> = leases.collect::<Result<_, DecodeError>>()?;
                let keys = (0..r.count()?).map(|_| key(r)).collect::<Result<_, _>>()?;
                Step::Keys(ticket, number, leases, keys)
            }
            9 => Step::Open(ticket(r)?, r.i64()?),
            _ => return Err(DecodeError("unknown step")),
        };
        Ok(ShardStep { prefix, step })
    }
}

impl Shards {
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.held.len() as u64);
        for (prefix, held) in self.held.iter() {
            put_bytes(out, prefix);
            let (tag, number) = match held.claim {
                Claim::Here { since } => (1, since.cast_unsigned()),
                Claim::Leaving { since } => (2, since.cast_unsigned()),
                Claim::Coming { next } => (3, next),
                Claim::There(group) => (4, u64::from(group)),
            };
            put_ticket(out, tag, held.ticket);
            put_u64(out, number);
        }
        put_u64(out, self.map.len() as u64);
        for (prefix, group) in self.map.iter() {
            put_bytes(out, prefix);
            put_u64(out, u64::from(*group));
        }
        put_u64(out, self.plans.len() as u64);
        for (prefix, plan) in &self.plans {
            put_bytes(out, prefix);
            numbers(out, u8::from(plan.routed), &[plan.id, u64::from(plan.from), u64::from(plan.to)]);
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let held = prefixes(r, |r| {
            let (tag, ticket, number) = (r.u8()?, ticket(r)?, r.u64()?);
            let since: Revision = number.cast_signed();
            let claim = match tag {
                1 => Claim::Here { since },
                2 => Claim::Leaving { since },
                3 => Claim::Coming { next: number },
                4 => Claim::There(u32::try_from(number).map_err(|_| DecodeError("no group has that number"))?),
                _ => return Err(DecodeError("unknown claim")),
            };
            Ok(Held { claim, ticket })
        })?;
        let map = prefixes(r, Reader::u32)?;
        let mut shards = Shards { held, map, plans: Default::default() };
        for _ in 0..r.count()? {
            let (prefix, routed) = (r.bytes()?, r.bool()?);
            let plan = Plan { id: r.u64()?, from: r.u32()?, to: r.u32()?, routed };
            shards.plans.insert(prefix, plan);
        }
        Ok(shards)
    }
}

fn prefixes<T>(
    r: &mut Reader,
    mut value: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Prefixes<T>, DecodeError> {
    let mut found: Option<Prefixes<T>> = None;
    for _ in 0..r.count()? {
        let (prefix, value) = (r.bytes()?, value(r)?);
        match &mut found {
            None if prefix.is_empty() => found = Some(Prefixes::new(value)),
            None => return Err(DecodeError("the empty prefix is missing")),
            Some(found) => found.insert(prefix, value),
        }
    }
    found.ok_or(DecodeError("there is no prefix"))
}

fn numbers(out: &mut Vec<u8>, tag: u8, numbers: &[u64]) {
    out.push(tag);
    numbers.iter().for_each(|n| put_u64(out, *n));
}

fn put_ticket(out: &mut Vec<u8>, tag: u8, ticket: Ticket) {
    numbers(out, tag, &[ticket.plan, ticket.attempt]);
}

fn ticket(r: &mut Reader) -> Result<Ticket, DecodeError> {
    Ok(Ticket { plan: r.u64()?, attempt: r.u64()? })
}

fn put_key(out: &mut Vec<u8>, kv: &KeyValue) {
    put_bytes(out, &kv.key);
    put_bytes(out, &kv.value);
    [kv.create_revision, kv.version, kv.lease].iter().for_each(|n| put_i64(out, *n));
}

/// Its `mod_revision` is given anew.
fn key(r: &mut Reader) -> Result<KeyValue, DecodeError> {
    let (key, value): (Bytes, Bytes) = (r.bytes()?, r.bytes()?);
    let (create_revision, version, lease) = (r.i64()?, r.i64()?, r.i64()?);
    Ok(KeyValue { key, value, create_revision, mod_revision: 0, version, lease })
}
