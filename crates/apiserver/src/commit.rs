//! Writes to the store: an object and what it reserves go in one transaction, or not at all.

use bytes::Bytes;
use registry::{Reading, Resource, Status, StoredObject, allocate::Reservations};
use serde_json::Value;
use store_api::{
    Compare, DeleteRangeRequest, LeaseId, PutRequest, RangeRequest, RequestOp, ResponseOp, Revision, StoreError,
    TxnRequest,
};

use crate::{core::Core, respond};

/// One object's change.
pub(crate) struct Change<'a> {
    pub resource: &'a Resource,
    pub key: Bytes,
    /// The revision that the object must have; 0: it must not exist.
    pub expected: Revision,
    /// The new value in the resource's own form; none: the object goes.
    pub value: Option<Bytes>,
    pub reservations: Reservations,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    At(Revision),
    /// The object is not as expected.
    Changed,
    /// The object is as expected, but somebody else took a reserved key.
    Taken,
}

/// An object as the store has it.
pub(crate) struct Live {
    pub object: StoredObject,
    pub revision: Revision,
}

impl Live {
    /// What was parsed of it.
    pub fn value(&self) -> &Value {
        self.object.value()
    }

    pub fn existing(&self) -> registry::Existing<'_> {
        registry::Existing { object: self.value(), revision: self.revision.unsigned_abs() }
    }
}

/// Reads an object that is going to be changed.
pub(crate) async fn live(core: &Core, resource: &Resource, key: &str) -> Result<Option<Live>, Status> {
    live_for(core, resource, key, Reading::Whole).await
}

/// The same, parsed as far as one kind of write needs.
pub(crate) async fn live_for(
    core: &Core,
    resource: &Resource,
    key: &str,
    reading: Reading,
) -> Result<Option<Live>, Status> {
    let Some(kv) = core.read(key.to_owned()).await? else { return Ok(None) };
    let object = resource
        .read(reading, resource.from_stored(kv.value))
        .map_err(|error| Status::internal_error(format!("unable to decode the object stored at {key}: {error}")))?;
    Ok(Some(Live { object, revision: kv.mod_revision }))
}

/// Writes a change if the object is as expected.
pub(crate) async fn commit(core: &Core, change: Change<'_>) -> Result<Committed, Status> {
    let mut lease = event_lease(core, change.resource).await?;
    // A lease can end between its grant and its use; one new attempt is enough, as the next lease is fresh.
    let committed = match core.store.txn(transaction(&change, lease)).await {
        Err(StoreError::LeaseNotFound(gone)) => {
            core.event_leases.forget(gone).await;
            lease = event_lease(core, change.resource).await?;
            outcome(change.expected, core.store.txn(transaction(&change, lease)).await)
        }
        result => outcome(change.expected, result),
    }?;
    if let Committed::At(revision) = committed {
        core.settle(change.resource, revision).await;
    }
    Ok(committed)
}

async fn event_lease(core: &Core, resource: &Resource) -> Result<LeaseId, Status> {
    let kind = resource.kind();
    if kind.kind != "Event" {
        return Ok(0);
    }
    let lease = core.event_leases.lease(core.store.as_ref(), core.now().as_second()).await;
    lease.map_err(|error| respond::store_error(&error))
}

fn transaction(change: &Change<'_>, lease: LeaseId) -> TxnRequest {
    let put =
        |key: Bytes, value: Bytes, lease| RequestOp::Put(PutRequest { key, value, lease, ..PutRequest::default() });
    let delete = |key: Bytes| RequestOp::DeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() });
    let mut compare = vec![Compare::mod_revision(change.key.clone(), change.expected)];
    let mut success = vec![match &change.value {
        Some(value) => put(change.key.clone(), change.resource.to_stored(value.clone()), lease),
        None => delete(change.key.clone()),
    }];
    for key in &change.reservations.take {
        compare.push(Compare::mod_revision(key.clone(), 0));
        // The value names the owner, for people who look into the store.
        success.push(put(key.clone().into(), change.key.clone(), 0));
    }
    success.extend(change.reservations.free.iter().map(|key| delete(key.clone().into())));
    // The answer to a failure tells whether it was the object that changed.
    let failure = vec![RequestOp::Range(RangeRequest { keys_only: true, ..RangeRequest::key(change.key.clone()) })];
    TxnRequest { compare, success, failure: if change.reservations.take.is_empty() { Vec::new() } else { failure } }
}

fn outcome(expected: Revision, result: Result<store_api::TxnResponse, StoreError>) -> Result<Committed, Status> {
    let response = result.map_err(|error| respond::store_error(&error))?;
    if response.succeeded {
        return Ok(Committed::At(response.revision));
    }
    let current = match response.responses.first() {
        Some(ResponseOp::Range(range)) => range.kvs.first().map_or(0, |kv| kv.mod_revision),
        _ => return Ok(Committed::Changed),
    };
    Ok(if current == expected { Committed::Taken } else { Committed::Changed })
}
