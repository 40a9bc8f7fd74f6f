//! The signals that end a member, and the end itself: as with etcd, whoever waits for the process sees it ended by the
//! signal.

use std::io;

use nix::sys::signal::{SigHandler, Signal, raise, signal};
use tokio::signal::unix::{self, SignalKind};

/// SIGINT and SIGTERM.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Signals { interrupt: unix::signal(interrupt)?, terminate: unix::signal(terminate)? })
    }

    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
        }
    }
}

/// As Go prints it.
pub fn name(signal: Signal) -> &'static str {
    if signal == Signal::SIGINT { "interrupt" } else { "terminated" }
}

/// Ends the process by a signal that it had caught. Returns where that is not possible: for a container's first process.
pub fn end_by(caught: Signal) {
    if std::process::id() == 1 {
        return;
    }
    #[expect(unsafe_code, reason = "the default action installs no handler, so that there is none to be unsafe")]
    // SAFETY: SIG_DFL runs no code of this process.
    let reset = unsafe { signal(caught, SigHandler::SigDfl) };
    if reset.is_ok() {
        // It fails for signals that do not exist only.
        let _ = raise(caught);
    }
}
