//! The demo's cluster: the one that runs, or one of its own in a child process.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use crate::{cli::DemoArgs, data_dir, terminal::Step};

/// For a whole cluster to start on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster that this command started.
pub struct Own {
    child: Child,
    args: DemoArgs,
}

/// `None` when a cluster runs already.
pub async fn ensure(args: &DemoArgs) -> anyhow::Result<Option<Own>> {
    if data_dir::holder(&args.paths.data_dir).is_some() {
        return Ok(None);
    }
    crate::require_root("plinth demo without a running cluster")?;
    let step = Step::begin("Cluster");
    let mut child = Command::new(std::env::current_exe()?)
        .arg("up")
        .args(flags(args))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start plinth up")?;
    let ready = Command::new(std::env::current_exe()?)
        .args(["status", "--wait", &PATIENCE.as_secs().to_string()])
        .args(flags(args))
        .stdout(Stdio::null())
        .status();
    tokio::select! {
        status = ready => {
            if !status?.success() {
                let _ = child.start_kill();
                bail!("the cluster did not become ready: run plinth up to see why");
            }
        }
        ended = child.wait() => {
            let mut text = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut text).await?;
            }
            bail!("plinth up ended with {}: {}", ended?, text.trim());
        }
    }
    // Nobody reads it from here on, and a full pipe would stop the cluster.
    if let Some(mut stderr) = child.stderr.take() {
        let tasks = runtime::Tasks::root();
        tasks.spawn("cluster-log", async move {
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        });
    }
    step.done("one process, ready");
    Ok(Some(Own { child, args: args.clone() }))
}

fn flags(args: &DemoArgs) -> Vec<std::ffi::OsString> {
    let mut flags: Vec<std::ffi::OsString> = Vec::new();
    flags.extend(["--data-dir".into(), args.paths.data_dir.clone().into()]);
    flags.extend(["--run-dir".into(), args.paths.run_dir.clone().into()]);
    flags.extend(["--write-kubeconfig".into(), args.kubeconfig.write_kubeconfig.clone().into()]);
    flags
}

impl Own {
    /// Stops the cluster and removes what it left, or with `keep` leaves it running.
    pub async fn stop(mut self, keep: bool) -> anyhow::Result<()> {
        if keep {
            println!("The cluster goes on in process {}; plinth down stops it.", self.child.id().unwrap_or(0));
            return Ok(());
        }
        let step = Step::begin("Cluster");
        let down = Command::new(std::env::current_exe()?)
            .arg("down")
            .args(flags(&self.args))
            .stdout(Stdio::null())
            .status()
            .await?;
        self.child.wait().await?;
        if !down.success() {
            bail!("plinth down failed; run it again to see why");
        }
        step.done("stopped and removed");
        Ok(())
    }
}
