//! What Lock and Election share: keys that stand in line below a prefix, one for each lease, the oldest first.
//!
//! The keys are laid out as etcd's client library lays them out, `name/lease-in-hex`, so that those who ask this server
//! and those who use that library stand in one line.

use std::sync::Arc;

use bytes::Bytes;
use runtime::Tasks;
use store_api::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, EventKind, KeyValue, LeaseId, RangeRequest, RequestOp,
    ResponseOp, Revision, SortOrder, SortTarget, Store, StoreError, TxnRequest, TxnResponse, WatchRequest,
};
use tokio::sync::oneshot;
use tonic::Status;

use crate::codes;

/// Seconds that a lease lives which is made because the client has named none.
const SESSION_TTL: i64 = 60;

/// The prefix below which a name's line stands.
pub(crate) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of one lease in a line.
pub(crate) fn key(prefix: &[u8], lease: LeaseId) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// The lease that the client has named, or a new one.
pub(crate) async fn lease(store: &dyn Store, named: LeaseId) -> Result<LeaseId, StoreError> {
    match named {
        0 => Ok(store.lease_grant(0, SESSION_TTL).await?.id),
        named => Ok(named),
    }
}

/// The key was made at `created` and not again since; at 0, there is no such key.
pub(crate) fn created_at(key: &Bytes, created: Revision) -> Compare {
    let target = CompareTarget::CreateRevision(created);
    Compare { key: key.clone(), range_end: Bytes::new(), result: CompareResult::Equal, target }
}

/// Asks for the oldest key of a line: its holder.
pub(crate) fn oldest(prefix: &Bytes) -> RangeRequest {
    let sort = (SortOrder::Ascend, SortTarget::Create);
    RangeRequest { limit: 1, sort_order: sort.0, sort_target: sort.1, ..RangeRequest::prefix(prefix.clone()) }
}

/// Waits until no key below `prefix` is older than `created`.
pub(crate) async fn wait_for_turn(store: &dyn Store, prefix: &Bytes, created: Revision) -> Result<(), StoreError> {
    loop {
        let before = RangeRequest {
            limit: 1,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Create,
            max_create_revision: created - 1,
            keys_only: true,
            ..RangeRequest::prefix(prefix.clone())
        };
        let answer = store.range(before).await?;
        let Some(predecessor) = answer.kvs.into_iter().next() else { return Ok(()) };
        match wait_for_deletion(store, predecessor, answer.revision).await {
            // What the watch has missed, the next look sees.
            Ok(()) | Err(StoreError::SlowWatcher | StoreError::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits for the deletion of a key that was there at `revision`.
async fn wait_for_deletion(store: &dyn Store, key: KeyValue, revision: Revision) -> Result<(), StoreError> {
    let request = WatchRequest { key: key.key, start_revision: revision + 1, no_put: true, ..Default::default() };
    let mut watcher = store.watch(request).await?;
    while watcher.next().await?.events.iter().all(|event| event.kind != EventKind::Delete) {}
    Ok(())
}

/// Takes a place in line back, unless its key has been made anew since. Returns the store's revision.
pub(crate) async fn leave(store: &dyn Store, key: &Bytes, created: Revision) -> Result<Revision, StoreError> {
    let delete = DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let request = TxnRequest {
        compare: vec![created_at(key, created)],
        success: vec![RequestOp::DeleteRange(delete)],
        failure: Vec::new(),
    };
    Ok(store.txn(request).await?.revision)
}

/// Stands in line by a transaction whose first operation makes the key, or reads it when it is there.
///
/// The transaction is a task of its own: a client that goes away while it is under way leaves the line as well.
pub(crate) async fn enter(
    store: &Arc<dyn Store>,
    tasks: &Tasks,
    key: &Bytes,
    request: TxnRequest,
) -> Result<(TxnResponse, Place), StoreError> {
    let (entered, waits) = oneshot::channel();
    let (store, key, leaving) = (store.clone(), key.clone(), tasks.clone());
    tasks.spawn("enter", async move {
        let entered_by = store.txn(request).await.map(|answer| {
            let created = created(answer.responses.first()).unwrap_or(answer.revision);
            (answer, Place { store, tasks: leaving, key, created, given_up: true })
        });
        // Where nobody waits any more, the place comes back and is given up.
        drop(entered.send(entered_by));
    });
    waits.await.unwrap_or(Err(StoreError::Stopped))
}

/// When the key that an operation has read was made; nothing for one that has written.
pub(crate) fn created(response: Option<&ResponseOp>) -> Option<Revision> {
    match response {
        Some(ResponseOp::Range(range)) => range.kvs.first().map(|kv| kv.create_revision),
        _ => None,
    }
}

/// A place in line whose owner still waits. It is taken back when the client goes away, so that nobody waits for a
/// holder who does not know of it.
pub(crate) struct Place {
    store: Arc<dyn Store>,
    tasks: Tasks,
    key: Bytes,
    /// Since when it is in line.
    pub created: Revision,
    given_up: bool,
}

impl Place {
    /// It is somebody's now, or not to be touched any more.
    pub fn keep(mut self) {
        self.given_up = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.given_up {
            return;
        }
        let (store, key, created) = (self.store.clone(), self.key.clone(), self.created);
        self.tasks.spawn("leave", async move {
            // The lease's end does the same later, should this not succeed.
            if let Err(error) = leave(&*store, &key, created).await {
                tracing::debug!(%error, "a place in line was not taken back");
            }
        });
    }
}

/// A failure as etcd tells it here: these services are clients of the others, so that the words arrive without the code.
pub(crate) fn told(error: StoreError) -> Status {
    Status::unknown(codes::status(&error).message())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use store_api::PutRequest;

    use super::*;

    #[test]
    fn keys_are_those_of_etcds_client_library() {
        let check = |name: &str, lease, expected: &str| {
            assert_eq!(key(&prefix(name.as_bytes()), lease), expected);
        };
        check("my", 0x1234, "my/1234");
        check("a/b", 0x694d_0000_0000_00ff, "a/b/694d0000000000ff");
        check("my", -1, "my/-1");
    }

    #[tokio::test]
    async fn who_goes_away_before_the_answer_leaves_the_line() {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::root());
        let clock = runtime::Clock::system();
        let options = store::Options::new(folder.path().join("store"), clock, tasks.child("store"));
        let store: Arc<dyn Store> = Arc::new(store::Store::open(options).await.unwrap());
        let place = Bytes::from("my/1");
        let watch = WatchRequest { key: place.clone(), start_revision: 1, ..Default::default() };
        let mut line = store.watch(watch).await.unwrap();
        let put = PutRequest { key: place.clone(), ..Default::default() };
        let request = TxnRequest {
            compare: vec![created_at(&place, 0)],
            success: vec![RequestOp::Put(put)],
            failure: vec![RequestOp::Range(RangeRequest::key(place.clone()))],
        };
        // It has asked, and cannot have been answered.
        assert!(enter(&store, &tasks, &place, request).now_or_never().is_none());
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let events = tokio::time::timeout(Duration::from_secs(15), line.next()).await.expect("it leaves").unwrap();
            seen.extend(events.events.into_iter().map(|event| event.kind));
        }
        assert_eq!(seen, [EventKind::Put, EventKind::Delete]);
        tasks.stop();
    }
}
