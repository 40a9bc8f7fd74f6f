//! The helper that makes a container: mounts its root, writes its specification, enters the cgroups that libcontainer
//! leaves out, lets libcontainer create the container, sets its memory-kill score, and starts it.
//!
//! Runs in a fork of the shim, so that what libcontainer changes in its caller, allocates or hangs on goes away.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};

use super::{
    children::{Report, Reporter},
    rootfs,
};
use crate::{
    cgroup::Cgroup,
    error::chain,
    record::{ContainerRecord, SandboxRecord},
    spec::{self, DeviceNode, Machine, capabilities, user},
};

/// What the helper works on.
pub(super) struct Creation<'a> {
    pub(super) sandbox: &'a SandboxRecord,
    pub(super) container: &'a ContainerRecord,
    pub(super) pod_dir: &'a Path,
    pub(super) dir: &'a Path,
    pub(super) namespaces: &'a BTreeMap<&'static str, String>,
    pub(super) cgroup: &'a Cgroup,
    pub(super) cgroup_path: &'a str,
    /// On pure v2 there is no device cgroup that we program.
    pub(super) device_control: bool,
    pub(super) streams: Streams,
}

/// The container's ends.
pub(super) enum Streams {
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// The path of a socket that receives the terminal's master.
    Terminal {
        socket: PathBuf,
    },
}

/// Makes and starts the container, and reports its process.
pub(super) fn create(creation: Creation<'_>, reporter: &mut Reporter, placed: bool) -> Result<(), String> {
    let rootfs = creation.dir.join("rootfs");
    rootfs::mount_private(creation.container, &rootfs).map_err(|e| e.to_string())?;
    write_bundle(&creation, &rootfs).map_err(|e| chain(&e))?;
    // Before anything is forked, so that the container's cgroup namespace begins in these cgroups too.
    // On pure v2 libcontainer does it: there it would count this helper's memory as the container's.
    if creation.device_control {
        creation.cgroup.join_grouping(placed).map_err(|e| format!("enter the container's cgroup: {e}"))?;
    }
    let limited = creation.cgroup.limit(&creation.container.config.resources);
    limited.map_err(|e| format!("set the container's limits: {e}"))?;
    let state = creation.dir.join("oci");
    fs::create_dir_all(&state).map_err(|e| e.to_string())?;
    let id = &creation.container.id.as_str()[..32.min(creation.container.id.as_str().len())];
    let mut builder = ContainerBuilder::new(id.to_owned(), SyscallType::default());
    builder = builder.with_root_path(&state).map_err(|e| chain(&e))?;
    builder = match creation.streams {
        Streams::Pipes { stdin, stdout, stderr } => builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr),
        Streams::Terminal { socket } => builder.with_console_socket(Some(socket)),
    };
    let built = builder.as_init(creation.dir).with_systemd(false).with_detach(true).build();
    let mut container = built.map_err(|e| chain(&e))?;
    let pid = container.pid().ok_or("libcontainer names no process")?;
    if let Some(score) = creation.container.config.oom_score_adj {
        set_oom_score(pid.as_raw(), score);
    }
    reporter.say(&Report::Pid(pid.as_raw()));
    container.start().map_err(|e| chain(&e))
}

fn write_bundle(creation: &Creation<'_>, rootfs: &Path) -> Result<(), crate::Error> {
    let (record, config) = (creation.container, &creation.container.config);
    let inside = |path: &str| {
        rootfs::read_inside(rootfs, path).map_err(|e| crate::Error::Invalid(format!("read /{path} of the image: {e}")))
    };
    let user = user::resolve(&record.image.user, &config.run_as, &inside("etc/passwd")?, &inside("etc/group")?)?;
    let bounding = capabilities::bounding();
    let devices = devices(config.privileged, &config.devices)
        .map_err(|e| crate::Error::Invalid(format!("look at the host's devices: {e}")))?;
    let machine = Machine {
        rootfs,
        cgroup: creation.cgroup_path,
        namespaces: creation.namespaces.clone(),
        shm: &creation.pod_dir.join("shm"),
        bounding: &bounding,
        device_control: creation.device_control,
        devices,
    };
    let spec = spec::build(&creation.sandbox.config, config, &record.image, &user, &machine)?;
    if let Some(cwd) = spec["process"]["cwd"].as_str().filter(|cwd| *cwd != "/") {
        // Runtimes make a missing working folder. One that lies on a mount is made by whoever owns the mount.
        let _ = rootfs::make_folder_inside(rootfs, cwd);
    }
    crate::record::write(&creation.dir.join("config.json"), &spec)
        .map_err(|e| crate::Error::Invalid(format!("write the specification: {e}")))
}

/// The nodes for the container: those asked for, and all of the host's when privileged.
fn devices(privileged: bool, asked: &[crate::types::Device]) -> io::Result<Vec<DeviceNode>> {
    let mut nodes = Vec::new();
    for device in asked {
        let node = device_node(&device.host_path, &device.container_path, &device.permissions)?;
        nodes.push(node.ok_or_else(|| io::Error::other(format!("{:?} is not a device", device.host_path)))?);
    }
    if privileged {
        host_devices(Path::new("/dev"), 0, &mut nodes)?;
    }
    Ok(nodes)
}

fn host_devices(dir: &Path, depth: usize, nodes: &mut Vec<DeviceNode>) -> io::Result<()> {
    const MAX_DEPTH: usize = 4;
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let own = ["pts", "shm", "mqueue", "fd", "console", "ptmx", "null", "zero", "full", "tty", "random", "urandom"];
        if depth == 0 && own.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            host_devices(&path, depth + 1, nodes)?;
        } else if let Some(node) = device_node(&path, &path, "rwm")? {
            nodes.push(node);
        }
    }
    Ok(())
}

fn device_node(host: &Path, container: &Path, permissions: &str) -> io::Result<Option<DeviceNode>> {
    let found = fs::symlink_metadata(host)?;
    let kind = found.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Ok(None);
    }
    Ok(Some(DeviceNode {
        path: container.to_string_lossy().into_owned(),
        block: kind.is_block_device(),
        major: nix::sys::stat::major(found.rdev()),
        minor: nix::sys::stat::minor(found.rdev()),
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        permissions: permissions.to_owned(),
    }))
}

/// Sets the score as far as this process may: below what it has itself takes CAP_SYS_RESOURCE.
fn set_oom_score(pid: i32, score: i32) {
    let path = format!("/proc/{pid}/oom_score_adj");
    if fs::write(&path, score.clamp(-1000, 1000).to_string()).is_err() {
        let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let own: i32 = own.trim().parse().unwrap_or(0);
        let _ = fs::write(&path, score.max(own).to_string());
    }
}
