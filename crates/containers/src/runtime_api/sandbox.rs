//! One sandbox as the runtime knows it: what its shim last told, and the way to ask it.

use std::{
    collections::HashMap,
    fs,
    os::fd::{OwnedFd, RawFd},
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    Inner,
    connection::{Answered, Connection, Told, Unanswered},
};
use crate::{
    error::Error,
    images::ImageLease,
    protocol::{Answer, Op, Refusal},
    record::{self, CONTAINER_FILE, CONTAINERS, ContainerRecord, SOCKET, STATUS_FILE, SandboxRecord},
    types::{ContainerId, ContainerState, ContainerStatus, Event, PodSandboxStatus, SandboxState},
};

pub(super) struct Sandbox {
    runtime: Weak<Inner>,
    pub(super) record: SandboxRecord,
    config: Arc<crate::types::SandboxConfig>,
    pub(super) dir: PathBuf,
    view: Mutex<View>,
    /// Counts changes of the view, for those who wait for one.
    changed: watch::Sender<u64>,
    connection: Mutex<Option<Arc<Connection>>>,
    leases: Mutex<HashMap<ContainerId, ImageLease>>,
}

struct View {
    state: SandboxState,
    shim_pid: Option<u32>,
    containers: Vec<ContainerStatus>,
    /// The end of the shim is wanted.
    removing: bool,
}

impl Sandbox {
    /// Connects to the sandbox's shim and takes over what it says.
    pub(super) async fn connect(
        runtime: Weak<Inner>,
        record: SandboxRecord,
        dir: PathBuf,
    ) -> Result<Arc<Sandbox>, Error> {
        let sandbox = Sandbox::new(runtime, record, dir);
        sandbox.attach().await?;
        Ok(sandbox)
    }

    /// A sandbox whose shim is gone: what ran is over, and how it ended nobody knows.
    pub(super) fn lost(runtime: Weak<Inner>, record: SandboxRecord, dir: PathBuf, now: Timestamp) -> Arc<Sandbox> {
        let sandbox = Sandbox::new(runtime, record, dir);
        let mut containers = read_containers(&sandbox.dir);
        containers.iter_mut().for_each(|c| mark_unknown(c, now));
        sandbox.view.lock().containers = containers;
        sandbox
    }

    fn new(runtime: Weak<Inner>, record: SandboxRecord, dir: PathBuf) -> Arc<Sandbox> {
        let view = View { state: SandboxState::NotReady, shim_pid: None, containers: Vec::new(), removing: false };
        Arc::new(Sandbox {
            runtime,
            config: Arc::new(record.config.clone()),
            record,
            dir,
            view: Mutex::new(view),
            changed: watch::channel(0).0,
            connection: Mutex::default(),
            leases: Mutex::default(),
        })
    }

    /// Opens the connection, starts listening and takes over the shim's state.
    ///
    /// Boxed, because listening may come back to it.
    fn attach(self: &Arc<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(self.clone().attach_now())
    }

    async fn attach_now(self: Arc<Self>) -> Result<(), Error> {
        let connection = Connection::open(&self.dir.join(SOCKET)).map_err(|e| self.trouble(&e.to_string()))?;
        let connection = Arc::new(connection);
        let runtime = self.runtime.upgrade().ok_or_else(|| self.trouble("the runtime is gone"))?;
        *self.connection.lock() = Some(connection.clone());
        runtime.tasks.spawn("shim", listen(self.clone(), connection));
        drop(runtime);
        let answered = self.request(Op::Subscribe, &[]).await?;
        let Answer::State { pid, stopped, containers } = answered.answer else {
            return Err(self.trouble("an unexpected answer"));
        };
        let mut view = self.view.lock();
        view.state = if stopped { SandboxState::NotReady } else { SandboxState::Ready };
        view.shim_pid = Some(pid);
        let told = std::mem::take(&mut view.containers);
        view.containers = containers;
        // A status that overtook the answer is newer than it.
        for status in told {
            put(&mut view.containers, status);
        }
        drop(view);
        self.bump();
        Ok(())
    }

    pub(super) fn status(&self) -> PodSandboxStatus {
        let view = self.view.lock();
        PodSandboxStatus {
            id: self.record.id.clone(),
            config: self.config.clone(),
            state: view.state,
            created_at: self.record.created_at,
            shim_pid: view.shim_pid,
            containers: view.containers.clone(),
        }
    }

    pub(super) fn has(&self, id: &ContainerId) -> bool {
        self.view.lock().containers.iter().any(|c| c.id == *id)
    }

    pub(super) fn container(&self, id: &ContainerId) -> Option<ContainerStatus> {
        self.view.lock().containers.iter().find(|c| c.id == *id).cloned()
    }

    /// Keeps the container's image for as long as the container is there.
    pub(super) fn keep(&self, id: ContainerId, lease: ImageLease) {
        self.leases.lock().insert(id, lease);
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        self.view.lock().containers.retain(|c| c.id != *id);
        self.leases.lock().remove(id);
        self.bump();
    }

    pub(super) fn set_stopped(&self) {
        self.view.lock().state = SandboxState::NotReady;
        self.bump();
    }

    pub(super) fn set_removing(&self) {
        let mut view = self.view.lock();
        (view.removing, view.state) = (true, SandboxState::NotReady);
    }

    /// Waits until the container is as wanted or gone, at most `limit`. Returns whether it is.
    pub(super) async fn wait_for(
        &self,
        id: &ContainerId,
        wanted: impl Fn(&ContainerStatus) -> bool,
        limit: Duration,
    ) -> bool {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !self.container(id).is_none_or(|status| wanted(&status)) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// Asks the shim for something with one answer.
    pub(super) async fn request(&self, op: Op, fds: &[RawFd]) -> Result<Answered, Error> {
        let connection = self.connection()?;
        let asked = match connection.ask(op, fds).await {
            Ok(mut answers) => answers.next().await,
            Err(error) => Err(error),
        };
        asked.map_err(|error| self.refused(error))
    }

    pub(super) fn connection(&self) -> Result<Arc<Connection>, Error> {
        self.connection.lock().clone().ok_or_else(|| Error::SandboxNotReady(self.record.id.to_string()))
    }

    pub(super) fn refused(&self, error: Unanswered) -> Error {
        match error {
            Unanswered::Lost => Error::SandboxNotReady(self.record.id.to_string()),
            Unanswered::Late => self.trouble("did not answer in time"),
            Unanswered::Refused(Refusal::NotFound) => Error::ContainerNotFound("asked for".into()),
            Unanswered::Refused(Refusal::WrongState(state)) => {
                Error::WrongState { container: self.record.config.name.clone(), state, action: "do this" }
            }
            Unanswered::Refused(Refusal::Invalid(reason)) => Error::Invalid(reason),
            Unanswered::Refused(Refusal::Start(reason)) => Error::Start(reason),
            Unanswered::Refused(Refusal::Exec(reason)) => Error::Exec(reason),
            Unanswered::Refused(Refusal::Failed(reason)) => self.trouble(&reason),
        }
    }

    pub(super) fn trouble(&self, reason: &str) -> Error {
        Error::Shim { sandbox: self.record.id.to_string(), reason: reason.to_owned() }
    }

    fn take_status(&self, status: ContainerStatus) {
        let exited = status.state == ContainerState::Exited;
        let id = status.id.clone();
        put(&mut self.view.lock().containers, status);
        self.bump();
        if exited {
            self.publish(Event::ContainerExited { sandbox: self.record.id.clone(), container: id });
        }
    }

    /// The connection broke: try once more, then take the shim for dead and end what it left.
    async fn disconnected(self: &Arc<Self>) {
        self.connection.lock().take();
        if self.view.lock().removing {
            return;
        }
        let Some(runtime) = self.runtime.upgrade() else { return };
        if self.attach().await.is_ok() {
            return self.publish(Event::Resync);
        }
        self.connection.lock().take();
        let cgroup = runtime.hierarchies.group(&self.record.cgroup);
        runtime::blocking(move || cgroup.kill()).await;
        let now = runtime.clock.now();
        let mut view = self.view.lock();
        (view.state, view.shim_pid) = (SandboxState::NotReady, None);
        view.containers.iter_mut().for_each(|c| mark_unknown(c, now));
        drop(view);
        self.bump();
        self.publish(Event::SandboxLost { sandbox: self.record.id.clone() });
    }

    fn publish(&self, event: Event) {
        if let Some(runtime) = self.runtime.upgrade() {
            let _ = runtime.events.send(event);
        }
    }

    fn bump(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Takes in what the shim tells until it is gone.
async fn listen(sandbox: Arc<Sandbox>, connection: Arc<Connection>) {
    while let Some(told) = connection.listen().await {
        match told {
            Told::Status(status) => sandbox.take_status(*status),
            Told::Oom(container) => {
                sandbox.publish(Event::ContainerOom { sandbox: sandbox.record.id.clone(), container });
            }
        }
    }
    sandbox.disconnected().await;
}

fn put(list: &mut Vec<ContainerStatus>, status: ContainerStatus) {
    match list.iter_mut().find(|c| c.id == status.id) {
        Some(old) => *old = status,
        None => list.push(status),
    }
}

fn mark_unknown(status: &mut ContainerStatus, now: Timestamp) {
    if status.state == ContainerState::Exited {
        return;
    }
    status.state = ContainerState::Exited;
    status.pid = None;
    status.finished_at = Some(now);
    status.exit_code = 137;
    "ContainerStatusUnknown".clone_into(&mut status.reason);
    "The container could not be located when the pod was terminated".clone_into(&mut status.message);
}

/// What the shim has written down about its containers.
fn read_containers(dir: &std::path::Path) -> Vec<ContainerStatus> {
    let Ok(entries) = fs::read_dir(dir.join(CONTAINERS)) else { return Vec::new() };
    let mut list: Vec<ContainerStatus> = entries
        .flatten()
        .filter_map(|entry| {
            let _: ContainerRecord = record::read(&entry.path().join(CONTAINER_FILE)).ok()?;
            record::read(&entry.path().join(STATUS_FILE)).ok()
        })
        .collect();
    list.sort_by_key(|c| c.created_at);
    list
}

/// Descriptors that must stay open until they are sent.
pub(super) fn numbers(fds: &[OwnedFd]) -> Vec<RawFd> {
    fds.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect()
}
