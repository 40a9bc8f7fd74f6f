//! Whether the run has to end: because the user wants it, or because it has taken too long. Loops ask here and fail, so
//! that what they hold is taken down in the usual way.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static DEADLINE: OnceLock<Instant> = OnceLock::new();

/// Measures on a thread of its own, and ends in good order when the user wants it.
pub async fn heeding<T: Send + 'static>(
    measure: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (mut terminate, mut end) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut measuring = tokio::task::spawn_blocking(measure);
    loop {
        tokio::select! {
            outcome = &mut measuring => return outcome?,
            _ = terminate.recv() => set(),
            _ = end.recv() => set(),
        }
    }
}

/// The user wants the run to end.
fn set() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on the run may take so long.
pub fn limit(length: Duration) {
    DEADLINE.get_or_init(|| Instant::now() + length);
}

pub fn check() -> anyhow::Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    if DEADLINE.get().is_some_and(|deadline| Instant::now() > *deadline) {
        bail!("the run has taken longer than --limit allows");
    }
    Ok(())
}
