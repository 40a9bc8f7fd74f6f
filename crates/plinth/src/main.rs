//! The one binary: the command line, and the composition of all parts. The only crate that knows them all.
//!
//! Called as `plinth shim`, it is a pod's container supervisor instead, which must run before any thread exists. Called
//! as `plinth store`, or by the name `etcd`, it is a member of a store with etcd's command line; as `plinth scheduler`, or
//! by the name `kube-scheduler`, a scheduler with kube-scheduler's.

mod cli;
mod config;
mod control;
mod data_dir;
mod demo;
mod down;
mod image;
mod kubeconfig;
mod pki;
mod status;
mod terminal;
mod up;
mod why;

use std::{ffi::OsString, path::Path, process::ExitCode, sync::Arc};

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The hidden first argument under which this binary is a pod's shim.
const SHIM: &str = "shim";
/// The first arguments that start one part alone.
const STORE: &str = "store";
const SCHEDULER: &str = "scheduler";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == SHIM) {
        return containers::shim_main(args.into_iter().skip(2));
    }
    if let Some(args) = part_arguments(&args, STORE, etcd_main::ETCD) {
        return etcd_main::main(args);
    }
    if let Some(args) = part_arguments(&args, SCHEDULER, scheduler_main::KUBE_SCHEDULER) {
        return scheduler_main::main(args, scheduler_plugins());
    }
    let args = match config::expand(args) {
        Ok(args) => args,
        Err(error) => return fail(&error),
    };
    let cli = cli::Cli::parse_from(args);
    rustls::crypto::ring::default_provider().install_default().expect("nothing has installed a provider before");
    let built =
        tokio::runtime::Builder::new_multi_thread().worker_threads(runtime::cpu::worker_threads()).enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the async runtime")),
    };
    let result = runtime.block_on(run(cli.command));
    // A blocking call that hangs must not keep the process from ending.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| fail(&error))
}

/// The arguments of a part, if it is to run alone: its flags are those of the program that it stands in for, and clap has
/// no part in them.
fn part_arguments(args: &[OsString], part: &str, stands_for: &str) -> Option<Vec<OsString>> {
    let (program, rest) = args.split_first()?;
    if Path::new(program).file_name().is_some_and(|name| name == stands_for) {
        return Some(args.to_vec());
    }
    let (first, rest) = rest.split_first()?;
    (first == part)
        .then(|| [OsString::from(format!("plinth {part}"))].into_iter().chain(rest.iter().cloned()).collect())
}

/// The kinds of plugins that the scheduler takes beside Kubernetes' own.
#[cfg(feature = "wasm")]
fn scheduler_plugins() -> Vec<Arc<dyn scheduler::Plugins>> {
    vec![Arc::new(wasm_host::SchedulerPlugins::default())]
}

#[cfg(not(feature = "wasm"))]
fn scheduler_plugins() -> Vec<Arc<dyn scheduler::Plugins>> {
    Vec::new()
}

async fn run(command: cli::Command) -> anyhow::Result<ExitCode> {
    match command {
        cli::Command::Up(args) => up::run(*args).await,
        cli::Command::Down(args) => down::run(args).await,
        cli::Command::Status(args) => status::run(args).await,
        cli::Command::Demo(args) => demo::run(args).await,
        cli::Command::Image(args) => image::run(args).await,
        cli::Command::Why(args) => why::run(args).await,
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("{}", terminal::error(&format!("{error:#}")));
    ExitCode::FAILURE
}

/// Errors early, with the reason, where only root can go on.
fn require_root(what: &str) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("{what} needs root: it makes namespaces, cgroups, mounts and BPF programs; try sudo");
    }
    Ok(())
}
