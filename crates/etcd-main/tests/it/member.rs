//! A member of this test's own: its folder, its ports, its log, and etcdctl on it.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use test_support::{Ran, ports::free_port, run, tool, until};

pub const BINARY: &str = env!("CARGO_BIN_EXE_plinth-store");
/// What etcd's own end-to-end tests wait for.
pub const READY_LINE: &str = "ready to serve client requests";
/// For a state that takes milliseconds on a quiet machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A command without any variable of etcd's or systemd's.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    command
}

/// A folder and ports for a member.
pub struct Place {
    pub folder: TempDir,
    pub client: u16,
    pub peer: u16,
}

impl Place {
    pub fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap(), client: free_port(), peer: free_port() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data_dir(&self) -> String {
        self.path("data").display().to_string()
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.client)
    }

    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    /// The flags that keep members of tests apart.
    pub fn flags(&self, scheme: &str) -> Vec<String> {
        let (client, peer) = (self.url(scheme), self.peer_url());
        let flags = [
            format!("--data-dir={}", self.data_dir()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ];
        flags.to_vec()
    }

    /// etcdctl on this member, with the words of a line.
    pub fn etcdctl(&self, flags: &[String], line: &str) -> Ran {
        let mut command = clean(tool("etcdctl"));
        command.args(flags).args(line.split(' '));
        run(&mut command, None, 20)
    }
}

/// A running process and what it has logged so far.
pub struct Member {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Member {
    /// Starts a command and waits until it serves.
    pub fn start(command: &mut Command) -> Self {
        let member = Member::spawn(command);
        member.wait_for(READY_LINE);
        member
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        Member { child, lines }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The first line with this text. A member that has ended has said all that it will.
    pub fn wait_for(&self, text: &str) -> String {
        until(text, SOON, || {
            let lines = self.lines.lock().unwrap();
            lines.iter().find(|line| line.contains(text)).cloned().ok_or_else(|| lines.join("\n"))
        })
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(run(Command::new("kill").args([format!("-{name}"), pid]), None, 5).ok());
    }

    /// Waits for the end; the code, or the negative number of the signal.
    pub fn wait(&mut self) -> i32 {
        let status = until("the end of the member", SOON, || {
            self.child.try_wait().unwrap().ok_or_else(|| "it goes on".to_owned())
        });
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }

    pub fn stop(&mut self) {
        self.signal("TERM");
        assert_eq!(self.wait(), -15);
        self.wait_for("closed etcd server");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a file into a place's folder and gives its path.
pub fn write(place: &Place, name: &str, text: &str) -> String {
    let path = place.path(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A symbolic link `etcd` to the binary.
pub fn by_name_etcd(place: &Place) -> PathBuf {
    let link = place.path("etcd");
    std::os::unix::fs::symlink(Path::new(BINARY), &link).unwrap();
    link
}
