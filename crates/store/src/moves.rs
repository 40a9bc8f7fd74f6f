//! Moves shards from group to group: carries out what `replica::shards::Mover` says comes next, on the member that leads
//! group 0.

use std::time::Duration;

use bytes::Bytes;
use replica::{
    Request, Response,
    shards::{Mover, Next, Plan, ShardStep, Step, Stepped, check_target},
};
use store_api::{Shard, StoreError};

use crate::{Store, divided};

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
    let mut mover = Mover::new(prefix.clone(), plan);
    let mut answer = None;
    loop {
        match mover.next(answer.take(), |group| home.shared.group(group).machine.read())? {
            Next::Settle(group) => home.shared.settle(group).await?,
            Next::EndOrphans(group) => divided::end_orphans_of(home, group).await?,
            Next::Step(group, wanted) => {
                may_fail(&wanted).await;
                let routes = matches!(wanted, Step::Route { .. });
                answer = Some(step(&home.for_group(group), prefix, wanted).await?);
                if routes {
                    let prefix = String::from_utf8_lossy(prefix);
                    tracing::info!(%prefix, from = plan.from, to = plan.to, "a shard has moved");
                }
            }
            Next::Over => return Ok(()),
        }
    }
}

/// The places at which a test ends or delays a move.
async fn may_fail(step: &Step) {
    match step {
        Step::Freeze { .. } => runtime::failpoint!(async "shardBeforeFreeze"),
        Step::Keys(..) => runtime::failpoint!(async "shardBeforePortion"),
        Step::Release(..) => runtime::failpoint!(async "shardBeforeRelease"),
        Step::Open(..) => runtime::failpoint!(async "shardBeforeOpen"),
        _ => {}
    }
}

async fn step(store: &Store, prefix: &Bytes, step: Step) -> Result<Stepped, StoreError> {
    match store.propose(Request::Shard(ShardStep { prefix: prefix.clone(), step })).await? {
        Response::Shard(stepped) => Ok(stepped),
        other => Err(StoreError::Unavailable(format!("the state machine answered another request: {other:?}"))),
    }
}
