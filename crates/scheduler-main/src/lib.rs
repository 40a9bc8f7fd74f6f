//! `plinth scheduler`: the scheduler alone, for any Kubernetes cluster, started with kube-scheduler v1.36's command line.
//! The same program called `kube-scheduler` is that scheduler, too.
//!
//! ```text
//!   arguments ─▶ parse ─▶ Values ─▶ setup ─▶ Setup ─▶ run ─▶ election ─▶ scheduler
//!                     configuration file ─┘              └▶ serve: health, metrics, configz over HTTPS
//! ```
//!
//! Reads no flag after the start. Decides nothing of where a pod goes.

mod about;
mod flags;
mod help;
mod ineffective;
mod parse;
mod run;
mod serve;
mod setup;

use std::{ffi::OsString, path::Path, process::ExitCode, sync::Arc};

use sched_config::Configuration;
use scheduler::Plugins;
use telemetry::klog;

use crate::{parse::Values, run::End, setup::Outcome};

/// The name under which the program is a scheduler and nothing else.
pub const KUBE_SCHEDULER: &str = "kube-scheduler";

/// Does what the command line says; the first argument is the program's name. A configuration may name Kubernetes' plugins,
/// and `plugins`.
pub fn main(arguments: Vec<OsString>, plugins: Vec<Arc<dyn Plugins>>) -> ExitCode {
    let arguments: Vec<String> = arguments.iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let (program, rest) = match arguments.split_first() {
        Some((program, rest)) => (program.rsplit('/').next().unwrap_or_default(), rest),
        None => (KUBE_SCHEDULER, [].as_slice()),
    };
    let values = match parse::parse(rest) {
        Ok(values) => values,
        Err(error @ parse::ParseError::Arguments(_)) => return refuse(&error.to_string()),
        Err(error) => {
            eprintln!("{}", help::usage(program));
            return refuse(&error.to_string());
        }
    };
    if values.bool("help") {
        print!("{}", help::help(program));
        return ExitCode::SUCCESS;
    }
    let gates = setup::gates(&values);
    if gates.is_ok()
        && let Some(version) = help::version(values.text("version"))
    {
        println!("{version}");
        return ExitCode::SUCCESS;
    }
    if let Err(why) = setup::check_logs(&values, gates.as_ref().unwrap_or(&sched_config::Gates::default())) {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    // Set up once only; whoever calls this may have done it.
    let _ = klog::init(log_options(&values));
    match gates {
        Ok(gates) => start(&values, &gates, plugins),
        Err(error) => failed(&error),
    }
}

/// The configuration in a file, for a scheduler that runs in another program and knows `plugins` besides Kubernetes'. An error
/// says what is wrong with the file.
pub fn configuration(path: &Path, plugins: &[Arc<dyn Plugins>]) -> Result<Configuration, String> {
    setup::configuration(path, plugins).map_err(|error| error.to_string())
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("Error: {why}");
    ExitCode::FAILURE
}

fn log_options(values: &Values) -> klog::Options {
    let verbosity = u32::try_from(values.int("v")).unwrap_or(0);
    klog::Options { json: values.text("logging-format") == "json", verbosity }
}

fn failed(error: &impl std::fmt::Display) -> ExitCode {
    tracing::error!(%error, "command failed");
    ExitCode::FAILURE
}

fn start(values: &Values, gates: &sched_config::Gates, plugins: Vec<Arc<dyn Plugins>>) -> ExitCode {
    // Whoever has installed one before has installed the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let threads = runtime::cpu::worker_threads();
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the async runtime cannot be started: {error}")),
    };
    let end = runtime.block_on(async {
        match setup::setup(values, gates, plugins).await {
            Ok(Outcome::Written) => Ok(End::Asked),
            Ok(Outcome::Run(setup)) => run::run(*setup).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    });
    // A blocking call that hangs must not keep the process from ending.
    runtime.shutdown_background();
    match end {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::Lost) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}
