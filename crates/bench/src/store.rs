//! Plinth's store beside etcd: the same flags, the same disk, the same load, in one run.
//!
//! ```text
//!   single ─┐             ┌ drive: so many unary calls in flight ┐
//!   large ──┼─▶ loads ──▶ ┤ fanout: one writer, many watchers    ├─▶ pool ─▶ h2 ═══▶ server: a process of its own
//!   members ┘             └ failover: writes while a leader dies ┘
//! ```
//!
//! Knows the servers by their flags and by etcd's protocol only. A wrong answer or a failed call ends its row.

mod control;
pub mod dev;
mod drive;
mod failover;
mod fanout;
mod h2;
mod histogram;
mod hpack;
mod huffman;
mod in_process;
mod large;
mod loads;
mod members;
mod pool;
mod server;
mod shards;
mod single;
mod wire;

use std::{
    io::{IsTerminal, stderr},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use server::Program;

use crate::{
    interrupt,
    report::{Goal, Report, Side},
};

/// Parts of the table that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// Puts by 1, 64 and 1,000 clients.
    Puts,
    /// Linearizable and serializable reads of one key.
    Gets,
    /// Transactions that compare and put.
    Txn,
    /// Ranges of 1,000 keys.
    Lists,
    /// One key with 1,000 watchers.
    Watch,
    /// Memory of 1,000,000 keys, and a restart on them.
    Million,
    /// Puts while 1,000,000 revisions are compacted.
    Compaction,
    /// Three members, and the death of their leader.
    Members,
    /// Four shards of one member beside one.
    Shards,
    /// The store without a wire.
    InProcess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Args)]
pub struct Options {
    /// The server that is measured: a program and the words before its flags.
    #[arg(long, default_value = "target/release/plinth store")]
    plinth: Program,
    /// etcd, which it is measured beside.
    #[arg(long, default_value = ".tools/bin/etcd")]
    etcd: Program,
    /// Only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Row>,
    /// Seconds that each load is measured on each server.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// A look rather than a measurement: one second each, and a tenth of the keys.
    #[arg(long)]
    quick: bool,
    /// An existing folder on the disk to measure; what is made in it is removed.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Minutes after which the run gives up.
    #[arg(long, default_value_t = 15)]
    limit: u64,
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

impl Options {
    fn length(&self) -> Duration {
        Duration::from_secs_f64(if self.quick { 1.0 } else { self.seconds.clamp(0.1, 60.0) })
    }

    /// How long a server is at rest before something happens to it: long enough for the snapshots of its log that it
    /// writes now and then, which belong to rest.
    fn rest(&self) -> Duration {
        if self.quick { self.length() } else { self.length().max(Duration::from_secs(20)) }
    }

    /// How many "a million" are.
    fn many(&self) -> u32 {
        if self.quick { 100_000 } else { 1_000_000 }
    }

    fn many_in_words(&self) -> &'static str {
        if self.quick { "100,000" } else { "1,000,000" }
    }

    fn kills(&self, usually: usize) -> usize {
        if self.quick { 1 } else { usually }
    }
}

/// One run: what was asked for, and what has come of it so far.
struct Run<'a> {
    options: &'a Options,
    report: Report,
    failed: bool,
}

pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    interrupt::heeding(move || measure(&options)).await
}

fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    interrupt::limit(Duration::from_secs(options.limit * 60));
    let began = Instant::now();
    let peer = options.etcd.version().context("`make tools` brings etcd")?;
    let plinth = options.plinth.version()?;
    let peer = peer.replace(" Version:", "").to_lowercase();
    let mut run = Run { options, report: Report::beside(&peer, progress), failed: false };
    if let Err(error) = single::measure(&mut run) {
        run.failed("one member", &error);
    }
    run.row(Row::Million, large::million);
    run.row(Row::Compaction, large::compaction);
    run.row(Row::Members, members::measure);
    run.row(Row::Shards, shards::measure);
    run.row(Row::InProcess, in_process);
    run.notes(&plinth, began);
    match options.output {
        Output::Table => println!("{}", run.report.table()),
        Output::Json => println!("{:#}", run.report.json()),
    }
    Ok(if run.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Run<'_> {
    fn wants(&self, row: Row) -> bool {
        (self.options.only.is_empty() || self.options.only.contains(&row)) && interrupt::check().is_ok()
    }

    /// Measures a part if it is wanted. One that fails is told, and the others go on.
    fn row(&mut self, row: Row, measure: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        if self.wants(row)
            && let Err(error) = measure(self)
        {
            self.failed(&format!("{row:?}").to_lowercase(), &error);
        }
    }

    fn failed(&mut self, what: &str, error: &anyhow::Error) {
        self.failed = true;
        progress(&format!("{what}: {error:#}"));
        self.report.note(&format!("FAILED, {what}: {error:#}"));
    }

    fn programs(&self) -> [(Side, Program); 2] {
        [(Side::Plinth, self.options.plinth.clone()), (Side::Peer, self.options.etcd.clone())]
    }

    /// A folder on the disk that is measured.
    fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        let parent = &self.options.dir;
        let folder = tempfile::Builder::new().prefix("bench-store-").tempdir_in(parent);
        // Servers are given absolute paths, wherever they may change to.
        let folder = folder.with_context(|| format!("no folder can be made in {}", parent.display()))?;
        Ok(folder)
    }

    fn notes(&mut self, plinth: &str, began: Instant) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        for note in [
            format!("plinth is `{plinth}`; the run took {:.0} s on {cores} cores; load {}", began.elapsed().as_secs_f64(), load.trim()),
            "Keys of 24 bytes, values of 256 random bytes, fsync on, servers as processes on loopback without TLS. \
             Clients are requests in flight: 1 on 1 connection, 16 on 16, 64 on 16, 1,000 on 50; the load generator is \
             one thread. Servers take turns of half the time each, and who waits is stopped (three members are not)."
                .to_owned(),
            "Watchers: 1,000 on one key, 100 on each of 10 streams with a connection each, at most 16 writes ahead; each \
             event is counted. Three members: connections spread over all three. Leader killed: median of the kills."
                .to_owned(),
            "Server CPU is utime + stime of the server's processes. Shards share one log and its fsync.".to_owned(),
        ] {
            self.report.note(&note);
        }
    }
}

fn in_process(run: &mut Run<'_>) -> anyhow::Result<()> {
    let dir = run.folder()?;
    let measured = in_process::measure(dir.path(), run.options.length());
    let rates = tokio::runtime::Handle::current().block_on(measured)?;
    let mut tell = |what: &str, value, unit| run.report.set(Side::Plinth, what, value, unit, Goal::Open);
    tell("in process: puts, 64 tasks", rates.puts, "/s");
    tell("  CPU per put, caller included", rates.put_cpu, "µs");
    tell("in process: gets, 64 tasks", rates.gets, "/s");
    tell("  CPU per get, caller included", rates.get_cpu, "µs");
    Ok(())
}

/// Says what has just come out, where somebody may be looking.
fn progress(line: &str) {
    if stderr().is_terminal() {
        eprintln!("{line}");
    }
}
