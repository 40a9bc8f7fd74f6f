//! Stores to put a cache over: the durable one in a temporary folder, and a real etcd.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use runtime::{Clock, Tasks};
use store_api::{PutRequest, Revision, Store};
use test_support::{ports::free_port, tool};

/// How long anything is waited for.
pub const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

pub async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    store.put(put).await.unwrap().revision
}

pub struct Local {
    pub store: Arc<dyn Store>,
    pub tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl Local {
    pub async fn open() -> Self {
        let (tasks, folder) = (Tasks::root(), tempfile::tempdir().unwrap());
        let options = store::Options::new(folder.path(), Clock::system(), tasks.child("store"));
        let store = Arc::new(store::Store::open(options).await.unwrap());
        Local { store, tasks, _folder: folder }
    }

    pub async fn stop(self) {
        self.tasks.stop();
        assert!(self.tasks.join(LIMIT).await, "the tasks end");
    }
}

pub struct RealEtcd {
    pub store: Arc<dyn Store>,
    child: Child,
    _folder: tempfile::TempDir,
}

impl RealEtcd {
    pub async fn start() -> Self {
        let program = tool("etcd");
        let folder = tempfile::tempdir().unwrap();
        let (url, peer) = (free_port(), free_port());
        let (url, peer) = (format!("http://127.0.0.1:{url}"), format!("http://127.0.0.1:{peer}"));
        let child = Command::new(program)
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"])
            .arg("--data-dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let connected = async {
            loop {
                if let Ok(client) = etcd_client::Client::connect(etcd_client::Options::new([&url])).await {
                    return client;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let client = tokio::time::timeout(LIMIT, connected).await.expect("etcd answers in time");
        RealEtcd { store: Arc::new(client), child, _folder: folder }
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
