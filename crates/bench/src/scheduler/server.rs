//! Plinth's API server with its store, in one process: no node, no controllers, and a scheduler if it is to be measured.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use super::{
    objects,
    wire::{Pool, is_success},
};
use crate::{api::Target, interrupt, ports};

/// How long it may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked.
const TICK: Duration = Duration::from_millis(5);

/// Ends with the value, and its data with it.
pub struct PlinthServer {
    child: Child,
    dir: tempfile::TempDir,
    target: Target,
}

impl PlinthServer {
    pub fn start(program: &Path, scheduler: bool) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-plinth-").tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let log = File::create(dir.path().join("log"))?;
        let child = Command::new(program)
            .args(["up", "--disable-agent", "--disable-controller-manager", "--etcd-listen-address=none"])
            .args((!scheduler).then_some("--disable-scheduler"))
            .arg(format!("--data-dir={}", path("data")))
            .arg(format!("--run-dir={}", path("run")))
            .arg(format!("--write-kubeconfig={}", path("kubeconfig.yaml")))
            .arg(format!("--https-listen-port={}", ports::free()?))
            .args(["--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = PlinthServer { child, target: Target::anonymous("127.0.0.1:0"), dir };
        server.wait()?;
        Ok(server)
    }

    /// Waits until it serves requests of its administrator.
    fn wait(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                bail!("plinth up has ended with {status}: {}", log.trim());
            }
            if let Ok(target) = Target::from_kubeconfig(&self.kubeconfig())
                && serves(&target).is_ok()
            {
                self.target = target;
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "plinth up did not serve within {PATIENCE:?}");
            std::thread::sleep(TICK);
        }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig.yaml")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for PlinthServer {
    fn drop(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serves(target: &Target) -> anyhow::Result<()> {
    let mut request = Vec::new();
    objects::head(target, "GET", "/api/v1/namespaces/default", None, &mut request);
    Pool::open(target, 1)?.call(is_success, &request).map(drop)
}
