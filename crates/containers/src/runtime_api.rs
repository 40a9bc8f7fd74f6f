//! The async side: what the node's process holds. It writes what is to be done into the state folder, asks the
//! sandbox's shim to do it and passes on what the shims tell. Touches no container process itself.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use runtime::{Clock, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    error::Error,
    images::Images,
    types::{
        ContainerConfig, ContainerId, ContainerStatus, Event, PodSandboxStatus, SandboxConfig, SandboxId, SandboxStats,
        Usage,
    },
};

/// Where the runtime keeps its things and how it starts its shims.
pub struct Options {
    /// Folder for sockets and what is true until the next boot, for example `/run/plinth`. Short: it is part of the
    /// sockets' paths.
    pub state_dir: PathBuf,
    /// Folder for images, layers and the containers' own files.
    pub data_dir: PathBuf,
    /// The cgroup above all pods, for example `/plinth`.
    pub cgroup_root: String,
    /// The program that runs [`crate::shim_main`] with the arguments after these, for example
    /// `["/proc/self/exe", "shim"]`.
    pub shim_command: Vec<String>,
    pub tasks: Tasks,
    pub clock: Clock,
}

/// Containers on this machine. A clone is a handle on the same runtime.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    images: Images,
}

/// Bytes from a container.
pub type StreamReader = Pin<Box<dyn AsyncRead + Send + Sync>>;
/// Bytes to a container; shutting it down or dropping it is the end of its input.
pub type StreamWriter = Pin<Box<dyn AsyncWrite + Send + Sync>>;

/// A command to run inside a container.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    pub argv: Vec<String>,
    /// A terminal; stdout carries what it shows and there is no stderr.
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A running command. Its streams are the command's own pipes or terminal: the bytes pass through no other process.
pub struct ExecSession {
    pub stdin: Option<StreamWriter>,
    pub stdout: Option<StreamReader>,
    pub stderr: Option<StreamReader>,
    control: ExecControl,
}

impl ExecSession {
    /// A handle for resizing, killing and waiting that outlives the streams being moved away.
    pub fn control(&self) -> ExecControl {
        self.control.clone()
    }
}

/// Steers a running command.
#[derive(Clone)]
pub struct ExecControl {}

impl ExecControl {
    /// Sets the terminal's size; without a terminal it does nothing.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        let _ = (columns, rows);
        Ok(())
    }

    /// Sends SIGKILL to the command and what it started in its process group.
    pub async fn kill(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Waits for the command's end: its exit code, or 128 plus the signal. Each caller gets the same answer.
    pub async fn wait(&self) -> Result<i32, Error> {
        Err(Error::Exec("not there yet".into()))
    }
}

/// What a short command said and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    pub exit_code: i32,
    /// Standard output and error in the order of arrival, at most 16 KiB of it.
    pub output: Vec<u8>,
}

/// The streams of a container's main process, from now on.
pub struct AttachSession {
    /// Present when the container was made with stdin.
    pub stdin: Option<StreamWriter>,
    /// Ends when the container does. A reader slower than the container by more than the pipe holds is cut off.
    pub stdout: StreamReader,
    /// `None` with a terminal.
    pub stderr: Option<StreamReader>,
}

/// Events from one point on.
pub struct Events {
    receiver: tokio::sync::broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; [`Event::Resync`] when some were lost, `None` when the runtime is gone.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => Some(Event::Resync),
            Err(tokio::sync::broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Runtime {
    /// Opens the state folder and connects to the shims that are there: their containers are adopted as they are.
    pub async fn open(options: Options) -> Result<Runtime, Error> {
        let images = Images::open(&options.data_dir).await?;
        Ok(Runtime { inner: Arc::new(Inner { images }) })
    }

    /// The image store.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Every sandbox with its containers, as last told by the shims: no system call, no waiting.
    pub fn list(&self) -> Vec<PodSandboxStatus> {
        Vec::new()
    }

    /// One sandbox.
    pub fn sandbox_status(&self, id: &SandboxId) -> Option<PodSandboxStatus> {
        let _ = id;
        None
    }

    /// One container.
    pub fn container_status(&self, id: &ContainerId) -> Option<ContainerStatus> {
        let _ = id;
        None
    }

    /// Starts a shim that holds the pod's namespaces and cgroup.
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, Error> {
        Err(Error::SandboxNotFound(config.uid))
    }

    /// Prepares a container from an image in the store. Nothing runs yet.
    pub async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let _ = config;
        Err(Error::SandboxNotFound(sandbox.to_string()))
    }

    /// Makes and starts the container's process. On [`Error::Start`] the container is Exited with exit code 128 and
    /// reason `StartError`.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// Sends the stop signal, waits up to `grace`, then kills everything in the container. Returns when it has ended;
    /// at once if it already has.
    pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let _ = grace;
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// Forgets a container and its files; kills it first when it runs. Its log files stay. Unknown ids are fine.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// Kills whatever runs in the sandbox. Afterwards it is NotReady. Repeating it is fine.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        Err(Error::SandboxNotFound(id.to_string()))
    }

    /// Stops and forgets the sandbox with its containers, cgroups and files; its shim ends. Log files stay. Unknown
    /// ids are fine.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        Err(Error::SandboxNotFound(id.to_string()))
    }

    /// Runs a command inside a running container, as the container's user and under its restrictions.
    pub async fn exec(&self, id: &ContainerId, request: ExecRequest) -> Result<ExecSession, Error> {
        let _ = request;
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// Runs a command and collects its output; kills it after `timeout`. For probes and hooks.
    pub async fn exec_sync(&self, id: &ContainerId, argv: &[String], timeout: Duration) -> Result<ExecOutput, Error> {
        let _ = (argv, timeout);
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// Joins the streams of the container's main process.
    pub async fn attach(&self, id: &ContainerId) -> Result<AttachSession, Error> {
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// Sets the size of the container's own terminal.
    pub async fn resize(&self, id: &ContainerId, columns: u16, rows: u16) -> Result<(), Error> {
        let _ = (columns, rows);
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// The container's current log file; rotated ones lie beside it with a time stamp added to the name.
    pub fn log_path(&self, id: &ContainerId) -> Option<PathBuf> {
        let _ = id;
        None
    }

    /// Resource use of a running container.
    pub async fn container_stats(&self, id: &ContainerId) -> Result<Usage, Error> {
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// Resource use of a pod and its containers.
    pub async fn sandbox_stats(&self, id: &SandboxId) -> Result<SandboxStats, Error> {
        Err(Error::SandboxNotFound(id.to_string()))
    }

    /// The pod's folder in the cgroup2 tree, where BPF programs attach; `None` on a machine without cgroup2.
    pub fn sandbox_cgroup2(&self, id: &SandboxId) -> Option<PathBuf> {
        let _ = id;
        None
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events { receiver: tokio::sync::broadcast::channel(1).1 }
    }
}

/// Removes whatever the runtime left on the machine: containers, shims, mounts, cgroups and the state folder's own
/// content, and the containers' files (not the images) under `data_dir`. Works without a runtime, and twice in a row.
pub async fn cleanup(state_dir: &Path, data_dir: &Path, cgroup_root: &str) -> Result<(), Error> {
    let _ = (state_dir, data_dir, cgroup_root);
    Ok(())
}
