//! From the command line to the running shim: leave the caller's session and cgroup, take the pod's namespaces, open
//! the socket, and only then let the caller go on.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::{
    fcntl::OFlag,
    mount::{MsFlags, mount},
    sched::CloneFlags,
    sys::signal::{SigSet, Signal},
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid},
};

use super::service::Shim;
use crate::{
    cgroup::Hierarchies,
    record::{self, SANDBOX_FILE, SOCKET, SandboxRecord},
    sys::{self, Side},
};

/// Size of a pod's `/dev/shm`, as container runtimes give.
const SHM_SIZE: &str = "size=67108864,mode=1777";

/// Starts the shim in a process of its own. In the calling process it returns once the shim answers or has failed.
pub(super) fn launch(dir: PathBuf) -> io::Result<ExitCode> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let record: SandboxRecord =
        record::read(&dir.join(SANDBOX_FILE)).map_err(|e| describe("read the sandbox's record", &e))?;
    let shims = Hierarchies::detect().group(&record.shim_cgroup);
    shims.create().map_err(|e| describe("make the shims' cgroup", &e))?;
    if let Side::Child { placed } = sys::fork_into(shims.v2().as_deref())? {
        drop(read);
        run(&dir, record, placed, write);
    }
    drop(write);
    let mut report = String::new();
    File::from(read).read_to_string(&mut report)?;
    match report.as_str() {
        "ok" => Ok(ExitCode::SUCCESS),
        "" => Err(io::Error::other("the shim ended while starting")),
        reason => Err(io::Error::other(reason.to_owned())),
    }
}

/// The shim's own process; does not return.
fn run(dir: &Path, record: SandboxRecord, placed: bool, report: OwnedFd) -> ! {
    let mut report = File::from(report);
    let shim = match prepare(dir, record, placed) {
        Ok(shim) => shim,
        Err(error) => {
            let _ = report.write_all(error.to_string().as_bytes());
            sys::exit_child(1);
        }
    };
    let _ = report.write_all(b"ok");
    drop(report);
    if silence().is_err() {
        sys::exit_child(1);
    }
    shim.serve();
    sys::exit_child(0)
}

fn prepare(dir: &Path, record: SandboxRecord, placed: bool) -> io::Result<Shim> {
    sys::set_name("plinth-shim");
    setsid()?;
    sys::become_subreaper()?;
    let hierarchies = Hierarchies::detect();
    let shims = hierarchies.group(&record.shim_cgroup);
    shims.join_grouping(placed).map_err(|e| describe("leave the caller's cgroup", &e))?;
    let pod = hierarchies.group(&record.cgroup);
    pod.create()
        .and_then(|()| pod.limit(&record.config.resources))
        .map_err(|e| describe("make the pod's cgroup", &e))?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    let (namespaces, pause) = take_namespaces(&record)?;
    if !record.config.host_ipc {
        mount_shm(&dir.join("shm")).map_err(|e| describe("mount the pod's shared memory", &e))?;
    }
    fs::create_dir_all(&record.config.log_directory).map_err(|e| describe("make the log folder", &e))?;
    let socket = sys::listen_at(&dir.join(SOCKET)).map_err(|e| describe("open the socket", &e))?;
    Shim::new(dir.to_path_buf(), record, hierarchies, namespaces, pause, socket, signals)
}

/// Makes the namespaces that the pod's containers share and returns their paths, and the first process of a shared
/// PID namespace.
fn take_namespaces(record: &SandboxRecord) -> io::Result<(BTreeMap<&'static str, String>, Option<Pid>)> {
    let config = &record.config;
    let mut paths = BTreeMap::new();
    let own = |kind: &str| format!("/proc/{}/ns/{kind}", std::process::id());
    let mut flags = CloneFlags::empty();
    if !config.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
        paths.insert("ipc", own("ipc"));
    }
    if let Some(path) = &config.network_namespace {
        flags |= CloneFlags::CLONE_NEWUTS;
        paths.insert("uts", own("uts"));
        paths.insert("network", path.to_string_lossy().into_owned());
    }
    nix::sched::unshare(flags).map_err(|e| describe("make the pod's namespaces", &e.into()))?;
    if config.network_namespace.is_some() && !config.hostname.is_empty() {
        sys::set_host_name(&config.hostname).map_err(|e| describe("set the host name", &e))?;
    }
    if !config.share_process_namespace || config.host_pid {
        return Ok((paths, None));
    }
    let pause = first_process().map_err(|e| describe("make the pod's PID namespace", &e))?;
    paths.insert("pid", format!("/proc/{pause}/ns/pid"));
    Ok((paths, Some(pause)))
}

/// Process 1 of the shared PID namespace: it only reaps what others leave behind.
fn first_process() -> io::Result<Pid> {
    let before = File::open("/proc/self/ns/pid")?;
    nix::sched::unshare(CloneFlags::CLONE_NEWPID)?;
    let child = sys::fork()?;
    if let Some(pid) = child {
        // Later children of the shim belong to the host's PID namespace again.
        nix::sched::setns(before.as_fd(), CloneFlags::CLONE_NEWPID)?;
        return Ok(pid);
    }
    sys::set_name("pause");
    let _ = sys::die_with_parent();
    let _ = silence();
    let _ = sys::close_from(3);
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGCHLD);
    loop {
        let _ = wanted.wait();
        let any = Pid::from_raw(-1);
        while nix::sys::wait::waitpid(any, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).is_ok_and(|s| s.pid().is_some())
        {
        }
    }
}

fn mount_shm(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("shm"), path, Some("tmpfs"), flags, Some(SHM_SIZE))?)
}

/// Leaves the caller's streams, so that it sees their end, and its folder.
fn silence() -> io::Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}

fn describe(action: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to {action}: {error}"))
}
