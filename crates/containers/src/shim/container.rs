//! One container as the shim sees it: its record, its process, its streams and the memory of how it ended.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
    unistd::Pid,
};
use runtime::Clock;

use super::logs::{Log, Stream};
use crate::{
    cgroup::{Cgroup, OomSource},
    record::{self, CONTAINER_FILE, CONTAINERS, ContainerRecord, STATUS_FILE},
    sys,
    types::{ContainerId, ContainerState, ContainerStatus},
};

/// How much is read from a container at once.
const CHUNK: usize = 16 * 1024;

/// A pipe or terminal that the container writes to.
pub(super) struct Source {
    pub(super) fd: OwnedFd,
    pub(super) stream: Stream,
}

/// Someone who reads along.
struct Sink {
    file: File,
    stream: Stream,
}

pub(super) struct Container {
    pub(super) record: ContainerRecord,
    pub(super) status: ContainerStatus,
    pub(super) dir: PathBuf,
    pub(super) cgroup: Cgroup,
    /// Set from the fork of the creating child until its answer.
    pub(super) starting: bool,
    pub(super) sources: Vec<Source>,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) log: Option<Log>,
    pub(super) oom: Option<OomWatch>,
    oom_seen: u64,
    sinks: Vec<Sink>,
}

/// Becomes readable when the kernel has killed something for memory.
pub(super) enum OomWatch {
    EventFd(OwnedFd),
    Inotify(Inotify),
}

impl Container {
    /// Reads what the runtime has written for the container.
    pub(super) fn load(pod: &Path, id: &ContainerId, cgroup: Cgroup) -> io::Result<Container> {
        let dir = pod.join(CONTAINERS).join(id.as_str());
        let record: ContainerRecord = record::read(&dir.join(CONTAINER_FILE))?;
        let config = &record.config;
        let stop = config.stop_signal.as_ref().unwrap_or(&record.image.stop_signal);
        let status = ContainerStatus {
            id: id.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            image: config.image.clone(),
            image_id: record.image_id.clone(),
            image_ref: record.image_ref.clone(),
            state: ContainerState::Created,
            created_at: Some(record.created_at),
            log_path: record.log_path.clone(),
            stop_signal: if stop.is_empty() { "SIGTERM".into() } else { stop.clone() },
            tty: config.tty,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ..ContainerStatus::default()
        };
        let container = Container {
            record,
            status,
            dir,
            cgroup,
            starting: false,
            sources: Vec::new(),
            stdin: None,
            terminal: None,
            log: None,
            oom: None,
            oom_seen: 0,
            sinks: Vec::new(),
        };
        container.save()?;
        Ok(container)
    }

    pub(super) fn save(&self) -> io::Result<()> {
        record::write(&self.dir.join(STATUS_FILE), &self.status)
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        self.status.pid.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
    }

    pub(super) fn is_running(&self) -> bool {
        self.status.state == ContainerState::Running
    }

    /// Records that the process runs.
    pub(super) fn started(&mut self, pid: Pid, clock: &Clock) {
        self.starting = false;
        self.status.state = ContainerState::Running;
        self.status.pid = u32::try_from(pid.as_raw()).ok();
        self.status.started_at = Some(clock.now());
        let _ = self.save();
    }

    /// Records that it could not be started.
    pub(super) fn not_started(&mut self, reason: &str, clock: &Clock) {
        self.starting = false;
        self.status.state = ContainerState::Exited;
        self.status.finished_at = Some(clock.now());
        self.status.exit_code = 128;
        reason.clone_into(&mut self.status.message);
        "StartError".clone_into(&mut self.status.reason);
        self.close();
        let _ = self.save();
    }

    /// Records its end, after everything that it wrote has gone into the log.
    pub(super) fn ended(&mut self, code: i32, signal: Option<i32>, clock: &Clock) {
        // Only a PID namespace of its own ends with its first process.
        self.cgroup.kill();
        self.drain();
        let killed_for_memory = self.cgroup.oom_kills() > 0 && code != 0;
        self.status.state = ContainerState::Exited;
        self.status.pid = None;
        self.status.finished_at = Some(clock.now());
        self.status.exit_code = code;
        self.status.signal = signal;
        self.status.reason = match (killed_for_memory, code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        }
        .to_owned();
        self.close();
        let _ = self.save();
    }

    fn close(&mut self) {
        if let Some(log) = &mut self.log {
            let _ = log.finish();
        }
        self.sources.clear();
        self.sinks.clear();
        (self.log, self.stdin, self.terminal, self.oom) = (None, None, None, None);
    }

    /// Reads from source `index` once. Closes it at its end.
    pub(super) fn pump(&mut self, index: usize) -> bool {
        let mut chunk = [0; CHUNK];
        let Some(source) = self.sources.get(index) else { return false };
        let stream = source.stream;
        match nix::unistd::read(&source.fd, &mut chunk) {
            Ok(0) => {}
            Ok(length) => {
                self.deliver(stream, &chunk[..length]);
                return true;
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return false,
            // A terminal answers EIO when nobody holds its other side.
            Err(_) => {}
        }
        self.sources.remove(index);
        false
    }

    fn deliver(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            // A full disk loses log lines; it must not stop the container.
            let _ = log.write(stream, bytes);
        }
        // A reader whose pipe is full is cut off rather than slowing the container down.
        self.sinks.retain_mut(|sink| {
            sink.stream != stream || matches!(sink.file.write(bytes), Ok(length) if length == bytes.len())
        });
    }

    fn drain(&mut self) {
        for index in (0..self.sources.len()).rev() {
            while self.pump(index) {}
        }
    }

    /// Lets someone read along. With `stdin_once` the caller also gets the only end of the input.
    pub(super) fn attach(&mut self, fds: Vec<OwnedFd>) -> io::Result<Option<OwnedFd>> {
        for (fd, stream) in fds.into_iter().zip([Stream::Stdout, Stream::Stderr]) {
            set_nonblocking(&fd)?;
            self.sinks.push(Sink { file: File::from(fd), stream });
        }
        if let Some(terminal) = &self.terminal {
            return Ok(Some(terminal.try_clone()?));
        }
        if self.record.config.stdin_once {
            return Ok(self.stdin.take());
        }
        self.stdin.as_ref().map(OwnedFd::try_clone).transpose()
    }

    /// Asks the kernel to tell of memory kills.
    pub(super) fn watch_memory(&mut self) {
        self.oom = match self.cgroup.oom_source() {
            OomSource::Control(dir) => register(&dir).ok().map(OomWatch::EventFd),
            OomSource::Events(file) => watch(&file).ok().map(OomWatch::Inotify),
            OomSource::Nothing => None,
        };
    }

    /// Whether something was killed for memory since the last call.
    pub(super) fn take_oom(&mut self) -> bool {
        match &self.oom {
            Some(OomWatch::EventFd(fd)) => drop(nix::unistd::read(fd, &mut [0; 8])),
            Some(OomWatch::Inotify(watch)) => drop(watch.read_events()),
            None => {}
        }
        let kills = self.cgroup.oom_kills();
        let new = kills > self.oom_seen;
        self.oom_seen = kills;
        new
    }

    pub(super) fn remove_files(&self) -> io::Result<()> {
        for dir in [&self.record.files_dir, &self.dir] {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// v1: the kernel writes into an eventfd that was registered for the cgroup.
fn register(dir: &Path) -> io::Result<OwnedFd> {
    let event = sys::event_fd()?;
    let control = File::open(dir.join("memory.oom_control"))?;
    fs::write(dir.join("cgroup.event_control"), format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))?;
    Ok(event)
}

/// v2: the kernel marks the file as changed.
fn watch(file: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(file, AddWatchFlags::IN_MODIFY)?;
    Ok(inotify)
}

pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// What a child wrote before it went away, at most so much.
pub(super) fn read_report(fd: &OwnedFd, text: &mut Vec<u8>) -> io::Result<bool> {
    const MAX_REPORT: u64 = 64 * 1024;
    let mut file = File::from(fd.try_clone()?);
    let mut chunk = [0; 4096];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(length) if text.len() as u64 <= MAX_REPORT => text.extend_from_slice(&chunk[..length]),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
