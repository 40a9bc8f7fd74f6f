//! Plinth's scheduler beside kube-scheduler: the workloads of Kubernetes' scheduler_perf on simulated nodes, through an
//! API server over HTTPS, in one run.
//!
//! ```text
//!   workloads ──▶ measure ┬─ objects ──▶ wire ══ creates ══▶ API server ◀══▶ scheduler
//!                         └─ throughput ◀── bound ◀══ watch ═══╝           (contestants)
//! ```
//!
//! Knows schedulers by what they bind only; but `decisions` asks Plinth's engine without any API. Nodes are objects that
//! nobody stands behind.

mod answer;
mod bound;
mod contestants;
mod decisions;
mod measure;
mod objects;
mod server;
mod throughput;
mod wire;
mod workloads;

use std::{
    io::{IsTerminal, stderr},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};

use self::{
    contestants::{Api, Scheduler},
    measure::Outcome,
    workloads::{Plan, Size, Workload},
};
use crate::{
    interrupt,
    report::{
        Goal::{AtMost, Open},
        Report, Side,
    },
};

/// On which API server kube-scheduler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PeerApi {
    /// Plinth's.
    Plinth,
    /// A kube-apiserver over etcd.
    Kube,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Args)]
pub struct Options {
    /// The release build of plinth.
    #[arg(long, default_value = "target/release/plinth")]
    plinth: PathBuf,
    /// A real kube-scheduler to measure beside it.
    #[arg(long, env = "KUBE_SCHEDULER")]
    kube_scheduler: Option<PathBuf>,
    /// On which API server kube-scheduler runs.
    #[arg(long, value_enum, default_value = "plinth")]
    api: PeerApi,
    /// A real kube-apiserver, for `--api kube`.
    #[arg(long, env = "KUBE_APISERVER")]
    kube_apiserver: Option<PathBuf>,
    /// etcd, for kube-apiserver.
    #[arg(long, default_value = ".tools/bin/etcd")]
    etcd: PathBuf,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Workload>,
    /// Only one of the two.
    #[arg(long, value_enum)]
    side: Option<OneSide>,
    /// So many nodes, in place of the workload's own number.
    #[arg(long)]
    nodes: Option<usize>,
    /// So many measured pods, in place of the workload's own number.
    #[arg(long)]
    pods: Option<usize>,
    /// Only decisions, in this process and without an API server: how long each takes, and how that grows with the nodes.
    #[arg(long)]
    decisions_only: bool,
    /// A look rather than a measurement: a tenth of everything.
    #[arg(long)]
    quick: bool,
    /// Minutes after which the run gives up.
    #[arg(long, default_value_t = 60)]
    limit: u64,
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OneSide {
    Plinth,
    Peer,
}

/// A side with its API server and scheduler.
type Contest = (Side, Api, Scheduler);

pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    interrupt::heeding(move || measure_all(&options)).await
}

fn measure_all(options: &Options) -> anyhow::Result<ExitCode> {
    interrupt::limit(Duration::from_secs(options.limit * 60));
    let began = Instant::now();
    let size = Size { nodes: options.nodes, pods: options.pods, quick: options.quick };
    if options.decisions_only {
        let mut report = Report::beside("", progress);
        decisions::run(&options.only, size, &mut report)?;
        print(&report, options.output);
        return Ok(ExitCode::SUCCESS);
    }
    let (contests, peer) = contests(options)?;
    let mut report = Report::beside(&peer, progress);
    let mut failed = false;
    for workload in Workload::ALL {
        if !options.only.is_empty() && !options.only.contains(&workload) {
            continue;
        }
        let plan = Plan::new(workload, size);
        for (side, api, scheduler) in &contests {
            if interrupt::check().is_err() {
                continue;
            }
            match measure::measure(&plan, api, scheduler) {
                Ok(outcome) => tell(&mut report, *side, &plan, &outcome),
                Err(error) => {
                    failed = true;
                    let what = format!("FAILED, {} {:?}: {error:#}", plan.title(), side);
                    progress(&what);
                    report.note(&what);
                }
            }
        }
    }
    notes(&mut report, options, &contests, began);
    print(&report, options.output);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(report: &Report, output: Output) {
    match output {
        Output::Table => println!("{}", report.table()),
        Output::Json => println!("{:#}", report.json()),
    }
}

/// Who is measured, and the peer's name.
fn contests(options: &Options) -> anyhow::Result<(Vec<Contest>, String)> {
    let plinth = Api::Plinth { program: options.plinth.clone() };
    let mut contests = vec![(Side::Plinth, plinth.clone(), Scheduler::Inside)];
    let mut name = "kube-scheduler".to_owned();
    if let Some(program) = &options.kube_scheduler {
        let version = version(program)?.replace("Kubernetes ", "");
        let api = match options.api {
            PeerApi::Plinth => plinth,
            PeerApi::Kube => {
                let apiserver = options.kube_apiserver.clone();
                let apiserver = apiserver.context("--api kube needs --kube-apiserver or KUBE_APISERVER")?;
                Api::Kube { apiserver, etcd: options.etcd.clone() }
            }
        };
        let on = if matches!(api, Api::Kube { .. }) { "kube-apiserver" } else { "plinth" };
        name = format!("kube-scheduler {version} on {on}");
        contests.push((Side::Peer, api, Scheduler::Kube { program: program.clone() }));
    }
    let wanted = match options.side {
        None => None,
        Some(OneSide::Plinth) => Some(Side::Plinth),
        Some(OneSide::Peer) => Some(Side::Peer),
    };
    contests.retain(|(side, ..)| wanted.is_none_or(|wanted| wanted == *side));
    Ok((contests, name))
}

fn version(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(output.status.success(), "{} --version fails", program.display());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn tell(report: &mut Report, side: Side, plan: &Plan, outcome: &Outcome) {
    let throughput = &outcome.throughput;
    let count = plan.measured.1 as f64;
    // The rows below the first are told apart by what they belong to.
    let of = |figure: &str| format!("  {figure} ({})", plan.workload.name());
    report.set(side, &plan.title(), throughput.overall(), "/s", plan.goal);
    report.set(side, &of("in its moments: mean"), throughput.mean(), "/s", Open);
    for (share, name) in [(0.1, "p10"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99")] {
        report.set(side, &of(name), throughput.quantile(share), "/s", Open);
    }
    let millis = |cpu: u64| cpu as f64 / 1e3 / count;
    let scheduler = outcome.scheduler.unwrap_or_default();
    let cpu_goal = if plan.workload == Workload::Basic { AtMost(0.5) } else { Open };
    let memory_goal = match plan.workload {
        Workload::Basic => AtMost(300.0),
        Workload::ManyNodes => AtMost(2048.0),
        _ => Open,
    };
    report.set(side, &of("CPU per pod, scheduler and API"), millis(scheduler.cpu + outcome.server.cpu), "ms", cpu_goal);
    report.set(side, &of("peak memory of both"), scheduler.peak + outcome.server.peak, "MiB", memory_goal);
    if outcome.scheduler.is_some() {
        report.set(side, &of("CPU per pod, scheduler alone"), millis(scheduler.cpu), "ms", Open);
        report.set(side, &of("peak memory, scheduler alone"), scheduler.peak, "MiB", Open);
    }
    let time_goal = if plan.workload == Workload::Gang { AtMost(1.0) } else { Open };
    report.set(side, &of("time until all are bound"), throughput.took.as_secs_f64(), "s", time_goal);
    report.set(side, &of("time until all are created"), outcome.created.as_secs_f64(), "s", Open);
    let step = throughput.step.as_millis();
    progress(&format!("{}: moments of {step} ms", plan.title()));
}

fn notes(report: &mut Report, options: &Options, contests: &[Contest], began: Instant) {
    if options.kube_scheduler.is_none() {
        report.note("No kube-scheduler in this run: neither --kube-scheduler nor KUBE_SCHEDULER names one.");
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    report.note(&format!("The run took {:.0} s on {cores} cores; load {}", began.elapsed().as_secs_f64(), load.trim()));
    report.note(
        "Nodes and pods are scheduler_perf's, over HTTPS with 32 creates under way; bound is what a watch has shown. \
         Moments are seconds, or tenths of one where the run is shorter than ten. CPU is utime + stime from the first \
         creation to the last pod bound, memory the most that was ever resident.",
    );
    if contests.iter().any(|(_, _, scheduler)| matches!(scheduler, Scheduler::Inside)) {
        report.note("Plinth's scheduler runs in the API server's process: plinth up without node and controllers.");
    }
}

/// Says what has just come out, where somebody may be looking.
fn progress(line: &str) {
    if stderr().is_terminal() {
        eprintln!("{line}");
    }
}
