//! The helper that becomes a command inside a running container: joins its cgroup and namespaces, takes the user,
//! capabilities and filter of its specification, and executes. Runs in a fork of the shim.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs, io,
    os::fd::OwnedFd,
    path::Path,
};

use libcontainer::{
    capabilities,
    oci_spec::runtime::{Process, Spec},
    seccomp,
    syscall::syscall::create_syscall,
};
use nix::unistd::{Gid, Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, setgroups, setresgid, setresuid, setsid};

use super::children::{Report, Reporter};
use crate::{cgroup::Cgroup, sys};

/// What the helper works on.
pub(super) struct Command<'a> {
    pub(super) init: Pid,
    pub(super) bundle: &'a Path,
    pub(super) cgroup: &'a Cgroup,
    pub(super) argv: &'a [String],
    pub(super) terminal: bool,
    /// stdin, stdout, stderr; `None` is /dev/null.
    pub(super) streams: [Option<OwnedFd>; 3],
}

/// Becomes the command. Reports its process; on failure says why.
pub(super) fn exec(command: Command<'_>, reporter: &mut Reporter, placed: bool) -> Result<(), String> {
    let text = fs::read(command.bundle.join("config.json")).map_err(|e| e.to_string())?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    command.cgroup.join(placed).map_err(|e| format!("join the container's cgroup: {e}"))?;
    let streams = command.streams.map(|fd| fd.map_or_else(null, Ok));
    let [stdin, stdout, stderr] = streams;
    let open = |r: io::Result<OwnedFd>| r.map_err(|e| e.to_string());
    let (stdin, stdout, stderr) = (open(stdin)?, open(stdout)?, open(stderr)?);
    let pidfd = sys::pidfd_open(command.init).map_err(|e| e.to_string())?;
    sys::join_namespaces(&pidfd).map_err(|e| format!("join the container's namespaces: {e}"))?;
    // A PID namespace is entered by children only.
    match sys::fork().map_err(|e| e.to_string())? {
        Some(child) => {
            reporter.say(&Report::Pid(child.as_raw()));
            Ok(())
        }
        None => {
            setsid().map_err(|e| e.to_string())?;
            let placed = dup2_stdin(&stdin).and_then(|()| dup2_stdout(&stdout)).and_then(|()| dup2_stderr(&stderr));
            placed.map_err(|e| e.to_string())?;
            if command.terminal {
                sys::take_terminal().map_err(|e| format!("take the terminal: {e}"))?;
            }
            become_program(&spec, command.argv)
        }
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// Drops what the container's own process does not have either, in an order that leaves each step the privilege it
/// needs, and executes.
fn become_program(spec: &Spec, argv: &[String]) -> Result<(), String> {
    let process = spec.process().as_ref().ok_or("the specification names no process")?;
    let filter = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    let syscall = create_syscall();
    let install = || filter.map_or(Ok(()), |f| seccomp::initialize_seccomp(f).map(drop)).map_err(|e| e.to_string());
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    if no_new_privileges {
        sys::no_new_privileges().map_err(|e| e.to_string())?;
    }
    take_identity(process)?;
    sys::close_on_exec_from(3).map_err(|e| e.to_string())?;
    // Changing the user has cleared what is in effect, which installing the filter needs.
    capabilities::reset_effective(syscall.as_ref()).map_err(|e| e.to_string())?;
    if !no_new_privileges {
        install()?;
    }
    if let Some(held) = process.capabilities() {
        capabilities::drop_privileges(held, syscall.as_ref()).map_err(|e| e.to_string())?;
    }
    std::env::set_current_dir(process.cwd()).map_err(|e| format!("enter {:?}: {e}", process.cwd()))?;
    if no_new_privileges {
        install()?;
    }
    run(process, argv)
}

fn take_identity(process: &Process) -> Result<(), String> {
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let take = || -> io::Result<()> {
        setgroups(&groups)?;
        // Capabilities are dropped to the container's own a step later; setuid would drop them all at once.
        sys::keep_capabilities(true)?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        sys::keep_capabilities(false)
    };
    take().map_err(|e| format!("become user {uid}: {e}"))
}

/// Executes; comes back only to say why not.
fn run(process: &Process, argv: &[String]) -> Result<(), String> {
    let environment = process.env().clone().unwrap_or_default();
    let variables: HashMap<&str, &str> = environment.iter().filter_map(|e| e.split_once('=')).collect();
    let text = |word: &String| CString::new(word.as_bytes()).map_err(|_| "a word contains a zero byte".to_owned());
    let arguments = argv.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let environment: Vec<CString> = environment.iter().map(text).collect::<Result<_, _>>()?;
    let name = argv.first().ok_or("no command specified")?;
    if name.contains('/') {
        let error = attempt(name, &arguments, &environment)?;
        return Err(format!("exec: {name:?}: stat {name}: {}", error.desc().to_lowercase()));
    }
    let mut denied = false;
    for dir in variables.get("PATH").copied().unwrap_or("/bin:/usr/bin").split(':') {
        let path = format!("{}/{name}", if dir.is_empty() { "." } else { dir });
        match attempt(&path, &arguments, &environment)? {
            nix::Error::ENOENT | nix::Error::ENOTDIR => {}
            nix::Error::EACCES => denied = true,
            error => return Err(format!("exec {path}: {}", error.desc().to_lowercase())),
        }
    }
    let reason = if denied { "permission denied" } else { "executable file not found in $PATH" };
    Err(format!("exec: {name:?}: {reason}"))
}

fn attempt(path: &str, arguments: &[CString], environment: &[impl AsRef<CStr>]) -> Result<nix::Error, String> {
    let path = CString::new(path).map_err(|_| "a word contains a zero byte".to_owned())?;
    let environment: Vec<&CStr> = environment.iter().map(AsRef::as_ref).collect();
    match nix::unistd::execve(&path, arguments, &environment) {
        Err(error) => Ok(error),
        Ok(never) => match never {},
    }
}
