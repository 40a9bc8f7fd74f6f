//! Moves shards from group to group, step by step: see `replica::shards` for what each step means.
//!
//! The member that leads group 0 does it. What it knows, it asks of the groups before each step: so another one can go on
//! where it has ended, and an attempt that was given up can do no harm.

use std::time::Duration;

use bytes::Bytes;
use replica::{
    Request, Response,
    shards::{Claim, Held, Plan, ShardStep, Step, Stepped, Ticket, check_target},
};
use store_api::{KeyValue, LeaseId, RangeRequest, Shard, StoreError, prefix_end};

use crate::{Store, divided};

/// Keys of one portion, and about how many bytes.
const PORTION_KEYS: i64 = 512;
const PORTION_BYTES: usize = 512 * 1024;
/// The pause before a plan is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Plans a move, and waits until the shard is where it shall be.
pub async fn shard_move(store: &Store, prefix: Bytes, group: u32) -> Result<Vec<Shard>, StoreError> {
    check_target(&prefix, group, store.groups())?;
    let home = store.for_group(0);
    let mut changed = home.group().shards_changed.subscribe();
    let (shards, planned) = loop {
        match step(&home, &prefix, Step::Plan { to: group }).await {
            Ok(Stepped::Map(shards, planned)) => break (shards, planned),
            Ok(other) => return Err(StoreError::Unavailable(format!("the plan was answered with {other:?}"))),
            // It has just moved, and what it has left behind is still swept up.
            Err(StoreError::ShardMoving(_)) => {
                if let Ok(Err(_)) = tokio::time::timeout(PAUSE, changed.changed()).await {
                    return Err(StoreError::Stopped);
                }
            }
            Err(error) => return Err(error),
        }
    };
    let Some(planned) = planned else { return Ok(shards) };
    loop {
        {
            let shards = &home.group().machine.read().shards;
            if !shards.plans().any(|(_, plan)| plan.id == planned && !plan.routed) {
                return Ok(shards.list());
            }
        }
        changed.changed().await.map_err(|_| StoreError::Stopped)?;
    }
}

/// Carries out whatever is planned, while this member leads.
pub async fn run(store: Store) {
    let home = store.for_group(0);
    let (mut planned, mut stands) = (home.group().shards_changed.subscribe(), home.group().changed.subscribe());
    loop {
        let next = match home.group().standing.leads() {
            true => home.group().machine.read().shards.plans().next().map(|(prefix, plan)| (prefix.clone(), *plan)),
            false => None,
        };
        let Some((prefix, plan)) = next else {
            let changed = tokio::select! {
                changed = planned.changed() => changed,
                changed = stands.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            continue;
        };
        match carry_out(&home, &prefix, plan).await {
            Ok(()) => {}
            Err(StoreError::Stopped) => return,
            Err(error) => {
                let prefix = String::from_utf8_lossy(&prefix);
                tracing::warn!(%prefix, from = plan.from, to = plan.to, %error, "a shard has not moved yet; it is tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn carry_out(home: &Store, prefix: &Bytes, plan: Plan) -> Result<(), StoreError> {
    let (source, target) = (home.for_group(plan.from), home.for_group(plan.to));
    if !plan.routed {
        source.settle().await?;
        target.settle().await?;
        let there = held(&target, prefix);
        if !(matches!(there.claim, Claim::Here { .. }) && there.ticket.plan == plan.id) {
            let ticket = match held(&source, prefix) {
                Held { claim: Claim::There(_), ticket } if ticket.plan == plan.id => ticket,
                _ => transfer(&source, &target, prefix, plan).await?,
            };
            // A lease that has ended meanwhile takes its keys along before anybody sees them.
            divided::end_orphans_of(home, plan.to).await?;
            step(&target, prefix, Step::Open(ticket)).await?;
        }
        step(home, prefix, Step::Route { plan: plan.id }).await?;
        tracing::info!(prefix = %String::from_utf8_lossy(prefix), from = plan.from, to = plan.to, "a shard has moved");
    }
    source.settle().await?;
    sweep(&source, prefix, held(&source, prefix).ticket).await?;
    step(home, prefix, Step::Done { plan: plan.id }).await?;
    Ok(())
}

/// Has the target receive all keys, and the source serve none of them any more.
async fn transfer(source: &Store, target: &Store, prefix: &Bytes, plan: Plan) -> Result<Ticket, StoreError> {
    runtime::failpoint!(async "shardBeforeFreeze");
    let Stepped::Frozen(ticket, revision) = step(source, prefix, Step::Freeze { plan: plan.id }).await? else {
        return Err(StoreError::Unavailable("the freeze was answered with something else".to_owned()));
    };
    step(target, prefix, Step::Receive(ticket, revision)).await?;
    // What an attempt before has left.
    sweep(target, prefix, ticket).await?;
    let mut from = if prefix.is_empty() { Bytes::from_static(&[0]) } else { prefix.clone() };
    for number in 0.. {
        runtime::failpoint!(async "shardBeforePortion");
        let Portion { keys, mut leases, next } = portion(source, prefix, from, ticket)?;
        if plan.to == 0 {
            // Group 0 knows better which leases there are.
            leases.clear();
        }
        step(target, prefix, Step::Keys(ticket, number, leases, keys)).await?;
        let Some(next) = next else { break };
        from = next;
    }
    runtime::failpoint!(async "shardBeforeRelease");
    step(source, prefix, Step::Release(ticket, plan.to)).await?;
    runtime::failpoint!(async "shardBeforeOpen");
    Ok(ticket)
}

struct Portion {
    keys: Vec<KeyValue>,
    leases: Vec<(LeaseId, i64)>,
    /// Where the next one begins, if there is more.
    next: Option<Bytes>,
}

/// Reads some of the frozen keys.
fn portion(source: &Store, prefix: &Bytes, from: Bytes, ticket: Ticket) -> Result<Portion, StoreError> {
    let machine = source.group().machine.read();
    let held = machine.shards.held(prefix);
    if held.ticket != ticket || !matches!(held.claim, Claim::Leaving { .. }) {
        return Err(StoreError::ShardMoving(String::from_utf8_lossy(prefix).into_owned()));
    }
    let range_end = prefix_end(prefix);
    let found = machine.kv.range(RangeRequest { key: from, range_end, limit: PORTION_KEYS, ..Default::default() })?;
    let mut bytes = 0;
    let fits = found.kvs.iter().take_while(|kv| {
        let room = bytes < PORTION_BYTES;
        bytes += kv.key.len() + kv.value.len();
        room
    });
    let count = fits.count();
    let more = found.more || count < found.kvs.len();
    let keys: Vec<KeyValue> = found.kvs.into_iter().take(count).collect();
    let mut ids: Vec<LeaseId> = keys.iter().map(|kv| kv.lease).filter(|id| *id != 0).collect();
    ids.sort_unstable();
    ids.dedup();
    let leases = ids.into_iter().filter_map(|id| Some((id, machine.kv.lease_ttl(id)?))).collect();
    let next = keys.last().filter(|_| more).map(|kv| [kv.key.as_ref(), &[0]].concat().into());
    Ok(Portion { keys, leases, next })
}

async fn sweep(store: &Store, prefix: &Bytes, ticket: Ticket) -> Result<(), StoreError> {
    while step(store, prefix, Step::Sweep(ticket)).await? == Stepped::Swept(true) {}
    Ok(())
}

async fn step(store: &Store, prefix: &Bytes, step: Step) -> Result<Stepped, StoreError> {
    match store.propose(Request::Shard(ShardStep { prefix: prefix.clone(), step })).await? {
        Response::Shard(stepped) => Ok(stepped),
        other => Err(StoreError::Unavailable(format!("the state machine answered another request: {other:?}"))),
    }
}

fn held(store: &Store, prefix: &[u8]) -> Held {
    store.group().machine.read().shards.held(prefix)
}
