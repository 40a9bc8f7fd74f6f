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

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static DEADLINE: OnceLock<Instant> = OnceLock::new();

/// The user wants the run to end.
pub fn set() {
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
