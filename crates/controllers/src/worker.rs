//! Takes keys from a queue and gives them to a controller, a bounded number at once.

use std::{future::Future, hash::Hash, sync::Arc, time::Duration};

use client::kube;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use runtime::Tasks;

use crate::queue::Queue;

/// Keys that one controller works on at once.
const CONCURRENCY: usize = 16;

/// Why a pass has to be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API refused a request")]
    Api(#[from] kube::Error),
    #[error("the cache is behind; its next change starts another pass")]
    Stale,
    #[error("{0}")]
    Other(String),
}

/// One reconciler: makes the world agree with what the object of a key asks for.
pub trait Controller: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Ord + Send + Sync + std::fmt::Debug + 'static;
    const NAME: &'static str;
    /// What its queue is called in the metrics: as in kube-controller-manager.
    const QUEUE: &'static str;

    /// One pass. Returns after how long to look again even if nothing changes.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// Works until the tasks stop.
pub fn run<C: Controller>(tasks: &Tasks, controller: Arc<C>, queue: Queue<C::Key>) {
    tasks.spawn(C::NAME, async move {
        let mut working = FuturesUnordered::new();
        loop {
            tokio::select! {
                key = queue.next(), if working.len() < CONCURRENCY => {
                    let controller = controller.clone();
                    working.push(async move {
                        let result = controller.reconcile(&key).await;
                        (key, result)
                    }.boxed());
                }
                Some((key, result)) = working.next() => {
                    settle::<C>(&queue, key, result);
                }
            }
        }
    });
}

fn settle<C: Controller>(queue: &Queue<C::Key>, key: C::Key, result: Result<Option<Duration>, Error>) {
    match result {
        Ok(again) => {
            queue.forget(&key);
            if let Some(after) = again {
                queue.add_after(key.clone(), after);
            }
        }
        Err(error) => {
            match &error {
                // Somebody else was faster; the next pass sees what they wrote.
                Error::Api(api) if client::is_conflict(api) => tracing::debug!(controller = C::NAME, ?key, "conflict"),
                error => {
                    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(controller = C::NAME, ?key, %error, source, "a pass failed and will be repeated");
                }
            }
            queue.retry(key.clone());
        }
    }
    queue.done(&key);
}
