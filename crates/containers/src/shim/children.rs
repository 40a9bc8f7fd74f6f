//! Children that are at work: those that create containers and those that become commands, until they have reported.
//!
//! A report is JSON on a pipe that closes when the new program has taken over (every descriptor of the helper is
//! closed by exec) or when the helper has died: only then is it complete.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use nix::{fcntl::OFlag, sys::wait::WaitStatus, unistd::Pid};
use serde::{Deserialize, Serialize};

use super::{clients::Asker, container::set_nonblocking};
use crate::{
    sys::{self, Side},
    types::ContainerId,
};

/// A helper that takes longer is killed.
pub(super) const JOB_TIME: Duration = Duration::from_secs(60);
/// Ends of processes that nobody has claimed yet. Only those of running jobs matter, so few are kept.
const MAX_UNCLAIMED: usize = 64;

/// What a helper says, one JSON document per line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The new process.
    Pid(i32),
    Failed(String),
}

pub(super) enum Purpose {
    Start { container: ContainerId, console: Option<OwnedFd> },
    Exec { exec: u64 },
}

pub(super) struct Job {
    pub(super) helper: Pid,
    pub(super) purpose: Purpose,
    pub(super) asker: Asker,
    pub(super) pipe: OwnedFd,
    pub(super) text: Vec<u8>,
    pub(super) deadline: Duration,
}

impl Job {
    /// The outcome when the pipe has closed: the process, or why there is none.
    pub(super) fn outcome(&self) -> Result<Pid, String> {
        let (mut pid, mut failure) = (None, None);
        for line in self.text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Report::Pid(number)) => pid = Some(Pid::from_raw(number)),
                Ok(Report::Failed(reason)) => failure = failure.or(Some(reason)),
                Err(_) => {}
            }
        }
        match (failure, pid) {
            (Some(reason), _) => Err(reason),
            (None, Some(pid)) => Ok(pid),
            (None, None) => Err("the helper process ended without a word".into()),
        }
    }
}

/// Forks a helper that runs `body` with the writing end of its report, and ends. It is born in the folder `into` where
/// that is possible; `body` is told whether it was.
pub(super) fn start(
    purpose: Purpose,
    asker: Asker,
    deadline: Duration,
    into: Option<&Path>,
    body: impl FnOnce(&mut Reporter, bool) -> Result<(), String>,
) -> io::Result<Job> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let helper = match sys::fork_into(into)? {
        Side::Parent(helper) => helper,
        Side::Child { placed } => {
            drop(read);
            let mut reporter = Reporter(File::from(write));
            // The new program must not start with our signals blocked.
            let _ = nix::sys::signal::SigSet::all().thread_unblock();
            let code = match body(&mut reporter, placed) {
                Ok(()) => 0,
                Err(reason) => {
                    reporter.say(&Report::Failed(reason));
                    1
                }
            };
            sys::exit_child(code);
        }
    };
    drop(write);
    set_nonblocking(&read)?;
    Ok(Job { helper, purpose, asker, pipe: read, text: Vec::new(), deadline })
}

/// The helper's side of the pipe.
pub(super) struct Reporter(File);

impl Reporter {
    pub(super) fn say(&mut self, report: &Report) {
        let mut line = serde_json::to_vec(report).expect("a report is plain text and numbers");
        line.push(b'\n');
        let _ = self.0.write_all(&line);
    }
}

/// Ends of processes that were reaped before their job had reported them.
#[derive(Default)]
pub(super) struct Unclaimed(VecDeque<(Pid, i32, Option<i32>)>);

impl Unclaimed {
    pub(super) fn keep(&mut self, pid: Pid, code: i32, signal: Option<i32>) {
        if self.0.len() >= MAX_UNCLAIMED {
            self.0.pop_front();
        }
        self.0.push_back((pid, code, signal));
    }

    pub(super) fn claim(&mut self, pid: Pid) -> Option<(i32, Option<i32>)> {
        let at = self.0.iter().position(|(p, _, _)| *p == pid)?;
        self.0.remove(at).map(|(_, code, signal)| (code, signal))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Exit code and signal of an ended process; a signal counts as 128 and its number, as shells do.
pub(super) fn ending(status: WaitStatus) -> Option<(Pid, i32, Option<i32>)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((pid, code, None)),
        WaitStatus::Signaled(pid, signal, _) => Some((pid, 128 + signal as i32, Some(signal as i32))),
        _ => None,
    }
}
