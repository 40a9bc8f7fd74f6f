//! What the machine asks of its driver. The result of each action comes back as an input of the machine.

use std::time::Duration;

use jiff::Timestamp;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Volumes, network, sandbox. Told to `set_up_done`.
    SetUp { attempt: u32 },
    /// Image, configuration, container, post-start hook. Told to `start_done`.
    Start { index: usize, attempt: u32 },
    /// Pre-stop hook, stop signal, and SIGKILL after `grace`. The end itself is told to `ended`; only a failure to
    /// stop is told to `kill_failed`.
    Kill { index: usize, grace: Duration, message: String },
    /// Sandbox, network and volumes go; logs stay. Told to `torn_down`. Handed out only when no container runs.
    TearDown,
    /// Delete the object from the API, now that the final status is there. A failure is told to `finalize_failed`.
    Finalize,
    /// Nothing is left: drop the pod's folders and forget it.
    Forget,
    /// An event: the container waits before it is started again.
    TellCrashBackoff { index: usize },
    /// An event: the image is not pulled again yet.
    TellPullBackoff { index: usize },
}

/// Actions, and when to ask again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub actions: Vec<Action>,
    pub wake: Option<Timestamp>,
}

impl Step {
    pub fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}
