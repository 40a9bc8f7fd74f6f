//! `plinth down`: stops the process and removes what it left on this machine. Running it twice is fine.

use std::{fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{cli::DownArgs, data_dir, terminal::Step, up};

/// Time for the process to stop by itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

pub async fn run(args: DownArgs) -> anyhow::Result<ExitCode> {
    crate::require_root("plinth down")?;
    let data_dir = &args.paths.data_dir;
    if let Some(pid) = data_dir::holder(data_dir) {
        let step = Step::begin("Process");
        stop(data_dir, pid).await?;
        step.done(&format!("{pid} has stopped"));
    }
    let mut failed = Vec::new();
    let step = Step::begin("Containers");
    match containers::cleanup(&args.paths.run_dir, &data_dir::agent(data_dir), up::CGROUP_ROOT).await {
        Ok(()) => step.done("containers, mounts and cgroups are gone"),
        Err(error) => {
            step.failed(&error.to_string());
            failed.push("containers");
        }
    }
    let step = Step::begin("Network");
    match datapath::cleanup(&up::datapath_paths(&args.paths)).await {
        Ok(()) => step.done("devices, namespaces, rules and BPF programs are gone"),
        Err(error) => {
            step.failed(&error.to_string());
            failed.push("network");
        }
    }
    if !failed.is_empty() {
        bail!("not everything could be removed: {}; `plinth down` can be repeated", failed.join(", "));
    }
    remove(&args.paths.run_dir)?;
    if args.purge {
        if data_dir.join("plinth.version").exists() {
            remove(data_dir)?;
        }
        if args.kubeconfig.write_kubeconfig.exists() {
            fs::remove_file(&args.kubeconfig.write_kubeconfig)?;
        }
        println!("The data in {} is gone.", data_dir.display());
    } else if data_dir.exists() {
        println!(
            "The data in {} stays: `plinth up` goes on with it, `plinth down --purge` removes it.",
            data_dir.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn stop(data_dir: &Path, pid: i32) -> anyhow::Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("cannot stop process {pid}"))?;
    let clock = runtime::Clock::system();
    let deadline = clock.monotonic() + PATIENCE;
    while data_dir::holder(data_dir) == Some(pid) {
        if clock.monotonic() > deadline {
            // The lock names the process: it is ours, whatever else may have been given its number meanwhile is not.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
