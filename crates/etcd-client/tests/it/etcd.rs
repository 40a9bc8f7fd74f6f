//! Starts the real programs, and stops them again whatever happens.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use etcd_client::{Client, Options};
use store_api::Store;
use test_support::{ports::free_port, tool};

/// How long a program that was started may take to answer.
const START_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

pub struct Etcd {
    program: PathBuf,
    child: Child,
    folder: tempfile::TempDir,
    peer_port: u16,
    pub url: String,
}

impl Etcd {
    pub fn start() -> Self {
        let program = tool("etcd");
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://127.0.0.1:{}", free_port());
        let peer_port = free_port();
        let child = spawn(&program, &folder, &url, peer_port);
        Etcd { program, child, folder, peer_port, url }
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn restart(&mut self) {
        self.child = spawn(&self.program, &self.folder, &self.url, self.peer_port);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(program: &PathBuf, folder: &tempfile::TempDir, url: &str, peer_port: u16) -> Child {
    let peer = format!("http://127.0.0.1:{peer_port}");
    Command::new(program)
        .args(["--listen-client-urls", url, "--advertise-client-urls", url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"])
        .arg("--data-dir")
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub async fn connected(url: &str) -> Client {
    wait(|| async { Client::connect(Options::new([url])).await.ok() }).await
}

pub async fn answering(client: Client) -> Client {
    wait(|| async { client.status().await.is_ok().then(|| client.clone()) }).await
}

async fn wait<T, F: Future<Output = Option<T>>>(attempt: impl Fn() -> F) -> T {
    let polled = async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(START_LIMIT, polled).await.expect("etcd answers in time")
}
