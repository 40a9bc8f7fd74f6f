//! A real kube-apiserver over a real etcd, for the figures that it can give: writes and lists.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use crate::{api::Target, load, ports, report::Report};

const TOKEN: &str = "bench";
/// How long kube-apiserver may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(120);
/// Room for everything that a run writes.
const QUOTA_BYTES: u64 = 8 << 30;

/// Ends the process with the value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A kube-apiserver and its etcd, taken down with the value.
pub struct KubeApiserver {
    // Ended in this order.
    apiserver: Ended,
    etcd: Ended,
    dir: tempfile::TempDir,
    pub target: Target,
    pub ready_after: Duration,
}

impl KubeApiserver {
    /// Starts both and waits until the API is ready.
    pub async fn start(apiserver: &Path, etcd: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-peer-").tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (client, peer, port) = (ports::free()?, ports::free()?, ports::free()?);
        let etcd = quiet(Command::new(etcd).args([
            "--data-dir".into(),
            path("etcd"),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--quota-backend-bytes={QUOTA_BYTES}"),
        ]))?;
        let key =
            Command::new("openssl").args(["genrsa", "-out", &path("sa.key"), "2048"]).stderr(Stdio::null()).status()?;
        ensure!(key.success(), "openssl could not make a key");
        fs::write(path("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n"))?;
        let address = format!("127.0.0.1:{port}");
        fs::write(path("kubeconfig.yaml"), kubeconfig(&address))?;
        let began = Instant::now();
        let apiserver = quiet(
            Command::new(apiserver)
                .args([
                    format!("--etcd-servers=http://127.0.0.1:{client}"),
                    format!("--secure-port={port}"),
                    "--bind-address=127.0.0.1".into(),
                    // Where no route leads out, it finds no address by itself; nobody asks for its endpoints.
                    "--advertise-address=127.0.0.1".into(),
                    "--endpoint-reconciler-type=none".into(),
                    format!("--cert-dir={}", path("certs")),
                    format!("--token-auth-file={}", path("tokens.csv")),
                    "--authorization-mode=RBAC".into(),
                    format!("--service-account-key-file={}", path("sa.key")),
                    format!("--service-account-signing-key-file={}", path("sa.key")),
                    "--service-account-issuer=https://bench".into(),
                    "--service-cluster-ip-range=10.44.0.0/16".into(),
                ])
                .args(flags),
        )?;
        let target = Target::with_token(&address, TOKEN);
        let mut peer = KubeApiserver { apiserver, etcd, dir, target, ready_after: Duration::ZERO };
        peer.wait(began).await?;
        peer.ready_after = began.elapsed();
        Ok(peer)
    }

    async fn wait(&self, began: Instant) -> anyhow::Result<()> {
        loop {
            if let Ok(mut connection) = self.target.connect().await
                && connection.call(hyper::Method::GET, "/readyz", bytes::Bytes::new()).await.is_ok()
                && connection.get("/api/v1/namespaces/default").await.is_ok()
            {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!("kube-apiserver did not become ready within {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn pids(&self) -> [u32; 2] {
        [self.apiserver.0.id(), self.etcd.0.id()]
    }

    /// An administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig.yaml")
    }
}

fn quiet(command: &mut Command) -> anyhow::Result<Ended> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Ok(Ended(child.with_context(|| format!("cannot start {}", command.get_program().display()))?))
}

fn kubeconfig(address: &str) -> String {
    let cluster = json!({"server": format!("https://{address}"), "insecure-skip-tls-verify": true});
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": cluster}],
        "users": [{"name": "bench", "user": {"token": TOKEN}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}]});
    // JSON is YAML.
    config.to_string()
}

pub async fn measure(apiserver: &Path, etcd: &Path, objects: usize, report: &mut Report) -> anyhow::Result<()> {
    let peer = KubeApiserver::start(apiserver, etcd, &["--disable-admission-plugins=ServiceAccount"]).await?;
    report.peer(crate::plinth::READYZ, peer.ready_after.as_secs_f64());
    report.peer(crate::plinth::CREATES, load::create(&peer.target, "default", objects).await?);
    let (milliseconds, _) = load::list(&peer.target, "default").await?;
    report.peer(crate::plinth::LISTS, milliseconds);
    Ok(())
}
