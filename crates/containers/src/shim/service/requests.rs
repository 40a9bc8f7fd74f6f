//! What the runtime asks a shim to do, one method each. What takes a process of its own is begun here and answered when
//! the process has reported.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{errno::Errno, fcntl::OFlag, sys::signal::Signal, unistd::pipe2};

use super::Shim;
use crate::{
    protocol::{Answer, Op, Refusal},
    shim::{
        children::{self, JOB_TIME, Purpose},
        clients::Asker,
        container::{Container, Source, set_nonblocking},
        create::{self, Creation, Streams},
        exec,
        logs::{Log, MAX_FILE, Stream},
        rootfs,
    },
    sys,
    types::{ContainerId, ContainerState},
};

/// Containers of one pod, dead ones included; the runtime removes dead ones long before.
const MAX_CONTAINERS: usize = 512;
/// Commands that run at the same time in one pod.
const MAX_EXECS: usize = 256;

impl Shim {
    pub(super) fn perform(
        &mut self,
        op: Op,
        fds: Vec<OwnedFd>,
        asker: Asker,
    ) -> Result<Option<(Answer, Vec<OwnedFd>)>, Refusal> {
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

    pub(super) fn find(&mut self, id: &ContainerId) -> Result<&mut Container, Refusal> {
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
        let made = container.cgroup.create();
        made.map_err(|e| io::Error::new(e.kind(), format!("make the container's cgroup: {e}")))?;
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
        // On pure v2 the container's cgroup would count this helper's memory as the container's.
        let into = container.cgroup.v2().filter(|_| creation.device_control);
        let body = move |reporter: &mut _, placed| create::create(creation, reporter, placed);
        jobs.push(children::start(purpose, asker, deadline, into.as_deref(), body)?);
        Ok(())
    }

    pub(super) fn signal(&mut self, id: &ContainerId, signal: i32, all: bool) -> Result<(), Refusal> {
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
        let into = command.cgroup.v2();
        let body = move |reporter: &mut _, placed| exec::exec(command, reporter, placed);
        let job = children::start(purpose, asker, deadline, into.as_deref(), body);
        self.jobs.push(job.map_err(failed)?);
        if let Some(master) = console {
            // The terminal goes ahead of the answer: the asker pairs them by the request's number.
            self.clients.reply(asker, Ok(Answer::Exec { exec: number }), &[&master]);
        }
        Ok(())
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

fn state_name(container: &Container) -> String {
    match container.status.state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
    }
    .to_owned()
}

pub(super) fn failed(error: io::Error) -> Refusal {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT => Refusal::Failed(format!("a file is missing: {error}")),
        _ => Refusal::Failed(error.to_string()),
    }
}
