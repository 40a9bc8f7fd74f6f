//! Control groups of pods and containers on pure v2, hybrid and pure v1 machines.
//!
//! ```text
//!   <root>/<qos>/pod<uid>/<container id>      in every v1 hierarchy with a controller that we use,
//!                                             and in the cgroup2 tree where there is one
//! ```
//!
//! On hybrid machines limits live in v1, and the cgroup2 folders are there for BPF programs and `cgroup.kill`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::types::{QosClass, Resources, Usage};

/// The v1 controllers that get a folder per pod. `systemd` is where its manager looks for a service's processes.
/// The rest is there because libcontainer enters them, so that they are removed again.
const V1_CONTROLLERS: [&str; 13] = [
    "cpu",
    "cpuacct",
    "memory",
    "pids",
    "devices",
    "freezer",
    "cpuset",
    "blkio",
    "systemd",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
];
/// What is handed down the tree on v2.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "cpuset", "io"];
/// How often a folder whose processes are just dying is tried again, and how long apart.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

/// The machine's hierarchies.
#[derive(Clone, Debug)]
pub(crate) struct Hierarchies {
    /// Controller name and mount point, for v1 hierarchies.
    v1: Vec<(&'static str, PathBuf)>,
    /// The cgroup2 tree.
    v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Looks at what is mounted under `/sys/fs/cgroup`.
    pub(crate) fn detect() -> Hierarchies {
        Self::detect_at(Path::new("/sys/fs/cgroup"))
    }

    fn detect_at(base: &Path) -> Hierarchies {
        let is_v2 = |path: &Path| statfs(path).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC);
        if is_v2(base) {
            return Hierarchies { v1: Vec::new(), v2: Some(base.to_path_buf()) };
        }
        let present = |name: &&str| base.join(name).join("cgroup.procs").exists();
        let v1 = V1_CONTROLLERS.iter().filter(|n| present(n)).map(|name| (*name, base.join(name))).collect();
        let unified = base.join("unified");
        Hierarchies { v1, v2: is_v2(&unified).then_some(unified) }
    }

    /// The cgroup2 tree's mount point.
    pub(crate) fn into_v2(self) -> Option<PathBuf> {
        self.v2
    }

    /// Whether limits live in the cgroup2 tree.
    pub(crate) fn is_pure_v2(&self) -> bool {
        self.v1.is_empty() && self.v2.is_some()
    }

    /// The cgroup at `path`, which starts with a slash.
    pub(crate) fn group(&self, path: &str) -> Cgroup {
        Cgroup { hierarchies: self.clone(), path: path.trim_start_matches('/').to_owned() }
    }
}

/// The path of a pod's cgroup.
pub(crate) fn pod_path(root: &str, qos: QosClass, uid: &str) -> String {
    let root = root.trim_end_matches('/');
    match qos {
        QosClass::Guaranteed => format!("{root}/guaranteed/pod{uid}"),
        QosClass::Burstable => format!("{root}/burstable/pod{uid}"),
        QosClass::BestEffort => format!("{root}/besteffort/pod{uid}"),
    }
}

/// One cgroup in every hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    hierarchies: Hierarchies,
    path: String,
}

impl Cgroup {
    /// Makes the folders, and on v2 hands the controllers down to them.
    pub(crate) fn create(&self) -> io::Result<()> {
        // libcontainer makes the cpuset folders: filling them in is slow, and once is enough.
        for (_, mount) in self.hierarchies.v1.iter().filter(|(name, _)| *name != "cpuset") {
            fs::create_dir_all(mount.join(&self.path))?;
        }
        let Some(mount) = &self.hierarchies.v2 else { return Ok(()) };
        let mut dir = mount.clone();
        for part in Path::new(&self.path).components() {
            if self.hierarchies.is_pure_v2() {
                for controller in V2_CONTROLLERS {
                    // A controller that the kernel lacks or the parent withholds only means that its limit is absent,
                    // and setting that limit will say so.
                    let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves the caller, which must be single-threaded, into it; a caller that was `placed` is in the cgroup2 folder.
    pub(crate) fn join(&self, placed: bool) -> io::Result<()> {
        // A thread that moves itself need not wait for all CPUs, as moving a process has to. v2 knows no such move.
        let v1 = self.hierarchies.v1.iter().map(|(_, mount)| mount.join(&self.path).join("tasks"));
        let v2 = self.v2().filter(|_| !placed).map(|dir| dir.join("cgroup.procs"));
        v1.chain(v2).try_for_each(|file| fs::write(file, "0"))
    }

    /// Moves the caller where processes are grouped without limits: cgroup2 and, beside v1 controllers, systemd's own
    /// hierarchy. That is what decides who is ended with a service, and what libcontainer leaves out on hybrid
    /// machines. Each move waits for all CPUs, so none is made in vain.
    pub(crate) fn join_grouping(&self, placed: bool) -> io::Result<()> {
        let systemd = self.hierarchies.v1.iter().find(|(name, _)| *name == "systemd").map(|(_, mount)| mount);
        let systemd = systemd.map(|mount| mount.join(&self.path).join("tasks"));
        let v2 = self.v2().filter(|_| !placed).map(|dir| dir.join("cgroup.procs"));
        systemd.into_iter().chain(v2).try_for_each(|file| fs::write(file, "0"))
    }

    /// The cgroup2 folder.
    pub(crate) fn v2(&self) -> Option<PathBuf> {
        self.hierarchies.v2.as_ref().map(|mount| mount.join(&self.path))
    }

    /// Writes the limits. A limit that the machine cannot enforce is an error: silence would be a lie.
    pub(crate) fn limit(&self, resources: &Resources) -> io::Result<()> {
        let set = |controller: &str, file: &str, value: String| {
            let path = self.controller(controller)?.join(file);
            fs::write(&path, &value).map_err(|e| io::Error::new(e.kind(), format!("write {value} to {path:?}: {e}")))
        };
        let v2 = self.hierarchies.is_pure_v2();
        if let Some(shares) = resources.cpu_shares {
            let shares = shares.clamp(2, 262_144);
            if v2 {
                set("cpu", "cpu.weight", cpu_weight(shares).to_string())?;
            } else {
                set("cpu", "cpu.shares", shares.to_string())?;
            }
        }
        if let (Some(quota), Some(period)) = (resources.cpu_quota_us, resources.cpu_period_us) {
            if v2 {
                let quota = if quota > 0 { quota.to_string() } else { "max".into() };
                set("cpu", "cpu.max", format!("{quota} {period}"))?;
            } else {
                set("cpu", "cpu.cfs_period_us", period.to_string())?;
                set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
            }
        }
        if let Some(limit) = resources.memory_limit_bytes.filter(|l| *l > 0) {
            set("memory", if v2 { "memory.max" } else { "memory.limit_in_bytes" }, limit.to_string())?;
        }
        if let Some(limit) = resources.pids_limit.filter(|l| *l > 0) {
            set("pids", "pids.max", limit.to_string())?;
        }
        Ok(())
    }

    /// Resource use now. A file that is missing counts as nothing.
    pub(crate) fn usage(&self) -> Usage {
        let read = |controller: &str, file: &str| {
            self.controller(controller).and_then(|dir| fs::read_to_string(dir.join(file))).unwrap_or_default()
        };
        let number = |text: String| text.trim().parse::<u64>().unwrap_or(0);
        let (cpu_ns, memory_bytes, inactive) = if self.hierarchies.is_pure_v2() {
            let cpu = field(&read("cpu", "cpu.stat"), "usage_usec") * 1000;
            (cpu, number(read("memory", "memory.current")), field(&read("memory", "memory.stat"), "inactive_file"))
        } else {
            let inactive = field(&read("memory", "memory.stat"), "total_inactive_file");
            (number(read("cpuacct", "cpuacct.usage")), number(read("memory", "memory.usage_in_bytes")), inactive)
        };
        Usage {
            cpu_ns,
            memory_bytes,
            memory_working_set_bytes: memory_bytes.saturating_sub(inactive),
            pids: number(read("pids", "pids.current")),
        }
    }

    /// How many processes the kernel has killed here for memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.hierarchies.is_pure_v2() { "memory.events" } else { "memory.oom_control" };
        let text = self.controller("memory").and_then(|dir| fs::read_to_string(dir.join(file))).unwrap_or_default();
        field(&text, "oom_kill")
    }

    /// Where the kernel tells of memory kills: a file to watch on v2, or the folder to register an eventfd in on v1.
    pub(crate) fn oom_source(&self) -> OomSource {
        match self.controller("memory") {
            Ok(dir) if self.hierarchies.is_pure_v2() => OomSource::Events(dir.join("memory.events")),
            Ok(dir) => OomSource::Control(dir),
            Err(_) => OomSource::Nothing,
        }
    }

    /// Sends SIGKILL to every process in it and below.
    pub(crate) fn kill(&self) {
        if let Some(dir) = self.v2() {
            // Kernels before 5.14 lack the file; the loop below does it then.
            let _ = fs::write(dir.join("cgroup.kill"), "1");
        }
        for dir in self.folders() {
            kill_tree(&dir);
        }
    }

    /// Kills what is left and removes the folders with those below them.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let folders: Vec<_> = self.folders().filter(|dir| dir.exists()).collect();
        for attempt in 0.. {
            let failed = folders.iter().find_map(|dir| remove_tree(dir).err());
            let Some(error) = failed else { return Ok(()) };
            if attempt >= REMOVE_TRIES {
                return Err(error);
            }
            self.kill();
            std::thread::sleep(REMOVE_PAUSE);
        }
        Ok(())
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let mounts = self.hierarchies.v1.iter().map(|(_, mount)| mount).chain(&self.hierarchies.v2);
        mounts.map(|mount| mount.join(&self.path))
    }

    fn controller(&self, name: &str) -> io::Result<PathBuf> {
        let mount = match &self.hierarchies {
            Hierarchies { v1, v2: Some(mount) } if v1.is_empty() => Some(mount),
            Hierarchies { v1, .. } => v1.iter().find(|(n, _)| *n == name).map(|(_, mount)| mount),
        };
        mount.map(|m| m.join(&self.path)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, format!("this machine has no {name} cgroup controller"))
        })
    }
}

/// How to learn of memory kills.
pub(crate) enum OomSource {
    Events(PathBuf),
    Control(PathBuf),
    Nothing,
}

/// The v2 weight for v1 shares, by the linear map that the kernel's documentation of the conversion uses.
fn cpu_weight(shares: u64) -> u64 {
    1 + ((shares - 2) * 9999) / 262_142
}

fn field(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name).and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

fn processes_below(dir: &Path) -> Vec<i32> {
    let mut pids: Vec<i32> = fs::read_to_string(dir.join("cgroup.procs"))
        .map(|text| text.lines().filter_map(|line| line.parse().ok()).collect())
        .unwrap_or_default();
    for child in folders_in(dir) {
        pids.extend(processes_below(&child));
    }
    pids
}

fn kill_tree(dir: &Path) {
    for pid in processes_below(dir) {
        // Zero is a process outside of our PID namespace: signalling it would hit our own group.
        if pid > 0 {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in folders_in(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn folders_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [(2, 1), (1024, 39), (262_144, 10_000)] {
            assert_eq!(cpu_weight(shares), weight);
        }
    }

    #[test]
    fn pods_sit_below_their_class() {
        assert_eq!(pod_path("/plinth/", QosClass::BestEffort, "u"), "/plinth/besteffort/podu");
    }

    #[test]
    fn fields_are_found_by_whole_name() {
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), 3);
        assert_eq!(field("", "oom_kill"), 0);
    }
}
