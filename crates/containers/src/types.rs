//! What a caller says about pods and containers and what it is told about them: plain data, no behaviour beyond
//! names and defaults. Knows no Kubernetes object; whoever maps pods to these types does that elsewhere.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub(crate) Arc<str>);

        impl $name {
            /// The identifier as text: 64 hexadecimal digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub(crate) fn generate() -> Self {
                let mut bytes = [0; 32];
                runtime::entropy::fill(&mut bytes);
                $name(hex::encode(bytes).into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.into())
            }
        }
    };
}

id! {
    /// Names one pod sandbox. Pod status shows nothing of it.
    SandboxId
}
id! {
    /// Names one container; pod status shows it as `containerID: plinth://<id>`.
    ContainerId
}

/// The pod's quality of service, which is one level of its cgroup's path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QosClass {
    /// Every container's limits equal its requests.
    Guaranteed,
    /// Something is requested, but not everywhere.
    Burstable,
    /// Nothing is requested.
    #[default]
    BestEffort,
}

/// Limits of a container or of a whole pod. `None` leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Weight in the v1 scale (2 to 262,144; 1,024 is one core). Converted to `cpu.weight` on v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time per period; needs `cpu_period_us`.
    pub cpu_quota_us: Option<i64>,
    /// Length of the period in microseconds, usually 100,000.
    pub cpu_period_us: Option<u64>,
    /// Bytes of memory; past it the kernel kills inside the cgroup.
    pub memory_limit_bytes: Option<i64>,
    /// Processes and threads.
    pub pids_limit: Option<i64>,
}

/// A pod sandbox: what its containers share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// The pod's UID; part of the cgroup's path.
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// Counts the sandboxes of one pod, from 0.
    pub attempt: u32,
    /// The UTS host name, usually the pod's name. Ignored on the host network.
    pub hostname: String,
    pub qos: QosClass,
    /// Folder that holds the containers' log files; made when missing.
    pub log_directory: PathBuf,
    /// The network namespace to join, for example `/run/plinth/netns/<id>`. `None` is the host's network (and the
    /// host's UTS namespace with it).
    pub network_namespace: Option<PathBuf>,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// One PID namespace for all containers of the pod.
    pub share_process_namespace: bool,
    /// Namespaced kernel parameters by their dotted names, for every container.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of the pod as a whole.
    pub resources: Resources,
    /// Addresses given to the pod, kept only so that a restarted caller finds them again.
    pub addresses: Vec<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// How mounts made on the host after the start show up inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// Host mounts appear inside (`HostToContainer`).
    HostToContainer,
}

/// A file or folder of the host inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    pub read_only: bool,
    pub propagation: Propagation,
}

/// A device node of the host inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    /// Some of the letters `rwm`.
    pub permissions: String,
}

/// The system call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// No filter (Kubernetes' default).
    #[default]
    Unconfined,
    /// The built-in allow-list.
    RuntimeDefault,
}

/// Who runs the container, in Kubernetes' terms. What is `None` comes from the image's `USER`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunAs {
    pub user: Option<u32>,
    pub group: Option<u32>,
    /// `fsGroup` and `supplementalGroups`, added to the groups of the image's `/etc/group`.
    pub supplemental_groups: Vec<u32>,
}

/// One container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    pub name: String,
    /// Counts the containers of this name in the pod, from 0: the restart count.
    pub attempt: u32,
    /// An image that is in the store, by reference or by id (`sha256:…`).
    pub image: String,
    /// Replaces the image's entrypoint (and drops its cmd) when not empty.
    pub command: Vec<String>,
    /// Replaces the image's cmd when not empty.
    pub args: Vec<String>,
    /// Added to the image's environment; a later or equal name wins.
    pub env: Vec<(String, String)>,
    /// Empty takes the image's.
    pub working_dir: String,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub run_as: RunAs,
    /// Names without `CAP_`, or `ALL`.
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub privileged: bool,
    pub read_only_rootfs: bool,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// `procMount: Unmasked`: show all of /proc.
    pub unmasked_proc: bool,
    pub resources: Resources,
    pub oom_score_adj: Option<i32>,
    pub tty: bool,
    pub stdin: bool,
    /// Close the container's stdin when the first attach session ends.
    pub stdin_once: bool,
    /// Relative to the sandbox's log folder, for example `web/0.log`.
    pub log_path: PathBuf,
    /// Replaces the image's stop signal: a name such as `SIGTERM`.
    pub stop_signal: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// Whether a sandbox can run containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Its shim answers. Entered by `run_sandbox` or by adoption, left by `stop_sandbox` or the shim's death.
    Ready,
    /// Stopped, or its shim is gone: its containers have ended. Left by `remove_sandbox` only.
    NotReady,
}

/// A sandbox and its containers as they are now.
#[derive(Clone, Debug)]
pub struct PodSandboxStatus {
    pub id: SandboxId,
    pub config: Arc<SandboxConfig>,
    pub state: SandboxState,
    pub created_at: Timestamp,
    /// The process that holds the pod; `None` when it is gone.
    pub shim_pid: Option<u32>,
    /// In the order of their creation.
    pub containers: Vec<ContainerStatus>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Prepared; left by `start_container`.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended or could not be started; left by `remove_container` only.
    Exited,
}

/// A container as it is now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub name: String,
    pub attempt: u32,
    /// As given in [`ContainerConfig::image`].
    pub image: String,
    /// The image's id: `sha256:…` of its configuration.
    pub image_id: String,
    /// How the image is named by content for pod status (`repo@sha256:…`, or the id when it came without a registry).
    pub image_ref: String,
    pub state: ContainerState,
    pub pid: Option<u32>,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// 128 plus the signal when a signal ended it.
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`; empty before the end.
    pub reason: String,
    /// Why it could not be started.
    pub message: String,
    /// The absolute path of the current log file.
    pub log_path: PathBuf,
    /// What the image or the configuration asks to be sent first on stop.
    pub stop_signal: String,
    pub tty: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// Something that happened without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The container's process ended (or was found ended after adoption).
    ContainerExited { sandbox: SandboxId, container: ContainerId },
    /// The kernel killed something inside the container for memory; the container may go on.
    ContainerOom { sandbox: SandboxId, container: ContainerId },
    /// The sandbox's shim is gone; its containers have ended with it.
    SandboxLost { sandbox: SandboxId },
    /// Events were lost because this reader was slow: look at everything again.
    Resync,
}

/// Resource use at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time used so far, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use, with page cache.
    pub memory_bytes: u64,
    /// Memory that cannot be given back at once: usage less the inactive page cache.
    pub memory_working_set_bytes: u64,
    pub pids: u64,
}

/// Resource use of a pod and its running containers.
#[derive(Clone, Debug, Default)]
pub struct SandboxStats {
    pub pod: Usage,
    pub containers: Vec<(ContainerId, Usage)>,
}
