//! One cluster from the real binary, in folders of its own, removed when it is dropped.

use std::{
    fs,
    io::Read,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Kubectl, Ran, run, until};

/// How a cluster is started.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// More flags for `plinth up`.
    pub flags: Vec<String>,
}

/// A running cluster.
pub struct Cluster {
    binary: PathBuf,
    dir: tempfile::TempDir,
    flags: Vec<String>,
    child: Option<Child>,
    starts: u32,
    pub kubectl: Kubectl,
    _alone: Flock<fs::File>,
}

impl Cluster {
    /// Starts a cluster and waits until it is well.
    pub fn start(binary: &str, setup: Setup) -> Self {
        let mut cluster = Cluster::prepare(binary, setup);
        cluster.up();
        cluster
    }

    /// Everything but the start.
    pub fn prepare(binary: &str, setup: Setup) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "end-to-end tests make namespaces, cgroups and BPF programs: run them as root"
        );
        let lock = std::env::temp_dir().join("plinth-e2e.lock");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(lock).unwrap();
        let alone = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
        let dir = tempfile::Builder::new().prefix("plinth-e2e-").tempdir().unwrap();
        let kubectl = Kubectl::new(&dir.path().join("kubeconfig.yaml"), &dir.path().join("cache"));
        let cluster =
            Cluster { binary: binary.into(), dir, flags: setup.flags, child: None, starts: 0, kubectl, _alone: alone };
        // What an earlier run that was killed has left.
        cluster.down(&[]);
        cluster
    }

    /// A folder that is gone with the cluster.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// Runs a subcommand of the binary on this cluster's folders.
    pub fn plinth(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(&self.binary);
        command.arg(args[0]).args(self.folders(args[0])).args(&args[1..]);
        run(&mut command, None, 120)
    }

    /// Starts the process and waits until all checks of `plinth status` but the pods' pass.
    pub fn up(&mut self) {
        self.spawn();
        until("the node is Ready", Duration::from_secs(60), || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("plinth up ended with {status}:\n{}", self.log());
            }
            let ran = self.kubectl.run("get nodes");
            if ran.stdout.contains(" Ready ") { Ok(()) } else { Err(format!("{ran:?}\n{}", self.log())) }
        });
    }

    /// Starts the process without waiting.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.starts += 1;
        let log = fs::File::create(self.path(&format!("up-{}.log", self.starts))).unwrap();
        let child = Command::new(&self.binary)
            .arg("up")
            .args(self.folders("up"))
            .args(&self.flags)
            .env("PLINTH_LOG", std::env::var("PLINTH_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// The process's own number.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// Ends the process as a power failure would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it was running until now\n{}", self.log());
    }

    /// Ends the process as Ctrl-C does, and returns its exit code.
    pub fn interrupt(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        for _ in 0..400 {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("it did not stop within 20 s of Ctrl-C:\n{}", self.log());
    }

    /// The log of the newest start, its end.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(self.path(&format!("up-{}.log", self.starts))) {
            let _ = file.read_to_string(&mut text);
        }
        let start = text.char_indices().rev().nth(12_000).map_or(0, |(at, _)| at);
        text[start..].to_owned()
    }

    /// `plinth down` on these folders.
    pub fn down(&self, flags: &[&str]) -> Ran {
        let mut args = vec!["down"];
        args.extend(flags);
        self.plinth(&args)
    }

    fn folders(&self, subcommand: &str) -> Vec<String> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut flags = vec!["--data-dir".to_owned(), text(self.data_dir())];
        // Sockets' paths have little room: not below the temporary folder.
        flags.extend(["--run-dir".to_owned(), "/run/plinth-e2e".to_owned()]);
        if subcommand != "image" {
            flags.extend(["--write-kubeconfig".to_owned(), text(self.path("kubeconfig.yaml"))]);
        }
        flags
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the cluster's log ---\n{}", self.log());
        }
        let ran = self.down(&["--purge"]);
        if !ran.ok() && !thread::panicking() {
            panic!("plinth down failed: {ran:?}");
        }
        assert!(thread::panicking() || !Path::new("/run/plinth-e2e").exists(), "the run folder is left");
    }
}
