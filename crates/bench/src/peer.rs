//! A real kube-apiserver over a real etcd, for the figures that it can give: writes and lists.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::{api::Target, load, report::Report};

const TOKEN: &str = "bench";
const PORT: u16 = 16443;

/// Ends the process with the value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn measure(apiserver: &Path, etcd: &Path, objects: usize, report: &mut Report) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Ended);
    let _etcd = quiet(Command::new(etcd).args([
        "--data-dir".into(),
        path("etcd"),
        "--listen-client-urls=http://127.0.0.1:12379".into(),
        "--advertise-client-urls=http://127.0.0.1:12379".into(),
        "--listen-peer-urls=http://127.0.0.1:12380".into(),
    ]))?;
    let key =
        Command::new("openssl").args(["genrsa", "-out", &path("sa.key"), "2048"]).stderr(Stdio::null()).status()?;
    anyhow::ensure!(key.success(), "openssl could not make a key");
    std::fs::write(path("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n"))?;
    let began = Instant::now();
    let _apiserver = quiet(Command::new(apiserver).args([
        "--etcd-servers=http://127.0.0.1:12379".into(),
        format!("--secure-port={PORT}"),
        "--bind-address=127.0.0.1".into(),
        format!("--cert-dir={}", path("certs")),
        format!("--token-auth-file={}", path("tokens.csv")),
        "--authorization-mode=RBAC".into(),
        format!("--service-account-key-file={}", path("sa.key")),
        format!("--service-account-signing-key-file={}", path("sa.key")),
        "--service-account-issuer=https://bench".into(),
        "--service-cluster-ip-range=10.44.0.0/16".into(),
        "--disable-admission-plugins=ServiceAccount".into(),
    ]))?;
    let target = Target::with_token(&format!("127.0.0.1:{PORT}"), TOKEN);
    loop {
        if let Ok(mut connection) = target.connect().await
            && connection.call(hyper::Method::GET, "/readyz", bytes::Bytes::new()).await.is_ok()
            && connection.get("/api/v1/namespaces/default").await.is_ok()
        {
            break;
        }
        if began.elapsed() > Duration::from_secs(120) {
            bail!("kube-apiserver did not become ready within 120 s");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    report.peer(crate::plinth::READYZ, began.elapsed().as_secs_f64());
    report.peer(crate::plinth::CREATES, load::create(&target, "default", objects).await?);
    let (milliseconds, _) = load::list(&target, "default").await?;
    report.peer(crate::plinth::LISTS, milliseconds);
    Ok(())
}
