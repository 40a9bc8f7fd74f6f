//! Supervised tasks: each has a name, belongs to a group that can be stopped and joined, and reports its own failure.

use std::{
    fmt::Display,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why a process must stop: a supervised task panicked, or a critical one ended with an error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("task {task} failed: {reason}")]
pub struct Failure {
    /// The group's path and the task's name, for example `apiserver/accept`.
    pub task: String,
    /// The panic's message or the error with its sources.
    pub reason: String,
}

/// A group of tasks. Clones are handles on the same group.
#[derive(Clone)]
pub struct Tasks {
    path: Arc<str>,
    stop: CancellationToken,
    tracker: TaskTracker,
    failure: Arc<watch::Sender<Option<Failure>>>,
}

impl Tasks {
    /// The process's own group. Made once; services get a [`Tasks::child`].
    pub fn root() -> Self {
        Tasks {
            path: "".into(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            failure: Arc::new(watch::channel(None).0),
        }
    }

    /// A group that stops when its parent does, and can be stopped and joined before it. Failures go to the root.
    pub fn child(&self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        Tasks {
            path: path.into(),
            stop: self.stop.child_token(),
            tracker: TaskTracker::new(),
            failure: self.failure.clone(),
        }
    }

    /// Runs `future` until it ends or the group stops, whichever comes first; on stop it is dropped where it waits.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn_to_end(name, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = future => {}
            }
        });
    }

    /// Runs `future` to its own end, also after the group was told to stop: for work that must not be cut, such as
    /// a drain. It is expected to watch [`Tasks::stopping`].
    pub fn spawn_to_end(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let this = self.clone();
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns tasks")]
        tokio::spawn(self.tracker.track_future(async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                this.fail(name, panic_text(panic.as_ref()));
            }
        }));
    }

    /// As [`Tasks::spawn`], for a task without which the process is of no use: its error stops the process.
    pub fn spawn_critical<E: Display>(
        &self,
        name: &'static str,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let this = self.clone();
        self.spawn(name, async move {
            if let Err(error) = future.await {
                this.fail(name, format!("{error:#}"));
            }
        });
    }

    /// Runs `body` on a thread of its own, named after the task. The thread is expected to watch
    /// [`Tasks::stopping`] or a channel that closes; [`Tasks::join`] waits for it.
    pub fn spawn_thread(&self, name: &'static str, body: impl FnOnce() + Send + 'static) {
        let this = self.clone();
        let token = self.tracker.token();
        let spawned = std::thread::Builder::new().name(name.chars().take(15).collect()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                this.fail(name, panic_text(panic.as_ref()));
            }
            drop(token);
        });
        if let Err(error) = spawned {
            self.fail(name, format!("the kernel refused a thread: {error}"));
        }
    }

    /// Tells the group and its children to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// The token that is cancelled when the group is told to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until the group's own tasks have ended, at most `limit`. Returns whether all have.
    pub async fn join(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }

    /// Waits for the first failure of any task under the same root.
    pub async fn failure(&self) -> Failure {
        let mut receiver = self.failure.subscribe();
        loop {
            if let Some(failure) = receiver.borrow_and_update().clone() {
                return failure;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn fail(&self, name: &str, reason: String) {
        let task = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        tracing::error!(task, reason, "task failed");
        self.failure.send_if_modified(|slot| match slot {
            Some(_) => false,
            None => {
                *slot = Some(Failure { task, reason });
                true
            }
        });
    }
}

/// Runs a blocking call on the runtime's blocking pool and returns its result; a panic inside goes on in the caller.
pub async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns tasks")]
    match tokio::task::spawn_blocking(call).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The pool refuses work only while the runtime shuts down: nobody is left to wait for the answer.
            Err(_) => std::future::pending().await,
        },
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_with_its_path() {
        let root = Tasks::root();
        root.child("service").spawn("worker", async { panic!("boom") });
        let failure = root.failure().await;
        assert_eq!((failure.task.as_str(), failure.reason.as_str()), ("service/worker", "boom"));
    }

    #[tokio::test]
    async fn stop_ends_tasks_and_children() {
        let root = Tasks::root();
        let child = root.child("service");
        child.spawn("forever", std::future::pending());
        let token = child.stopping();
        child.spawn_thread("thread", move || {
            while !token.is_cancelled() {
                std::thread::yield_now();
            }
        });
        root.stop();
        assert!(child.join(Duration::from_secs(5)).await);
    }
}
