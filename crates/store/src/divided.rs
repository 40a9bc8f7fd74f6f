//! What keeps several groups together: group 0 says who the members are and which leases live, and the others follow.
//! Revisions of different groups are brought together by notes of what was current at the same time.

use std::{collections::BTreeSet, time::Duration};

use mvcc::Command;
use replica::{Follow, GroupId, Request};
use store_api::{LeaseId, Revision, StoreError};

use crate::Store;

/// How often the others look at group 0 without being told.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How often leases are looked for that group 0 has ended, where the others were not told.
const ORPHANS_EVERY: Duration = Duration::from_secs(10);
/// How often all groups' revisions are noted where they have changed. Each note is an entry of group 0's log.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// Makes the members of the handle's group those of group 0, while this member leads one of the two: the group's leader
/// may not hear of group 0 any more, and group 0's may not be in the group yet.
pub async fn follow_members(store: Store) {
    let home = store.shared.group(0);
    loop {
        tokio::select! {
            () = home.members_changed.notified() => {}
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
        while store.group().standing.leads() || home.standing.leads() {
            match follow_once(&store).await {
                Ok(None) => break,
                Ok(Some(next)) => {
                    tracing::info!(group = store.group, ?next, "the group has followed a change of membership");
                }
                Err(StoreError::Stopped) => return,
                Err(error) => {
                    tracing::debug!(group = store.group, %error, "not yet followed");
                    break;
                }
            }
        }
    }
}

async fn follow_once(store: &Store) -> Result<Option<Follow>, StoreError> {
    let own = store.group().machine.read().members.clone();
    if own.follow(&store.shared.group(0).machine.read().members).is_none() {
        return Ok(None);
    }
    // Looked at later than the group's own: what is here alone was removed there then, and is not merely unknown yet.
    store.shared.settle(0).await?;
    let Some(next) = own.follow(&store.shared.group(0).machine.read().members) else { return Ok(None) };
    match next.clone() {
        Follow::Change(change) => drop(store.change(change).await?),
        Follow::Urls(member, urls) => drop(store.propose(Request::PeerUrls { member, urls }).await?),
    }
    Ok(Some(next))
}

/// Ends a lease in all groups but 0, where it has ended.
pub async fn revoke_elsewhere(store: &Store, id: LeaseId) {
    for group in 1..store.groups() {
        match revoke(store, group, id).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(lease = id, group, %error, "a lease that has ended is still known; later"),
        }
    }
}

/// Looks for leases that only the other groups know, while this member leads group 0, and ends them.
pub async fn end_orphans(store: Store) {
    let mut changed = store.group().changed.subscribe();
    loop {
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ORPHANS_EVERY) => {}
        }
        for group in 1..store.groups() {
            if !store.group().standing.leads() {
                break;
            }
            if let Err(error) = end_orphans_of(&store, group).await {
                tracing::debug!(group, %error, "leases could not be compared");
            }
        }
    }
}

/// Ends the leases of a group that group 0 does not know. It knows each one before any other group does.
pub async fn end_orphans_of(home: &Store, group: GroupId) -> Result<(), StoreError> {
    if group == 0 {
        return Ok(());
    }
    home.shared.settle(group).await?;
    let there: BTreeSet<LeaseId> = home.shared.group(group).machine.read().kv.leases().map(|(id, _)| id).collect();
    if there.is_empty() {
        return Ok(());
    }
    home.shared.settle(0).await?;
    let known: BTreeSet<LeaseId> = home.shared.group(0).machine.read().kv.leases().map(|(id, _)| id).collect();
    for id in there.difference(&known) {
        revoke(home, group, *id).await?;
    }
    Ok(())
}

async fn revoke(store: &Store, group: GroupId, id: LeaseId) -> Result<(), StoreError> {
    match store.for_group(group).propose(Request::Own(Command::LeaseRevoke { id })).await {
        Ok(_) | Err(StoreError::LeaseNotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Notes which revisions of the groups were current at the same time, while this member leads group 0.
pub async fn note_revisions(store: Store) {
    loop {
        tokio::time::sleep(NOTE_EVERY).await;
        if !store.group().standing.has_begun_to_lead() {
            continue;
        }
        let others: Vec<Revision> = store.shared.groups[1..].iter().map(|group| group.revision()).collect();
        let known = {
            let machine = store.group().machine.read();
            machine.notes.last().is_some_and(|(at, noted)| *at == machine.kv.revision() && *noted == others)
        };
        if !known && let Err(error) = store.propose(Request::Note(others)).await {
            tracing::debug!(%error, "the groups' revisions could not be noted; it is tried again");
        }
    }
}
