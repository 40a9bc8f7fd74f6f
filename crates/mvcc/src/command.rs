//! What can be done to the state, and what comes of it.

pub(crate) mod codec;

use store_api::{
    DeleteRangeRequest, DeleteRangeResponse, Event, Lease, LeaseId, PutRequest, PutResponse, RequestOp, Revision,
    StoreError, TxnRequest, TxnResponse,
};

/// One entry of the log. It carries everything that its effect depends on, besides the state: no time, no chance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    /// Forget revisions before this one.
    Compact(Revision),
    /// The id is never 0: whoever proposes has chosen it.
    LeaseGrant {
        id: LeaseId,
        ttl: i64,
    },
    LeaseRevoke {
        id: LeaseId,
    },
    /// What was left of leases, in seconds; 0: the whole time. One that does not live any more is passed over.
    LeaseCheckpoint(Vec<(LeaseId, i64)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    /// The store's revision, also where the compact revision is an older one.
    Compacted(Revision),
    LeaseGranted(Lease),
    /// The store's revision after the lease's keys are gone.
    LeaseRevoked(Revision),
    LeasesNoted,
}

/// What a command did. On `Err` the state is as it was.
#[derive(Clone, Debug)]
pub struct Effects {
    pub response: Result<Response, StoreError>,
    /// All of one revision, in the order of the writes, each with `prev_kv`. Empty if nothing was written.
    pub events: Vec<Event>,
}

impl Command {
    /// Whether the command can only give space back. Such commands are still taken when space has run out.
    pub fn frees_space(&self) -> bool {
        match self {
            Command::DeleteRange(_) | Command::Compact(_) | Command::LeaseRevoke { .. } => true,
            // A member that has no space for these would end leases late or, worse, too early.
            Command::LeaseCheckpoint(_) => true,
            // Kubernetes deletes by transaction.
            Command::Txn(txn) => !puts(txn),
            Command::Put(_) | Command::LeaseGrant { .. } => false,
        }
    }
}

fn puts(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        RequestOp::Put(_) => true,
        RequestOp::Txn(txn) => puts(txn),
        RequestOp::Range(_) | RequestOp::DeleteRange(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_free_space_also_in_transactions() {
        let txn = |op| TxnRequest { failure: vec![op], ..Default::default() };
        let check = |op: RequestOp, expected| {
            let nested = Command::Txn(txn(RequestOp::Txn(txn(op.clone()))));
            assert_eq!((Command::Txn(txn(op)).frees_space(), nested.frees_space()), (expected, expected));
        };
        check(RequestOp::DeleteRange(DeleteRangeRequest::default()), true);
        check(RequestOp::Put(PutRequest::default()), false);
    }
}
