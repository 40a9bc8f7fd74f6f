//! Measures Plinth, beside the peers where they are at hand, in one run on one machine. Figures of speed and memory in
//! the documents come from here.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock itself and is no part of the product")]

mod api;
mod interrupt;
mod load;
mod peer;
mod plinth;
mod ports;
mod process;
mod report;
mod scheduler;
mod store;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// What the product uses, for those parts of it that run in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about = "Measures Plinth beside its peers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start-up, pods, idle cost, writes and lists of the whole process. A kube-apiserver whose path stands in
    /// KUBE_APISERVER is measured beside it.
    Start {
        /// The release build of plinth.
        #[arg(long, default_value = "target/release/plinth")]
        plinth: PathBuf,
        /// kubectl, for `kubectl apply`.
        #[arg(long, default_value = ".tools/bin/kubectl")]
        kubectl: PathBuf,
        /// etcd, which a peer needs.
        #[arg(long, default_value = ".tools/bin/etcd")]
        etcd: PathBuf,
        /// Starts on an empty folder; the median is reported.
        #[arg(long, default_value_t = 5)]
        starts: usize,
        /// Objects to write and list.
        #[arg(long, default_value_t = 10_000)]
        objects: usize,
        /// Seconds of idling to measure.
        #[arg(long, default_value_t = 30)]
        idle: u64,
    },
    /// The store beside etcd: writes, reads, lists, watches, memory, restart, compaction, three members.
    Store(store::Options),
    /// The scheduler beside kube-scheduler: the workloads of Kubernetes' scheduler_perf on simulated nodes.
    Scheduler(scheduler::Options),
    /// A server of one member with etcd's flags.
    #[command(hide = true, version)]
    ServeStore(store::dev::Flags),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider().install_default().expect("nothing has installed a provider before");
    match Cli::parse().command {
        Command::Start { plinth, kubectl, etcd, starts, objects, idle } => {
            start(plinth, kubectl, etcd, starts, objects, idle).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Store(options) => store::run(options).await,
        Command::Scheduler(options) => scheduler::run(options).await,
        Command::ServeStore(flags) => store::dev::serve(flags).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn start(
    plinth: PathBuf,
    kubectl: PathBuf,
    etcd: PathBuf,
    starts: usize,
    objects: usize,
    idle: u64,
) -> anyhow::Result<()> {
    let mut report = report::Report::beside("peer", |line| println!("{line}"));
    plinth::measure(&plinth, &kubectl, starts, objects, idle, &mut report).await?;
    match std::env::var_os("KUBE_APISERVER") {
        Some(path) => peer::measure(&PathBuf::from(path), &etcd, objects, &mut report).await?,
        None => report.note("no peer in this run: KUBE_APISERVER does not name a kube-apiserver"),
    }
    println!("{}", report.table());
    Ok(())
}
