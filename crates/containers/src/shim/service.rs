//! The shim's state, its loop, and what follows when something ends. What the runtime asks for is in [`requests`].

mod requests;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use runtime::Clock;

use super::{
    children::{Job, Purpose, Unclaimed, ending},
    clients::{Asker, Clients},
    container::{Container, OomWatch, Source, read_report, set_nonblocking},
    logs::Stream,
    memory,
};
use crate::{
    cgroup::{Cgroup, Hierarchies},
    protocol::{Answer, Message, Packet, Refusal, Request},
    record::SandboxRecord,
    sys,
    types::ContainerId,
};

/// How long after the last work the shim gives back the memory that it took. Not at once: work comes in bursts.
const TIDY_AFTER: Duration = Duration::from_secs(2);

struct Exec {
    id: u64,
    pid: Pid,
    client: u64,
}

pub(super) struct Shim {
    dir: PathBuf,
    record: SandboxRecord,
    hierarchies: Hierarchies,
    namespaces: BTreeMap<&'static str, String>,
    pause: Option<Pid>,
    listener: OwnedFd,
    signals: SignalFd,
    clients: Clients,
    containers: Vec<Container>,
    jobs: Vec<Job>,
    execs: Vec<Exec>,
    unclaimed: Unclaimed,
    clock: Clock,
    next_exec: u64,
    stopped: bool,
    /// When to give memory back; `None` when nothing has happened since the last time.
    tidy_at: Option<Duration>,
    /// Who waits for the shutdown's answer.
    finished: Option<Asker>,
}

/// What a ready descriptor belongs to.
#[derive(Clone, Copy)]
enum Ready {
    Listener,
    Signals,
    Client(u64),
    Output(usize, usize),
    Oom(usize),
    Job(Pid),
}

impl Shim {
    pub(super) fn new(
        dir: PathBuf,
        record: SandboxRecord,
        hierarchies: Hierarchies,
        namespaces: BTreeMap<&'static str, String>,
        pause: Option<Pid>,
        listener: OwnedFd,
        signals: SigSet,
    ) -> io::Result<Shim> {
        Ok(Shim {
            signals: SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
            dir,
            record,
            hierarchies,
            namespaces,
            pause,
            listener,
            clients: Clients::default(),
            containers: Vec::new(),
            jobs: Vec::new(),
            execs: Vec::new(),
            unclaimed: Unclaimed::default(),
            tidy_at: Some(Clock::system().monotonic() + TIDY_AFTER),
            clock: Clock::system(),
            next_exec: 0,
            stopped: false,
            finished: None,
        })
    }

    /// Runs until the sandbox is removed.
    pub(super) fn serve(mut self) {
        while self.finished.is_none() {
            for ready in self.wait() {
                self.handle(ready);
            }
            self.end_overdue_jobs();
            self.tidy();
        }
        self.shut_down();
    }

    /// Waits for something to do. Descriptors of containers come last, so that their indices hold while handling.
    fn wait(&mut self) -> Vec<Ready> {
        let mut what = vec![Ready::Listener, Ready::Signals];
        let mut fds = vec![self.listener.as_fd(), self.signals.as_fd()];
        let mut add = |ready, fd| {
            what.push(ready);
            fds.push(fd);
        };
        for (index, container) in self.containers.iter().enumerate() {
            for (at, source) in container.sources.iter().enumerate().rev() {
                add(Ready::Output(index, at), source.fd.as_fd());
            }
            if let Some(watch) = &container.oom {
                add(Ready::Oom(index), oom_fd(watch));
            }
        }
        self.jobs.iter().for_each(|job| add(Ready::Job(job.helper), job.pipe.as_fd()));
        // Clients come last: what they ask for may remove a container and move the indices of others.
        self.clients.list.iter().for_each(|client| add(Ready::Client(client.key), client.socket.as_fd()));
        let mut polled: Vec<PollFd<'_>> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let next = self.jobs.iter().map(|job| job.deadline).chain(self.tidy_at).min();
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_sub(self.clock.monotonic());
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        if poll(&mut polled, timeout).is_err() {
            return Vec::new();
        }
        let ready = polled.iter().zip(what).filter(|(fd, _)| fd.any().unwrap_or(true));
        ready.map(|(_, what)| what).collect()
    }

    /// Gives memory back once, some time after the last work.
    fn tidy(&mut self) {
        if self.jobs.is_empty() && self.tidy_at.is_some_and(|at| at <= self.clock.monotonic()) {
            self.tidy_at = None;
            memory::release();
        }
    }

    fn handle(&mut self, ready: Ready) {
        if matches!(ready, Ready::Client(_) | Ready::Job(_)) {
            self.tidy_at = Some(self.clock.monotonic() + TIDY_AFTER);
        }
        match ready {
            Ready::Listener => self.clients.accept(&self.listener),
            Ready::Signals => {
                while self.signals.read_signal().is_ok_and(|s| s.is_some()) {}
                self.reap();
            }
            Ready::Client(key) => self.serve_client(key),
            Ready::Output(index, at) => {
                if let Some(container) = self.containers.get_mut(index) {
                    container.pump(at);
                }
            }
            Ready::Oom(index) => self.tell_oom(index),
            Ready::Job(helper) => self.job_reported(helper),
        }
    }

    fn serve_client(&mut self, key: u64) {
        loop {
            let packet = match self.clients.receive(key) {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(_) => return self.clients.drop_client(key),
            };
            let Packet { bytes, fds } = packet;
            let Ok(request) = serde_json::from_slice::<Request>(&bytes) else {
                return self.clients.drop_client(key);
            };
            let asker = Asker { client: key, request: request.id };
            match self.perform(request.op, fds, asker) {
                Ok(Some((answer, fds))) => self.clients.reply(asker, Ok(answer), &fds.iter().collect::<Vec<_>>()),
                // The answer comes with the job's end.
                Ok(None) => {}
                Err(refusal) => self.clients.reply(asker, Err(refusal), &[]),
            }
        }
    }

    fn pod_cgroup(&self) -> Cgroup {
        self.hierarchies.group(&self.record.cgroup)
    }

    fn job_reported(&mut self, helper: Pid) {
        let Some(at) = self.jobs.iter().position(|job| job.helper == helper) else { return };
        let job = &mut self.jobs[at];
        if let Ok(false) = read_report(&job.pipe, &mut job.text) {
            return;
        }
        let job = self.jobs.swap_remove(at);
        let outcome = job.outcome();
        match &job.purpose {
            Purpose::Start { container, .. } => self.container_made(container.clone(), &job, outcome),
            Purpose::Exec { exec } => self.command_made(*exec, job.asker, outcome),
        }
        if self.jobs.is_empty() {
            self.unclaimed.clear();
        }
    }

    fn container_made(&mut self, id: ContainerId, job: &Job, outcome: Result<Pid, String>) {
        let clock = self.clock.clone();
        let Ok(container) = self.find(&id) else { return };
        match outcome {
            Ok(pid) => {
                if let Purpose::Start { console: Some(console), .. } = &job.purpose {
                    take_terminal(container, console);
                }
                container.watch_memory();
                container.started(pid, &clock);
                // The status goes ahead of the answer, so that who asks next sees what was answered.
                self.tell_status(&id);
                self.clients.reply(job.asker, Ok(Answer::Done), &[]);
                // It may have ended before its helper said its number.
                if let Some((code, signal)) = self.unclaimed.claim(pid) {
                    self.container_ended(&id, code, signal);
                } else if self.stopped {
                    let _ = self.signal(&id, libc::SIGKILL, true);
                }
            }
            Err(reason) => {
                container.cgroup.kill();
                container.not_started(&reason, &clock);
                self.tell_status(&id);
                self.clients.reply(job.asker, Err(Refusal::Start(reason)), &[]);
            }
        }
    }

    fn command_made(&mut self, exec: u64, asker: Asker, outcome: Result<Pid, String>) {
        match outcome {
            Ok(pid) => {
                self.clients.reply(asker, Ok(Answer::Exec { exec }), &[]);
                match self.unclaimed.claim(pid) {
                    Some((code, _)) => self.clients.send(asker.client, &Message::ExecExited { exec, code }, &[]),
                    None => self.execs.push(Exec { id: exec, pid, client: asker.client }),
                }
            }
            Err(reason) => self.clients.reply(asker, Err(Refusal::Exec(reason)), &[]),
        }
    }

    /// Kills helpers that hang; their pipes close and the rest follows.
    fn end_overdue_jobs(&mut self) {
        let now = self.clock.monotonic();
        for job in self.jobs.iter_mut().filter(|job| job.deadline <= now) {
            let _ = kill(job.helper, Signal::SIGKILL);
            if let Purpose::Start { container, .. } = &job.purpose
                && let Some(container) = self.containers.iter().find(|c| c.status.id == *container)
            {
                container.cgroup.kill();
            }
            job.deadline = Duration::MAX;
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            if status.pid().is_none() {
                return;
            }
            if let Some((pid, code, signal)) = ending(status) {
                self.ended(pid, code, signal);
            }
        }
    }

    fn ended(&mut self, pid: Pid, code: i32, signal: Option<i32>) {
        if self.pause == Some(pid) {
            self.pause = None;
        } else if let Some(id) = self.containers.iter().find(|c| c.pid() == Some(pid)).map(|c| c.status.id.clone()) {
            self.container_ended(&id, code, signal);
        } else if let Some(at) = self.execs.iter().position(|e| e.pid == pid) {
            let exec = self.execs.swap_remove(at);
            self.clients.send(exec.client, &Message::ExecExited { exec: exec.id, code }, &[]);
        } else if !self.jobs.iter().any(|job| job.helper == pid) && !self.jobs.is_empty() {
            self.unclaimed.keep(pid, code, signal);
        }
    }

    fn container_ended(&mut self, id: &ContainerId, code: i32, signal: Option<i32>) {
        let clock = self.clock.clone();
        let Ok(container) = self.find(id) else { return };
        let oom = container.take_oom();
        container.ended(code, signal, &clock);
        if oom {
            self.clients.publish(&Message::Oom { container: id.clone() });
        }
        self.tell_status(id);
    }

    fn tell_oom(&mut self, index: usize) {
        let Some(container) = self.containers.get_mut(index) else { return };
        if container.take_oom() {
            let id = container.status.id.clone();
            self.clients.publish(&Message::Oom { container: id });
        }
    }

    fn tell_status(&mut self, id: &ContainerId) {
        let Some(status) = self.containers.iter().find(|c| c.status.id == *id).map(|c| c.status.clone()) else {
            return;
        };
        self.clients.publish(&Message::Status(Box::new(status)));
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.containers.iter().filter(|c| c.is_running() || c.starting).for_each(|c| c.cgroup.kill());
    }

    /// The end: nothing of the pod is left but its log files and what the runtime removes itself.
    fn shut_down(mut self) {
        self.stop();
        for job in &self.jobs {
            let _ = kill(job.helper, Signal::SIGKILL);
        }
        if let Some(pause) = self.pause {
            let _ = kill(pause, Signal::SIGKILL);
        }
        let removed = self.pod_cgroup().remove();
        let files = self.containers.iter().try_for_each(Container::remove_files);
        if !self.record.config.host_ipc {
            let _ = nix::mount::umount2(&self.dir.join("shm"), nix::mount::MntFlags::MNT_DETACH);
        }
        let result = removed.and(files).map(|()| Answer::Done).map_err(requests::failed);
        if let Some(asker) = self.finished {
            self.clients.reply(asker, result, &[]);
        }
    }
}

/// Takes the master that the container's process has sent before it was reported.
fn take_terminal(container: &mut Container, console: &OwnedFd) {
    let received = sys::accept(console).and_then(|socket| sys::receive(socket.as_fd()));
    let Ok(Some(packet)) = received else { return };
    let Some(master) = packet.fds.into_iter().next() else { return };
    let Ok(output) = master.try_clone() else { return };
    if set_nonblocking(&output).is_ok() {
        container.sources.push(Source { fd: output, stream: Stream::Stdout });
        container.terminal = Some(master);
    }
}

fn oom_fd(watch: &OomWatch) -> BorrowedFd<'_> {
    match watch {
        OomWatch::EventFd(fd) => fd.as_fd(),
        OomWatch::Inotify(watch) => watch.as_fd(),
    }
}
