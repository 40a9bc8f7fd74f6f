//! The clock by which running guests are cut off: a thread that moves the engine's epoch on while any guest runs, and sleeps
//! otherwise. A thread and not a task, because a guest that loops may hold the only thread that runs tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use runtime::Tasks;
use wasmtime::Engine;

/// How finely time is told.
const TICK: Duration = Duration::from_millis(2);
/// Ticks without a call after which it sleeps: to wake it costs more than a call, and calls come in streams.
const LINGER: u32 = 250;

#[derive(Default)]
struct Calls {
    begun: AtomicU64,
    ended: AtomicU64,
    asleep: AtomicBool,
}

/// The thread ends when this does.
pub(crate) struct Ticker {
    calls: Arc<Calls>,
    wake: SyncSender<()>,
}

/// A call under way.
pub(crate) struct Running<'a>(&'a Calls);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

impl Ticker {
    pub fn start(engine: Engine, tasks: &Tasks) -> Self {
        let calls = Arc::new(Calls { asleep: AtomicBool::new(true), ..Default::default() });
        // One is enough to wake; a second would say the same.
        let (wake, woken) = sync_channel(1);
        let seen = calls.clone();
        tasks.spawn_thread("wasm-ticker", move || tick(&engine, &seen, &woken));
        Ticker { calls, wake }
    }

    /// Ticks for as long as the value lives.
    pub fn begin(&self) -> Running<'_> {
        self.calls.begun.fetch_add(1, SeqCst);
        if self.calls.asleep.swap(false, SeqCst) {
            // A full channel wakes it as well.
            let _ = self.wake.try_send(());
        }
        Running(&self.calls)
    }

    /// How many ticks make sure that at least so much time has passed.
    pub fn ticks(time: Duration) -> u64 {
        // The first may come at once.
        u64::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX).saturating_add(1)
    }
}

fn tick(engine: &Engine, calls: &Calls, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        let (mut seen, mut quiet) = (0, 0);
        while quiet < LINGER {
            std::thread::sleep(TICK);
            engine.increment_epoch();
            let begun = calls.begun.load(SeqCst);
            let idle = calls.ended.load(SeqCst) == begun && seen == begun;
            quiet = if idle { quiet + 1 } else { 0 };
            seen = begun;
            if quiet == LINGER {
                calls.asleep.store(true, SeqCst);
                if calls.begun.load(SeqCst) != begun {
                    // One has begun just before; it may not have seen that nobody ticks.
                    calls.asleep.store(false, SeqCst);
                    quiet = 0;
                }
            }
        }
    }
}
