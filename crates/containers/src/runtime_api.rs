//! The async side: what the node's process holds. It writes what is to be done into the state folder, asks the
//! sandbox's shim to do it and passes on what the shims tell. Touches no container process itself.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use runtime::{Clock, Tasks, blocking};
use tokio::sync::broadcast;

use crate::{
    cgroup::{self, Cgroup, Hierarchies},
    error::{Error, IoContext},
    images::Images,
    protocol::Op,
    record::{self, CONTAINER_FILE, CONTAINERS, ContainerRecord, SANDBOX_FILE, SandboxRecord},
    spec,
    types::{
        ContainerConfig, ContainerId, ContainerState, ContainerStatus, Event, PodSandboxStatus, SandboxConfig,
        SandboxId, SandboxState, SandboxStats, Usage,
    },
};

mod cleanup;
mod connection;
mod exec;
mod sandbox;
mod streams;

pub use cleanup::cleanup;
pub use exec::{AttachSession, ExecControl, ExecOutput, ExecRequest, ExecSession};
pub use streams::{StreamReader, StreamWriter};

use sandbox::Sandbox;

/// Events that a reader may be behind before it has to look at everything again.
const MAX_EVENTS: usize = 4096;
/// How long a shim may take to start.
const SHIM_START: Duration = Duration::from_secs(20);
/// How long a killed container may take to end.
const KILL_TIME: Duration = Duration::from_secs(30);

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
    state_dir: PathBuf,
    data_dir: PathBuf,
    cgroup_root: String,
    shim_command: Vec<String>,
    tasks: Tasks,
    clock: Clock,
    hierarchies: Hierarchies,
    images: Images,
    sandboxes: Mutex<HashMap<SandboxId, Arc<Sandbox>>>,
    events: broadcast::Sender<Event>,
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
        let Options { state_dir, data_dir, cgroup_root, shim_command, tasks, clock } = options;
        if shim_command.is_empty() {
            return Err(Error::Invalid("no shim command".into()));
        }
        for dir in [state_dir.join("pods"), data_dir.join("containers")] {
            fs::create_dir_all(&dir).context("create", dir)?;
        }
        let images = Images::open(&data_dir).await?;
        let hierarchies = Hierarchies::detect();
        let runtime = Runtime {
            inner: Arc::new(Inner {
                state_dir,
                data_dir,
                cgroup_root,
                shim_command,
                tasks,
                clock,
                hierarchies,
                images,
                sandboxes: Mutex::default(),
                events: broadcast::channel(MAX_EVENTS).0,
            }),
        };
        runtime.adopt().await?;
        Ok(runtime)
    }

    /// The image store.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Every sandbox with its containers, as last told by the shims: no system call, no waiting.
    pub fn list(&self) -> Vec<PodSandboxStatus> {
        let sandboxes: Vec<_> = self.inner.sandboxes.lock().values().cloned().collect();
        sandboxes.iter().map(|s| s.status()).collect()
    }

    /// One sandbox.
    pub fn sandbox_status(&self, id: &SandboxId) -> Option<PodSandboxStatus> {
        self.sandbox(id).ok().map(|s| s.status())
    }

    /// One container.
    pub fn container_status(&self, id: &ContainerId) -> Option<ContainerStatus> {
        self.owner(id).ok().and_then(|s| s.container(id))
    }

    /// Starts a shim that holds the pod's namespaces and cgroup.
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, Error> {
        check_name("pod uid", &config.uid)?;
        let inner = &self.inner;
        let id = SandboxId::generate();
        let record = SandboxRecord {
            id: id.clone(),
            created_at: inner.clock.now(),
            cgroup: cgroup::pod_path(&inner.cgroup_root, config.qos, &config.uid),
            shim_cgroup: format!("{}/shims", inner.cgroup_root.trim_end_matches('/')),
            config,
        };
        let dir = self.pod_dir(&id);
        fs::create_dir_all(dir.join(CONTAINERS)).context("create", &dir)?;
        record::write(&dir.join(SANDBOX_FILE), &record).context("write", dir.join(SANDBOX_FILE))?;
        let started = async {
            self.start_shim(&id, &dir).await?;
            Sandbox::connect(self.weak(), record, dir.clone()).await
        };
        match started.await {
            Ok(sandbox) => {
                inner.sandboxes.lock().insert(id.clone(), sandbox);
                Ok(id)
            }
            Err(error) => {
                cleanup::forget_pod(&dir, &inner.data_dir, &inner.hierarchies).await;
                Err(error)
            }
        }
    }

    /// Prepares a container from an image in the store. Nothing runs yet.
    pub async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let sandbox = self.ready(sandbox)?;
        let lease = self.inner.images.lease(&config.image)?;
        let image = lease.info();
        // What can be known to be wrong is said before anything is made.
        spec::command_line(&config, &image.config)?;
        if config.log_path.is_absolute() || config.log_path.components().any(|c| c.as_os_str() == "..") {
            return Err(Error::Invalid(format!("log path {:?} leaves the log folder", config.log_path)));
        }
        let id = ContainerId::generate();
        let record = ContainerRecord {
            id: id.clone(),
            image_id: image.id.clone(),
            image_ref: image.digests.first().unwrap_or(&image.id).clone(),
            image: image.config.as_ref().clone(),
            created_at: self.inner.clock.now(),
            log_path: sandbox.record.config.log_directory.join(&config.log_path),
            layers_dir: self.inner.images.layers_dir(),
            layers: image.layer_folders(),
            files_dir: self.inner.data_dir.join("containers").join(id.as_str()),
            config,
        };
        let dir = sandbox.dir.join(CONTAINERS).join(id.as_str());
        fs::create_dir_all(&dir).context("create", &dir)?;
        let path = dir.join(CONTAINER_FILE);
        let made = match record::write(&path, &record).context("write", path) {
            Ok(()) => sandbox.request(Op::Create { container: id.clone() }, &[]).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            let _ = fs::remove_dir_all(&dir);
            return Err(error);
        }
        sandbox.keep(id.clone(), lease);
        Ok(id)
    }

    /// Makes and starts the container's process. On [`Error::Start`] the container is Exited with exit code 128 and
    /// reason `StartError`.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        let sandbox = self.owner(id)?;
        sandbox.request(Op::Start { container: id.clone() }, &[]).await.map(drop)
    }

    /// Sends the stop signal, waits up to `grace`, then kills everything in the container. Returns when it has ended;
    /// at once if it already has.
    pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let sandbox = self.owner(id)?;
        let status = sandbox.container(id).ok_or_else(|| Error::ContainerNotFound(id.to_string()))?;
        if status.state != ContainerState::Running {
            return Ok(());
        }
        let ended = |status: &ContainerStatus| status.state == ContainerState::Exited;
        if !grace.is_zero() {
            let signal = signal_number(&status.stop_signal).unwrap_or(libc::SIGTERM);
            sandbox.request(Op::Signal { container: id.clone(), signal, all: false }, &[]).await?;
            if sandbox.wait_for(id, ended, grace).await {
                return Ok(());
            }
        }
        let kill = Op::Signal { container: id.clone(), signal: libc::SIGKILL, all: true };
        sandbox.request(kill, &[]).await?;
        if sandbox.wait_for(id, ended, KILL_TIME).await {
            return Ok(());
        }
        Err(sandbox.trouble("the container does not end although it was killed"))
    }

    /// Forgets a container and its files; kills it first when it runs. Its log files stay. Unknown ids are fine.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let Ok(sandbox) = self.owner(id) else { return Ok(()) };
        self.stop_container(id, Duration::ZERO).await?;
        match sandbox.request(Op::Remove { container: id.clone() }, &[]).await {
            Err(Error::SandboxNotReady(_)) => {
                let (dir, files) = (sandbox.dir.clone(), self.inner.data_dir.clone());
                let (cgroup, id) = (self.container_cgroup(&sandbox, id), id.clone());
                blocking(move || cleanup::forget_container(&dir, &files, &cgroup, &id)).await?;
            }
            other => drop(other?),
        }
        sandbox.forget(id);
        Ok(())
    }

    /// Kills whatever runs in the sandbox. Afterwards it is NotReady. Repeating it is fine.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let sandbox = self.sandbox(id)?;
        match sandbox.request(Op::Stop, &[]).await {
            Ok(_) | Err(Error::SandboxNotReady(_)) => {}
            Err(error) => return Err(error),
        }
        sandbox.set_stopped();
        for container in sandbox.status().containers {
            let ended = |status: &ContainerStatus| status.state != ContainerState::Running;
            if !sandbox.wait_for(&container.id, ended, KILL_TIME).await {
                return Err(sandbox.trouble("a container does not end although it was killed"));
            }
        }
        Ok(())
    }

    /// Stops and forgets the sandbox with its containers, cgroups and files; its shim ends. Log files stay. Unknown
    /// ids are fine.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        sandbox.set_removing();
        match sandbox.request(Op::Shutdown, &[]).await {
            Ok(_) | Err(Error::SandboxNotReady(_) | Error::Shim { .. }) => {}
            Err(error) => return Err(error),
        }
        // What the shim has removed is not there any more; what a dead shim left is removed here.
        cleanup::forget_pod(&sandbox.dir, &self.inner.data_dir, &self.inner.hierarchies).await;
        self.inner.sandboxes.lock().remove(id);
        Ok(())
    }

    /// Sets the size of the container's own terminal.
    pub async fn resize(&self, id: &ContainerId, columns: u16, rows: u16) -> Result<(), Error> {
        self.owner(id)?.request(Op::Resize { container: id.clone(), columns, rows }, &[]).await.map(drop)
    }

    /// The container's current log file; rotated ones lie beside it with a time stamp added to the name.
    pub fn log_path(&self, id: &ContainerId) -> Option<PathBuf> {
        self.container_status(id).map(|status| status.log_path)
    }

    /// Resource use of a running container.
    pub async fn container_stats(&self, id: &ContainerId) -> Result<Usage, Error> {
        let cgroup = self.container_cgroup(&*self.owner(id)?, id);
        Ok(blocking(move || cgroup.usage()).await)
    }

    /// Resource use of a pod and its containers.
    pub async fn sandbox_stats(&self, id: &SandboxId) -> Result<SandboxStats, Error> {
        let sandbox = self.sandbox(id)?;
        let running = sandbox.status().containers.into_iter().filter(|c| c.state == ContainerState::Running);
        let groups: Vec<_> = running.map(|c| (self.container_cgroup(&sandbox, &c.id), c.id)).collect();
        let pod = self.inner.hierarchies.group(&sandbox.record.cgroup);
        Ok(blocking(move || SandboxStats {
            pod: pod.usage(),
            containers: groups.into_iter().map(|(group, id)| (id, group.usage())).collect(),
        })
        .await)
    }

    /// The pod's folder in the cgroup2 tree, where BPF programs attach; `None` on a machine without cgroup2.
    pub fn sandbox_cgroup2(&self, id: &SandboxId) -> Option<PathBuf> {
        self.inner.hierarchies.group(&self.sandbox(id).ok()?.record.cgroup).v2()
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events { receiver: self.inner.events.subscribe() }
    }

    fn weak(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    fn pod_dir(&self, id: &SandboxId) -> PathBuf {
        self.inner.state_dir.join("pods").join(id.as_str())
    }

    fn sandbox(&self, id: &SandboxId) -> Result<Arc<Sandbox>, Error> {
        self.inner.sandboxes.lock().get(id).cloned().ok_or_else(|| Error::SandboxNotFound(id.to_string()))
    }

    fn ready(&self, id: &SandboxId) -> Result<Arc<Sandbox>, Error> {
        let sandbox = self.sandbox(id)?;
        match sandbox.status().state {
            SandboxState::Ready => Ok(sandbox),
            SandboxState::NotReady => Err(Error::SandboxNotReady(id.to_string())),
        }
    }

    /// The sandbox that a container belongs to.
    fn owner(&self, id: &ContainerId) -> Result<Arc<Sandbox>, Error> {
        let sandboxes = self.inner.sandboxes.lock();
        let owner = sandboxes.values().find(|s| s.has(id)).cloned();
        owner.ok_or_else(|| Error::ContainerNotFound(id.to_string()))
    }

    fn container_cgroup(&self, sandbox: &Sandbox, id: &ContainerId) -> Cgroup {
        self.inner.hierarchies.group(&format!("{}/{id}", sandbox.record.cgroup))
    }

    /// Runs the shim's program, which returns once the shim answers on its socket.
    async fn start_shim(&self, id: &SandboxId, dir: &Path) -> Result<(), Error> {
        let trouble = |reason: String| Error::Shim { sandbox: id.to_string(), reason };
        let (program, arguments) = self.inner.shim_command.split_first().expect("checked when opened");
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).arg(dir).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let output = tokio::time::timeout(SHIM_START, command.kill_on_drop(true).output()).await;
        let output = output.map_err(|_| trouble("did not start in time".into()))?;
        let output = output.map_err(|e| trouble(format!("cannot run {program}: {e}")))?;
        if output.status.success() {
            return Ok(());
        }
        Err(trouble(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Finds the sandboxes of earlier processes.
    async fn adopt(&self) -> Result<(), Error> {
        let pods = self.inner.state_dir.join("pods");
        let entries = fs::read_dir(&pods).context("read", &pods)?;
        let dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        let adopted = futures::future::join_all(dirs.into_iter().map(|dir| self.adopt_one(dir))).await;
        self.inner.sandboxes.lock().extend(adopted.into_iter().flatten());
        Ok(())
    }

    async fn adopt_one(&self, dir: PathBuf) -> Option<(SandboxId, Arc<Sandbox>)> {
        let record: SandboxRecord = match record::read(&dir.join(SANDBOX_FILE)) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "removing a sandbox without a record");
                cleanup::forget_pod(&dir, &self.inner.data_dir, &self.inner.hierarchies).await;
                return None;
            }
        };
        let id = record.id.clone();
        let sandbox = match Sandbox::connect(self.weak(), record.clone(), dir.clone()).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                tracing::warn!(sandbox = %id, %error, "the sandbox's shim is gone");
                self.inner.hierarchies.group(&record.cgroup).kill();
                Sandbox::lost(self.weak(), record, dir, self.inner.clock.now())
            }
        };
        for container in sandbox.status().containers {
            if let Ok(lease) = self.inner.images.lease(&container.image_id) {
                sandbox.keep(container.id, lease);
            }
        }
        Some((id, sandbox))
    }
}

/// Refuses what must not be part of a path.
fn check_name(what: &str, text: &str) -> Result<(), Error> {
    const MAX_NAME: usize = 253;
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > MAX_NAME || text.starts_with('.') || !text.chars().all(fine) {
        return Err(Error::Invalid(format!("{what} {text:?} is not usable as a name")));
    }
    Ok(())
}

/// The number of a signal given as `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
fn signal_number(name: &str) -> Option<i32> {
    let upper = name.trim().to_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = bare.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    if let Some(rest) = bare.strip_prefix("RTMIN") {
        let offset: i32 = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    format!("SIG{bare}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_spellings() {
        for (name, number) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGNONE", None),
            ("99", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }

    #[test]
    fn names_stay_names() {
        assert!(check_name("uid", "3b9c-1").is_ok());
        for name in ["", "..", "a/b", "a b", ".x"] {
            assert!(check_name("uid", name).is_err(), "{name}");
        }
    }
}
