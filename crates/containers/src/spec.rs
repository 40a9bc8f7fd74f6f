//! From a container's configuration to the OCI runtime specification, as JSON. Pure: looks at no file and no kernel;
//! what it needs of the machine comes in [`Machine`].

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::{
    error::Error,
    images::ImageConfig,
    types::{ContainerConfig, Propagation, SandboxConfig, Seccomp},
};

pub(crate) mod capabilities;
pub(crate) mod seccomp;
pub(crate) mod user;

use user::ResolvedUser;

/// What the specification needs to know of the machine and the sandbox.
pub(crate) struct Machine<'a> {
    pub(crate) rootfs: &'a Path,
    /// The container's cgroup below each hierarchy.
    pub(crate) cgroup: &'a str,
    /// Namespaces that the sandbox holds, by OCI type. What is absent and not private is the host's.
    pub(crate) namespaces: BTreeMap<&'static str, String>,
    /// The sandbox's `/dev/shm`; the host's IPC namespace uses the host's.
    pub(crate) shm: &'a Path,
    /// Capabilities that this process may pass on, without `CAP_`.
    pub(crate) bounding: &'a [&'static str],
    /// Whether a device cgroup restricts device nodes. Without it `MKNOD` is withheld.
    pub(crate) device_control: bool,
    /// Device nodes for `devices` and, when privileged, of the whole host.
    pub(crate) devices: Vec<DeviceNode>,
}

/// A device node to make.
pub(crate) struct DeviceNode {
    pub(crate) path: String,
    pub(crate) block: bool,
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) permissions: String,
}

/// The usual search path where neither image nor pod gives one.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The command line: Kubernetes' command and args over the image's entrypoint and cmd.
pub(crate) fn command_line(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, Error> {
    let (head, tail) = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.cmd[..]),
        (true, false) => (&image.entrypoint, &config.args[..]),
        (false, _) => (&config.command, &config.args[..]),
    };
    let argv: Vec<String> = head.iter().chain(tail).cloned().collect();
    if argv.is_empty() {
        return Err(Error::Invalid("no command specified".into()));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(Error::Invalid("a command word contains a zero byte".into()));
    }
    Ok(argv)
}

/// The image's environment with the pod's over it; a repeated name keeps its place and takes the last value.
fn environment(config: &ContainerConfig, image: &ImageConfig, hostname: &str, home: &str) -> Vec<String> {
    let mut list: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match list.iter_mut().find(|(n, _)| n == name) {
        Some(entry) => value.clone_into(&mut entry.1),
        None => list.push((name.to_owned(), value.to_owned())),
    };
    if let Some((name, value)) = DEFAULT_PATH.split_once('=') {
        set(name, value);
    }
    set("HOSTNAME", hostname);
    if config.tty {
        set("TERM", "xterm");
    }
    for entry in &image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    for (name, value) in &config.env {
        set(name, value);
    }
    if !list.iter().any(|(name, _)| name == "HOME") {
        list.push(("HOME".into(), home.to_owned()));
    }
    list.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The whole specification.
pub(crate) fn build(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    image: &ImageConfig,
    user: &ResolvedUser,
    machine: &Machine<'_>,
) -> Result<Value, Error> {
    let capabilities = capabilities::of(config, machine.bounding, machine.device_control)?;
    // A user other than root keeps its capabilities only through the ambient set, which Kubernetes does not use.
    let effective = if user.uid == 0 { capabilities.clone() } else { Vec::new() };
    let cwd = [&config.working_dir, &image.working_dir].into_iter().find(|dir| !dir.is_empty());
    let cwd = cwd.map_or("/", String::as_str);
    if !cwd.starts_with('/') {
        return Err(Error::Invalid(format!("working directory {cwd:?} is not an absolute path")));
    }
    let mut process = json!({
        "terminal": config.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": command_line(config, image)?,
        "env": environment(config, image, &sandbox.hostname, &user.home),
        "cwd": cwd,
        "capabilities": {
            "bounding": capabilities, "permitted": effective, "effective": effective,
            "inheritable": [], "ambient": [],
        },
    });
    // Only when wanted: libcontainer takes `false` for a reason to install the filter after privileges are gone.
    if config.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": machine.rootfs, "readonly": config.read_only_rootfs },
        "mounts": mounts(sandbox, config, machine)?,
        "linux": linux(sandbox, config, machine)?,
    }))
}

fn linux(sandbox: &SandboxConfig, config: &ContainerConfig, machine: &Machine<'_>) -> Result<Value, Error> {
    let mut namespaces = vec![json!({ "type": "mount" }), json!({ "type": "cgroup" })];
    for (kind, path) in &machine.namespaces {
        namespaces.push(json!({ "type": kind, "path": path }));
    }
    if !sandbox.host_pid && !machine.namespaces.contains_key("pid") {
        namespaces.push(json!({ "type": "pid" }));
    }
    let mut linux = json!({
        "namespaces": namespaces,
        "cgroupsPath": machine.cgroup,
        "resources": { "devices": device_rules(config, machine) },
        "devices": machine.devices.iter().map(device).collect::<Vec<_>>(),
    });
    if !sandbox.sysctls.is_empty() {
        linux["sysctl"] = json!(sandbox.sysctls);
    }
    if !config.privileged && !config.unmasked_proc {
        linux["maskedPaths"] = json!(MASKED_PATHS);
        linux["readonlyPaths"] = json!(READ_ONLY_PATHS);
    }
    if config.seccomp == Seccomp::RuntimeDefault && !config.privileged {
        let granted = capabilities::of(config, machine.bounding, machine.device_control)?;
        linux["seccomp"] = seccomp::runtime_default(&granted);
    }
    Ok(linux)
}

fn device(node: &DeviceNode) -> Value {
    json!({
        "path": node.path, "type": if node.block { "b" } else { "c" }, "major": node.major, "minor": node.minor,
        "fileMode": node.mode, "uid": node.uid, "gid": node.gid,
    })
}

fn device_rules(config: &ContainerConfig, machine: &Machine<'_>) -> Vec<Value> {
    if config.privileged {
        return vec![json!({ "allow": true, "type": "a", "access": "rwm" })];
    }
    let mut rules = vec![json!({ "allow": false, "type": "a", "access": "rwm" })];
    rules.extend(machine.devices.iter().map(|node| {
        json!({
            "allow": true, "type": if node.block { "b" } else { "c" }, "major": node.major, "minor": node.minor,
            "access": node.permissions,
        })
    }));
    rules
}

fn mounts(sandbox: &SandboxConfig, config: &ContainerConfig, machine: &Machine<'_>) -> Result<Vec<Value>, Error> {
    let sys_mode = if config.privileged { "rw" } else { "ro" };
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let mut list = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    if sandbox.network_namespace.is_some() {
        list.push(mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys_mode]));
    } else {
        // A new sysfs shows the network namespace of who mounts it, which needs to own that namespace.
        list.push(bind("/sys", "/sys", &["rbind", "nosuid", "noexec", "nodev", sys_mode]));
    }
    if sandbox.network_namespace.is_some() {
        list.push(mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys_mode]));
    }
    let shm = if sandbox.host_ipc { Path::new("/dev/shm") } else { machine.shm };
    list.push(bind("/dev/shm", shm, &["bind", "rw", "nosuid", "noexec", "nodev"]));
    // Parents before children, so that a mount does not hide one inside it; equal paths keep their order.
    let mut given: Vec<_> = config.mounts.iter().collect();
    given.sort_by_key(|m| m.container_path.components().count());
    for m in given {
        if !m.container_path.is_absolute() {
            return Err(Error::Invalid(format!("mount path {:?} is not absolute", m.container_path)));
        }
        let propagation = match m.propagation {
            Propagation::Private => "rprivate",
            Propagation::HostToContainer => "rslave",
        };
        let mode = if m.read_only { "ro" } else { "rw" };
        // What the pod mounts over a standard place replaces it.
        let destination = m.container_path.to_string_lossy().into_owned();
        list.retain(|old| old["destination"].as_str() != Some(destination.trim_end_matches('/')));
        list.push(bind(&destination, &m.host_path, &["rbind", propagation, mode]));
    }
    Ok(list)
}

fn bind(destination: &str, source: impl AsRef<Path>, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source.as_ref(), "options": options })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[track_caller]
    fn check_command(command: &[&str], args: &[&str], expected: Option<&[&str]>) {
        let image = ImageConfig { entrypoint: strings(&["entry"]), cmd: strings(&["cmd"]), ..Default::default() };
        let config = ContainerConfig { command: strings(command), args: strings(args), ..Default::default() };
        assert_eq!(command_line(&config, &image).ok(), expected.map(strings));
    }

    #[test]
    fn command_and_args_replace_entrypoint_and_cmd() {
        check_command(&[], &[], Some(&["entry", "cmd"]));
        check_command(&[], &["a"], Some(&["entry", "a"]));
        check_command(&["c"], &[], Some(&["c"]));
        check_command(&["c"], &["a"], Some(&["c", "a"]));
        check_command(&["\0"], &[], None);
    }

    #[test]
    fn a_pods_variable_wins_over_the_images() {
        let image = ImageConfig { env: strings(&["A=1", "PATH=/x", "B=2"]), ..Default::default() };
        let config = ContainerConfig { env: vec![("A".into(), "3".into())], ..Default::default() };
        let env = environment(&config, &image, "web-0", "/root");
        assert_eq!(env, strings(&["PATH=/x", "HOSTNAME=web-0", "A=3", "B=2", "HOME=/root"]));
    }

    #[test]
    fn a_users_mount_replaces_the_standard_one_and_parents_come_first() {
        let sandbox = SandboxConfig { network_namespace: Some("/n".into()), ..Default::default() };
        let mount = |path: &str| crate::types::Mount { container_path: path.into(), ..Default::default() };
        let config =
            ContainerConfig { mounts: vec![mount("/a/b"), mount("/dev/shm"), mount("/a")], ..Default::default() };
        let machine = Machine {
            rootfs: Path::new("/r"),
            cgroup: "/c",
            namespaces: BTreeMap::new(),
            shm: Path::new("/s"),
            bounding: &[],
            device_control: true,
            devices: Vec::new(),
        };
        let list = mounts(&sandbox, &config, &machine).unwrap();
        let paths: Vec<_> = list.iter().map(|m| m["destination"].as_str().unwrap()).collect();
        assert_eq!(&paths[paths.len() - 3..], ["/a", "/a/b", "/dev/shm"].as_slice());
        assert_eq!(paths.iter().filter(|p| **p == "/dev/shm").count(), 1);
    }
}
