//! One scheduler as a process, and questions to it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use client::{Protocol, connect};
use tempfile::TempDir;

/// Ours.
pub fn ours() -> PathBuf {
    env!("CARGO_BIN_EXE_plinth-scheduler").into()
}

/// A real kube-scheduler, if the environment names one.
pub fn real() -> Option<PathBuf> {
    let path = std::env::var_os("KUBE_SCHEDULER").map(PathBuf::from);
    if path.is_none() {
        println!("not compared: KUBE_SCHEDULER does not name a kube-scheduler");
    }
    path
}

/// Runs a program to its end.
pub fn run(program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("KUBERNETES_SERVICE_HOST").stdin(Stdio::null()).output().unwrap()
}

/// Why a program failed, as it wrote to stderr: without time and place.
pub fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    if let Some(at) = text.rfind("\"command failed\"") {
        return text[at..].to_owned();
    }
    let line = text.lines().next_back().unwrap_or_default();
    line.split_once("] ").map_or(line, |(_, message)| message).to_owned()
}

pub struct Scheduler {
    child: Child,
    log: PathBuf,
    pub port: u16,
    _dir: TempDir,
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scheduler {
    /// Starts a program that serves on a free port.
    pub fn start<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (log, port) = (dir.path().join("log"), test_support::ports::free_port());
        let child = Command::new(program)
            .args(["--bind-address=127.0.0.1", &format!("--secure-port={port}")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Scheduler { child, log, port, _dir: dir }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line of the log that has `text` in it.
    pub async fn says(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "{text}: not in time in\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn terminate(&self) {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::SIGTERM).unwrap();
    }

    pub fn kill(&self) {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::SIGKILL).unwrap();
    }

    fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for the end, and gives the exit code.
    pub async fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it goes on:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The code, content type and text of an answer.
    pub async fn ask(&self, path: &str, token: Option<&str>, protocol: Protocol) -> (u16, String, String) {
        let mut config = kube::Config::new(format!("https://127.0.0.1:{}", self.port).parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = token.map(|token| token.to_owned().into());
        let client = connect(&config, protocol).unwrap();
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        let response = client.send(request).await.unwrap();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let code = response.status().as_u16();
        let body = response.into_body().collect_bytes().await.unwrap();
        (code, kind.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
    }
}
