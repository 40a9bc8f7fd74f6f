//! Runs a member from its configuration until a signal or a failure ends it.
//!
//! ```text
//!   data folder looked at ▶ listeners bound ▶ store opened ▶ peers, clients, metrics served ▶ ready ▶ signal ▶ stop
//! ```
//!
//! The lines that it logs are etcd's, at the same moments: scripts and test suites wait for them.

mod announce;
mod data_dir;
mod listen;
mod mapping;
mod members;
mod peers;
mod plain;
mod signals;
mod start;
mod systemd;

use std::time::Duration;

use nix::sys::signal::Signal;
use runtime::Tasks;
use telemetry::zap;

use self::{
    data_dir::{DataDirError, Found},
    start::{Running, StartError},
};
use crate::{
    config::{Config, Log},
    url,
};

pub use signals::end_by;

/// For one layer of the process to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(7);

/// How a member ended.
pub enum End {
    /// It did not start, or could not go on; the log says why.
    Failed,
    Signal(Signal),
}

/// Runs it.
pub async fn run(config: &Config) -> End {
    let data_dir = config.data_dir.display().to_string();
    let found = match data_dir::look(&config.data_dir) {
        Ok(found) => found,
        Err(error @ DataDirError::List { .. }) => {
            tracing::error!(target: zap::FATAL, dir = data_dir, %error, "failed to list data directory");
            return End::Failed;
        }
        Err(error) => {
            tracing::error!(target: zap::FATAL, dir = data_dir, %error, "the data directory is not ours");
            return End::Failed;
        }
    };
    if found == Found::Member {
        tracing::info!("data-dir" = data_dir, "dir-type" = "member", "server has been already initialized");
    }
    let mut signals = match signals::Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(target: zap::FATAL, %error, "signals cannot be caught");
            return End::Failed;
        }
    };
    let tasks = Layers::new();
    let started = tokio::select! {
        started = start::start(config, found, &tasks) => started,
        // As with etcd, it ends at once: there is nothing yet that needs an order.
        signal = signals.next() => return End::Signal(signal),
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            tasks.stop(config, &[]).await;
            refused(found, &error);
            return End::Failed;
        }
    };
    systemd::ready();
    until_the_end(config, &tasks, &running, &mut signals).await
}

async fn until_the_end(config: &Config, tasks: &Layers, running: &Running, signals: &mut signals::Signals) -> End {
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = running.store.removed() => {
            tracing::warn!("the member has been permanently removed from the cluster; it stops");
            tasks.stop(config, &running.peers).await;
            return End::Failed;
        }
        failure = tasks.root.failure() => {
            tracing::error!(target: zap::FATAL, error = %failure, "listener failed");
            return End::Failed;
        }
    };
    tracing::info!(signal = signals::name(signal), "received signal; shutting down");
    tokio::select! {
        () = tasks.stop(config, &running.peers) => End::Signal(signal),
        // Whoever asks twice does not want to wait.
        again = signals.next() => End::Signal(again),
    }
}

/// What stops together, in the order in which it stops.
pub struct Layers {
    root: Tasks,
    clients: Tasks,
    peers: Tasks,
    store: Tasks,
}

impl Layers {
    fn new() -> Self {
        let root = Tasks::root();
        let (clients, peers, store) = (root.child("clients"), root.child("peers"), root.child("store"));
        Layers { root, clients, peers, store }
    }

    /// Stops layer by layer, so that the last writes of clients find the store.
    async fn stop(&self, config: &Config, peers: &[String]) {
        let fields = || {
            zap::fields(&[
                ("name", config.name.clone().into()),
                ("data-dir", config.data_dir.display().to_string().into()),
                ("advertise-peer-urls", url::texts(&config.advertise_peer_urls).into()),
                ("advertise-client-urls", url::texts(&config.advertise_client_urls).into()),
            ])
        };
        tracing::info!(zap = fields(), "closing etcd server");
        self.end(&self.clients).await;
        peers.iter().for_each(|address| tracing::info!(address, "stopping serving peer traffic"));
        self.end(&self.peers).await;
        peers.iter().for_each(|address| tracing::info!(address, "stopped serving peer traffic"));
        self.end(&self.store).await;
        tracing::info!(zap = fields(), "closed etcd server");
    }

    async fn end(&self, layer: &Tasks) {
        layer.stop();
        if !layer.join(STOP_PATIENCE).await {
            tracing::warn!("a layer did not stop within {STOP_PATIENCE:?}");
        }
    }
}

/// Says why the member did not start, in the lines of etcd.
fn refused(found: Found, error: &StartError) {
    if found == Found::Nothing {
        tracing::warn!(%error, "failed to start etcd");
    }
    tracing::error!(target: zap::FATAL, %error, "discovery failed");
}

/// Where the log goes.
pub fn log_options(log: &Log) -> zap::Options {
    let output = |name: &String| match (name.as_str(), log.rotation) {
        ("default" | "stderr", _) => zap::Output::Stderr,
        ("stdout", _) => zap::Output::Stdout,
        ("systemd/journal", _) => zap::Output::Journal,
        (path, None) => zap::Output::File(path.into()),
        (path, Some(rotation)) => zap::Output::Rotated {
            path: path.into(),
            max_bytes: rotation.max_bytes,
            max_backups: usize::try_from(rotation.max_backups).unwrap_or(usize::MAX),
        },
    };
    // One that discards everything wins over the others, as in zap.
    let outputs = match log.outputs.iter().any(|name| name == "/dev/null") {
        true => Vec::new(),
        false => log.outputs.iter().map(output).collect(),
    };
    let encoding = if log.console { zap::Encoding::Console } else { zap::Encoding::Json };
    zap::Options { level: log.level, encoding, outputs, traces: log.traces.clone() }
}
