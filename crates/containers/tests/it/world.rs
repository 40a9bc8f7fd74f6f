//! A runtime of its own for each test, with a check afterwards that nothing of it is left on the machine.

use std::{
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use containers::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Event, Options, Runtime, SandboxConfig, SandboxId,
};
use futures::FutureExt;
use runtime::{Clock, Tasks};
use test_support::{image::busybox_archive, traces};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How the folders of these tests are called.
const FOLDERS: &str = "pl";
/// The image made from this machine's busybox.
pub const BUSYBOX: &str = "docker.io/library/busybox:test";

pub struct World {
    /// Shared with who cleans up: it must outlive a test that fails in the middle.
    pub dir: Arc<tempfile::TempDir>,
    pub cgroup_root: String,
    pub runtime: Runtime,
    pub tasks: Tasks,
}

/// Runs `test` with a runtime, then removes everything and checks that it is gone.
pub fn with_world<F: Future<Output = World>>(test: impl FnOnce(World) -> F) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: containers need root");
        return;
    }
    // The process-wide choice may have been made by another test of this binary.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = Arc::new(traces::folder(FOLDERS));
    let root = traces::cgroup_root(dir.path());
    let (state, data) = (dir.path().join("run"), dir.path().join("data"));
    let outcome = tokio.block_on(async {
        traces::remove_abandoned(FOLDERS, async |dir, root| {
            let _ = containers::cleanup(&dir.join("run"), &dir.join("data"), &root).await;
        })
        .await;
        let body = async {
            let world = World::open(dir.clone(), root.clone()).await;
            let world = test(world).await;
            world.tasks.stop();
        };
        let outcome = AssertUnwindSafe(tokio::time::timeout(3 * PATIENCE, body)).catch_unwind().await;
        containers::cleanup(&state, &data, &root).await.expect("cleaning up");
        // Once more: nothing to do is not an error.
        containers::cleanup(&state, &data, &root).await.expect("cleaning up twice");
        outcome
    });
    let left = leftovers(&state, &root);
    match outcome {
        Ok(finished) => finished.expect("the test took too long"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
    assert!(left.is_empty(), "left on the machine: {left:?}");
}

fn leftovers(state: &Path, root: &str) -> Vec<String> {
    let groups = traces::cgroup_trees().into_iter().map(|tree| tree.join(root.trim_start_matches('/')));
    let left = traces::mounts_below(state).into_iter().chain(groups.filter(|group| group.exists()));
    left.map(|path| path.display().to_string()).collect()
}

impl World {
    async fn open(dir: Arc<tempfile::TempDir>, cgroup_root: String) -> World {
        let tasks = Tasks::root();
        let runtime = Runtime::open(options(dir.path(), &cgroup_root, &tasks)).await.expect("open the runtime");
        World { dir, cgroup_root, runtime, tasks }
    }

    /// Drops the runtime as a kill would, and opens another one on what is left.
    pub async fn reopen(self) -> World {
        let World { dir, cgroup_root, runtime, tasks } = self;
        tasks.stop();
        assert!(tasks.join(PATIENCE).await);
        drop(runtime);
        World::open(dir, cgroup_root).await
    }

    pub async fn with_busybox(self) -> World {
        let archive = self.dir.path().join("busybox.tar");
        fs::write(&archive, busybox_archive(BUSYBOX)).unwrap();
        self.runtime.images().import(&archive).await.expect("import busybox");
        self
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    /// A sandbox on the host's network: these tests are not about networks.
    pub fn sandbox(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            name: name.into(),
            hostname: name.into(),
            log_directory: self.logs(),
            ..SandboxConfig::default()
        }
    }

    /// A container that runs `script` with busybox.
    pub fn shell(&self, script: &str) -> ContainerConfig {
        ContainerConfig {
            name: "main".into(),
            image: BUSYBOX.into(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: "main/0.log".into(),
            ..ContainerConfig::default()
        }
    }

    pub async fn start(&self, sandbox: &SandboxId, config: ContainerConfig) -> ContainerId {
        let id = self.runtime.create_container(sandbox, config).await.expect("create the container");
        self.runtime.start_container(&id).await.expect("start the container");
        id
    }

    /// Runs `config` to its end in a sandbox of its own, and returns how it ended and what it said.
    pub async fn run(&self, name: &str, config: ContainerConfig) -> (ContainerStatus, String) {
        let mut sandbox = self.sandbox(name);
        sandbox.log_directory = self.logs().join(name);
        let sandbox = self.runtime.run_sandbox(sandbox).await.expect("run the sandbox");
        let id = self.start(&sandbox, config).await;
        let status = self.ended(&id).await;
        let said = text(&status.log_path);
        self.runtime.remove_sandbox(&sandbox).await.expect("remove the sandbox");
        (status, said)
    }

    /// Waits for the container's end by the runtime's own events.
    pub async fn ended(&self, id: &ContainerId) -> ContainerStatus {
        let mut events = self.runtime.events();
        let wait = async {
            loop {
                let status = self.runtime.container_status(id).expect("the container is known");
                if status.state == ContainerState::Exited {
                    return status;
                }
                events.next().await.expect("the runtime is there");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the container ends")
    }

    /// Waits until the log holds `wanted`.
    pub async fn says(&self, id: &ContainerId, wanted: &str) {
        let path = self.runtime.log_path(id).expect("the container is known");
        until(&format!("the log says {wanted:?}"), || text(&path).contains(wanted)).await;
    }

    /// Waits for one event.
    pub async fn event(&self, events: &mut containers::Events, wanted: &Event) {
        let wait = async { while events.next().await.as_ref() != Some(wanted) {} };
        tokio::time::timeout(PATIENCE, wait).await.expect("the event comes");
    }
}

pub fn options(dir: &Path, cgroup_root: &str, tasks: &Tasks) -> Options {
    Options {
        state_dir: dir.join("run"),
        data_dir: dir.join("data"),
        cgroup_root: cgroup_root.into(),
        shim_command: vec![env!("CARGO_BIN_EXE_containers-shim").into()],
        tasks: tasks.child("containers"),
        clock: Clock::system(),
    }
}

/// Looks again every few milliseconds, for states that nothing announces.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A log file's text without times and tags.
pub fn text(path: &Path) -> String {
    let log = fs::read_to_string(path).unwrap_or_default();
    log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(|line| format!("{line}\n")).collect()
}

/// Whether the machine has the program.
pub fn has(program: &str) -> bool {
    let executable = |dir: &str| {
        fs::metadata(format!("{dir}/{program}")).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    std::env::var("PATH").unwrap_or_default().split(':').any(executable)
}
