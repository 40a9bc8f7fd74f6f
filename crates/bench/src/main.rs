//! Measures Plinth, beside the peers where they are at hand, in one run on one machine. Figures of speed and memory in
//! the documents come from here.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock itself and is no part of the product")]

mod api;
mod load;
mod peer;
mod plinth;
mod report;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures Plinth beside its peers")]
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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().expect("nothing has installed a provider before");
    let Command::Start { plinth, kubectl, etcd, starts, objects, idle } = Cli::parse().command;
    let mut report = report::Report::default();
    plinth::measure(&plinth, &kubectl, starts, objects, idle, &mut report).await?;
    match std::env::var_os("KUBE_APISERVER") {
        Some(path) => peer::measure(&PathBuf::from(path), &etcd, objects, &mut report).await?,
        None => report.note("no peer in this run: KUBE_APISERVER does not name a kube-apiserver"),
    }
    println!("{}", report.table());
    Ok(())
}
