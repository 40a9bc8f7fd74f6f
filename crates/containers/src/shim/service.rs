//! The shim's state and its loop.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, pipe2},
};
use runtime::Clock;

use super::{
    children::{self, JOB_TIME, Job, Purpose, Unclaimed, ending},
    clients::{Asker, Clients},
    container::{Container, OomWatch, Source, read_report, set_nonblocking},
    create::{self, Creation, Streams},
    exec,
    logs::{Log, MAX_FILE, Stream},
    memory, rootfs,
};
use crate::{
    cgroup::{Cgroup, Hierarchies},
    protocol::{Answer, Message, Op, Packet, Refusal, Request},
    record::SandboxRecord,
    sys,
    types::{ContainerId, ContainerState},
};

/// Containers of one pod, dead ones included; the runtime removes dead ones long before.
const MAX_CONTAINERS: usize = 512;
/// How long after the last work the shim gives back the memory that it took. Not at once: work comes in bursts.
const TIDY_AFTER: Duration = Duration::from_secs(2);
/// Commands that run at the same time in one pod.
const MAX_EXECS: usize = 256;

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

    fn perform(&mut self, op: Op, fds: Vec<OwnedFd>, asker: Asker) -> Result<Option<(Answer, Vec<OwnedFd>)>, Refusal> {
        let done = || Ok(Some((Answer::Done, Vec::new())));
        match op {
            Op::Subscribe => Ok(Some((self.subscribe(asker.client), Vec::new()))),
            Op::Create { container } => self.create(&container).and_then(|()| done()),
            Op::Start { container } => self.start(&container, asker).map(|()| None),
            Op::Signal { container, signal, all } => self.signal(&container, signal, all).and_then(|()| done()),
            Op::Remove { container } => self.remove(&container).and_then(|()| done()),
            Op::Exec { container, argv, tty, stdin, stdout, stderr } => {
                let wanted = [stdin, stdout, stderr];
                self.exec(&container, &argv, tty, wanted, fds, asker).map(|()| None)
            }
            Op::ExecKill { exec } => {
                if let Some(exec) = self.execs.iter().find(|e| e.id == exec) {
                    // It leads a session of its own, so this reaches what it started and did not detach.
                    let _ = nix::sys::signal::killpg(exec.pid, Signal::SIGKILL);
                }
                done()
            }
            Op::Attach { container } => {
                let stdin = self.running(&container)?.attach(fds).map_err(failed)?;
                Ok(Some((Answer::Done, stdin.into_iter().collect())))
            }
            Op::Resize { container, columns, rows } => {
                if let Some(terminal) = &self.running(&container)?.terminal {
                    sys::set_window_size(terminal.as_fd(), columns, rows).map_err(failed)?;
                }
                done()
            }
            Op::Stop => {
                self.stop();
                done()
            }
            Op::Shutdown => {
                self.finished = Some(asker);
                Ok(None)
            }
        }
    }

    fn subscribe(&mut self, key: u64) -> Answer {
        if let Some(client) = self.clients.list.iter_mut().find(|c| c.key == key) {
            client.subscribed = true;
        }
        let containers = self.containers.iter().map(|c| c.status.clone()).collect();
        Answer::State { pid: std::process::id(), stopped: self.stopped, containers }
    }

    fn create(&mut self, id: &ContainerId) -> Result<(), Refusal> {
        if self.stopped {
            return Err(Refusal::WrongState("the sandbox is stopped".into()));
        }
        if self.containers.len() >= MAX_CONTAINERS {
            return Err(Refusal::Invalid(format!("more than {MAX_CONTAINERS} containers in one sandbox")));
        }
        let cgroup = self.hierarchies.group(&self.container_cgroup(id));
        let container = Container::load(&self.dir, id, cgroup).map_err(failed)?;
        self.containers.push(container);
        self.tell_status(id);
        Ok(())
    }

    fn container_cgroup(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.record.cgroup)
    }

    fn pod_cgroup(&self) -> Cgroup {
        self.hierarchies.group(&self.record.cgroup)
    }

    fn find(&mut self, id: &ContainerId) -> Result<&mut Container, Refusal> {
        self.containers.iter_mut().find(|c| c.status.id == *id).ok_or(Refusal::NotFound)
    }

    fn running(&mut self, id: &ContainerId) -> Result<&mut Container, Refusal> {
        let container = self.find(id)?;
        if container.is_running() { Ok(container) } else { Err(Refusal::WrongState(state_name(container))) }
    }

    /// Begins to make the container's process. The answer comes when its helper has reported.
    fn start(&mut self, id: &ContainerId, asker: Asker) -> Result<(), Refusal> {
        if self.stopped {
            return Err(Refusal::WrongState("the sandbox is stopped".into()));
        }
        let container = self.find(id)?;
        if container.starting || container.status.state != ContainerState::Created {
            return Err(Refusal::WrongState(state_name(container)));
        }
        let clock = self.clock.clone();
        if let Err(error) = self.fork_creation(id, asker) {
            let reason = error.to_string();
            self.find(id)?.not_started(&reason, &clock);
            self.tell_status(id);
            return Err(Refusal::Start(reason));
        }
        Ok(())
    }

    fn fork_creation(&mut self, id: &ContainerId, asker: Asker) -> io::Result<()> {
        let (cgroup_path, deadline) = (self.container_cgroup(id), self.clock.monotonic() + JOB_TIME);
        let Shim { containers, dir, record, namespaces, hierarchies, clock, jobs, .. } = self;
        let Some(container) = containers.iter_mut().find(|c| c.status.id == *id) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let path = container.record.log_path.clone();
        let log = Log::open(&path, MAX_FILE, clock.clone());
        container.log = Some(log.map_err(|e| io::Error::new(e.kind(), format!("open log {path:?}: {e}")))?);
        let (streams, console) = connect(container, dir)?;
        container.starting = true;
        let container = &*container;
        let creation = Creation {
            sandbox: record,
            container: &container.record,
            pod_dir: dir,
            dir: &container.dir,
            namespaces,
            cgroup: &container.cgroup,
            cgroup_path: &cgroup_path,
            device_control: !hierarchies.is_pure_v2(),
            streams,
        };
        let purpose = Purpose::Start { container: id.clone(), console };
        jobs.push(children::start(purpose, asker, deadline, move |reporter| create::create(creation, reporter))?);
        Ok(())
    }

    fn signal(&mut self, id: &ContainerId, signal: i32, all: bool) -> Result<(), Refusal> {
        let container = self.find(id)?;
        let Some(pid) = container.pid().filter(|_| container.is_running()) else { return Ok(()) };
        if all {
            container.cgroup.kill();
            return Ok(());
        }
        // Real-time signals have no name in nix, so the number goes to the kernel as it is.
        sys::signal(pid, signal).map_err(failed)
    }

    fn remove(&mut self, id: &ContainerId) -> Result<(), Refusal> {
        let container = self.find(id)?;
        if container.starting || container.is_running() {
            return Err(Refusal::WrongState(state_name(container)));
        }
        container.cgroup.remove().map_err(failed)?;
        container.remove_files().map_err(failed)?;
        self.containers.retain(|c| c.status.id != *id);
        Ok(())
    }

    fn exec(
        &mut self,
        id: &ContainerId,
        argv: &[String],
        tty: bool,
        wanted: [bool; 3],
        fds: Vec<OwnedFd>,
        asker: Asker,
    ) -> Result<(), Refusal> {
        let deadline = self.clock.monotonic() + JOB_TIME;
        if self.execs.len() + self.jobs.len() >= MAX_EXECS {
            return Err(Refusal::Exec(format!("more than {MAX_EXECS} commands at once")));
        }
        self.next_exec += 1;
        let number = self.next_exec;
        let container = self.running(id)?;
        let init = container.pid().ok_or(Refusal::NotFound)?;
        let mut given = fds.into_iter();
        let (streams, console) = if tty {
            let master = rootfs::open_terminal(init.as_raw()).map_err(failed)?;
            let peer = sys::open_peer(&master).map_err(failed)?;
            let copy = || peer.try_clone().map_err(failed);
            ([Some(copy()?), Some(copy()?), Some(copy()?)], Some(master))
        } else {
            (wanted.map(|wanted| if wanted { given.next() } else { None }), None)
        };
        let command =
            exec::Command { init, bundle: &container.dir, cgroup: &container.cgroup, argv, terminal: tty, streams };
        let purpose = Purpose::Exec { exec: number };
        let job = children::start(purpose, asker, deadline, move |reporter| exec::exec(command, reporter));
        self.jobs.push(job.map_err(failed)?);
        if let Some(master) = console {
            // The terminal goes ahead of the answer: the asker pairs them by the request's number.
            self.clients.reply(asker, Ok(Answer::Exec { exec: number }), &[&master]);
        }
        Ok(())
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
        let result = removed.and(files).map(|()| Answer::Done).map_err(failed);
        if let Some(asker) = self.finished {
            self.clients.reply(asker, result, &[]);
        }
    }
}

/// Makes the container's streams: its ends, and ours on the container.
fn connect(container: &mut Container, pod: &std::path::Path) -> io::Result<(Streams, Option<OwnedFd>)> {
    if container.record.config.tty {
        // In the pod's folder, for a socket's path must be short. Its container is started once.
        let socket = pod.join(format!("c{}", container.status.id.as_str().get(..8).unwrap_or("")));
        let _ = std::fs::remove_file(&socket);
        let listener = console_listener(&socket)?;
        return Ok((Streams::Terminal { socket }, Some(listener)));
    }
    let (out_read, stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (err_read, stderr) = pipe2(OFlag::O_CLOEXEC)?;
    for (fd, stream) in [(out_read, Stream::Stdout), (err_read, Stream::Stderr)] {
        set_nonblocking(&fd)?;
        container.sources.push(Source { fd, stream });
    }
    let stdin = if container.record.config.stdin {
        let (stdin, write) = pipe2(OFlag::O_CLOEXEC)?;
        container.stdin = Some(write);
        stdin
    } else {
        std::fs::File::open("/dev/null")?.into()
    };
    Ok((Streams::Pipes { stdin, stdout, stderr }, None))
}

/// libcontainer sends the terminal's master to a stream socket.
fn console_listener(path: &std::path::Path) -> io::Result<OwnedFd> {
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
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

fn state_name(container: &Container) -> String {
    match container.status.state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
    }
    .to_owned()
}

fn failed(error: io::Error) -> Refusal {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT => Refusal::Failed(format!("a file is missing: {error}")),
        _ => Refusal::Failed(error.to_string()),
    }
}
