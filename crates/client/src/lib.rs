//! The one way in which scheduler, controllers, node, datapath and DNS reach the world: a Kubernetes client.
//!
//! ```text
//!   kube::Client ◀── in process: the API server's own service │ elsewhere: HTTPS
//!        │
//!   Informers ── one watch per kind and process ──▶ Informer<K> ── Subscription (coalesced changes) ──▶ you
//! ```
//!
//! In one process a request is an in-memory call, otherwise HTTPS; the code that uses the client cannot tell. Knows no
//! store and no API server.

mod backoff;
mod connect;
pub mod election;
pub mod feed;
mod informer;
mod recorder;
mod requests;

pub use connect::{ConnectError, Protocol, configuration, connect, connect_counted};
pub use election::Election;
pub use informer::{Change, Informer, Informers, Key, Subscription};
pub use kube::{self, Api, Client};
pub use recorder::{EventType, Recorder, object_reference};
pub use requests::Requests;

use std::{future::Future, time::Duration};

/// Attempts of [`retry_on_conflict`] before the conflict is the caller's.
const CONFLICT_ATTEMPTS: usize = 5;

/// Repeats a read-modify-write while it loses against another writer, a bounded number of times.
pub async fn retry_on_conflict<T, F>(mut attempt: impl FnMut() -> F) -> kube::Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    for n in 1.. {
        match attempt().await {
            Err(kube::Error::Api(status)) if status.code == 409 && n < CONFLICT_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(5 << n)).await;
            }
            result => return result,
        }
    }
    unreachable!("the last attempt returns")
}

/// Whether the API said that the object does not exist.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the API said that the object exists already.
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

/// Whether the API said that the object has changed since it was read.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}
