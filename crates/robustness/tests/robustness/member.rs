//! One member: a process in its host's namespace, with a data folder that outlives it.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    mount::{MsFlags, mount},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::network::{Network, address};

/// The room of a data folder that can be filled up: the real etcd allocates 64 MB of log at a time, and one file ahead.
const SMALL_DISK: &str = "size=256m";
const FILL_PORTION: usize = 1 << 20;

pub struct Member {
    pub number: usize,
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    starts: u32,
    child: Option<Child>,
    pub environment: Vec<(String, String)>,
}

impl Member {
    pub fn new(number: usize, (program, arguments): (PathBuf, Vec<String>), folder: &Path) -> Self {
        let folder = folder.join(format!("m{number}"));
        fs::create_dir_all(folder.join("data")).unwrap();
        Member { number, program, arguments, folder, starts: 0, child: None, environment: Vec::new() }
    }

    pub fn name(&self) -> String {
        format!("m{}", self.number)
    }

    pub fn url(&self) -> String {
        format!("http://{}:2379", address(self.number))
    }

    pub fn peer_url(&self) -> String {
        format!("http://{}:2380", address(self.number))
    }

    /// Starts the process. `cluster` is etcd's list of names and peer URLs, `state` is new or existing.
    pub fn start(&mut self, network: &Network, cluster: &str, state: &str) {
        assert!(self.child.is_none(), "{} runs already", self.name());
        self.starts += 1;
        let log = File::create(self.folder.join(format!("log-{}", self.starts))).unwrap();
        // The kernel ends it when the host's thread ends, in whatever way that happens.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program).args(&self.arguments);
        command.arg("--name").arg(self.name()).arg("--data-dir").arg(self.data().join("m"));
        command.args(["--listen-client-urls", &self.url(), "--advertise-client-urls", &self.url()]);
        command.args(["--listen-peer-urls", &self.peer_url(), "--initial-advertise-peer-urls", &self.peer_url()]);
        command.args(["--initial-cluster", cluster, "--initial-cluster-state", state]);
        command.args(["--initial-cluster-token", "robustness"]);
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = network.members[self.number - 1].run(move || command.spawn().unwrap());
        self.child = Some(child);
    }

    /// Whether the process has ended by itself; forgets it then.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
        if ended {
            self.child = None;
        }
        ended
    }

    /// Ends it as a power failure would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{} was running until now\n{}", self.name(), self.log());
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }

    /// Forgets everything that it had stored.
    pub fn erase(&self) {
        fs::remove_dir_all(self.data().join("m")).unwrap();
    }

    /// Puts the data on a disk that can be filled, before the first start.
    pub fn use_small_disk(&self) {
        mount(Some("none"), &self.data(), Some("tmpfs"), MsFlags::empty(), Some(SMALL_DISK)).unwrap();
    }

    /// Leaves no room on the small disk.
    pub fn fill_disk(&self) {
        let mut file = File::create(self.data().join("ballast")).unwrap();
        let portion = vec![0; FILL_PORTION];
        while file.write_all(&portion).is_ok() {}
    }

    pub fn free_disk(&self) {
        fs::remove_file(self.data().join("ballast")).unwrap();
    }

    /// The newest log, its end.
    pub fn log(&self) -> String {
        let text = fs::read(self.folder.join(format!("log-{}", self.starts))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
