//! `plinth store`: one member of an etcd-compatible store, started with etcd 3.5.30's command line. The same program
//! called `etcd` is that member, too.
//!
//! ```text
//!   arguments ─┐
//!   ETCD_*    ─┼─▶ parse ─▶ Values ─▶ validate, assemble ─▶ Config ─▶ run ─▶ store, etcd-server, listeners
//!   YAML file ─┘    (pure, in etcd's words)                                   └▶ log lines that scripts wait for
//! ```
//!
//! Reads no flag after the start, and knows nothing of the cluster that the rest of Plinth is.

mod arguments;
mod assemble;
mod bootstrap;
mod config;
mod environment;
mod file;
mod flags;
mod go;
mod help;
mod note;
mod parse;
mod remote;
mod run;
mod shards;
mod tls;
mod transfer;
mod url;
mod validate;
mod values;

use std::{
    ffi::OsString,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    process::ExitCode,
};

use telemetry::{Guard, zap};

use crate::{
    config::{Config, Log},
    note::Note,
    parse::{Command, Machine, Parsed, Stop},
    run::End,
    validate::ConfigError,
};

/// The name under which the program is etcd and nothing else.
pub const ETCD: &str = "etcd";
/// How Go ends a process whose flags are wrong, or that panics.
const USAGE_CODE: u8 = 2;

/// Does what the command line says; the first argument is the program's name.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments.iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let (program, rest) = match arguments.split_first() {
        Some((program, rest)) => (Path::new(program).file_name().unwrap_or_default().to_string_lossy(), rest),
        None => (ETCD.into(), [].as_slice()),
    };
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(key, value)| (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let machine = Machine { environment: &environment, read: &read, host: &host };
    let Parsed { outcome, log, early, late } = parse::parse(rest, program != ETCD, &machine);
    match outcome {
        Ok(Command::Help) => {
            eprintln!("{}", help::usage(&program));
            println!("{}", help::flags());
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            print!("{}", help::version());
            ExitCode::SUCCESS
        }
        Ok(Command::Import(command)) => transfer::import(&command),
        Ok(Command::Export(command)) => transfer::export(&command),
        Ok(Command::Shards(command)) => shards::run(&command),
        Err(Stop::Usage(why)) => {
            eprintln!("{why}\n{}", help::usage(&program));
            USAGE_CODE.into()
        }
        Err(Stop::Plain(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
        Err(Stop::Panic(why)) => {
            eprintln!("panic: {why}");
            USAGE_CODE.into()
        }
        Err(Stop::Fatal(note)) => {
            // A log on stderr can always be opened.
            let _ = begin_log(None, &early, None);
            note.log();
            ExitCode::FAILURE
        }
        Err(Stop::Config(error)) => {
            // Where the log cannot be opened, the lines are on stderr, and the flags are refused anyhow.
            let _ = begin_log(log.as_ref(), &early, Some(&arguments));
            refuse(&error)
        }
        Ok(Command::Serve(config)) => {
            let threads = runtime::cpu::worker_threads();
            let built = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
            // Spans are exported from inside of it.
            let entered = built.as_ref().ok().map(tokio::runtime::Runtime::enter);
            let log = match begin_log(Some(&config.log), &early, Some(&arguments)) {
                Ok(log) => log,
                Err(error) => {
                    tracing::warn!(error, "failed to verify flags");
                    return ExitCode::FAILURE;
                }
            };
            drop(entered);
            late.iter().for_each(Note::log);
            serve(&config, built, log)
        }
    }
}

/// Says why a configuration is none.
fn refuse(error: &ConfigError) -> ExitCode {
    if error.is_late() {
        tracing::warn!(%error, "failed to start etcd");
        tracing::error!(target: zap::FATAL, %error, "discovery failed");
        return ExitCode::FAILURE;
    }
    tracing::warn!(%error, "failed to verify flags");
    if *error == ConfigError::UnsetAdvertiseClientUrls {
        tracing::warn!(%error, "advertise client URLs are not set");
    }
    ExitCode::FAILURE
}

/// Opens the log and writes what was found so far. A log that cannot be opened is told on stderr.
fn begin_log(log: Option<&Log>, early: &[Note], arguments: Option<&[String]>) -> Result<Guard, String> {
    let opened = zap::init(&log.map_or_else(zap::Options::default, run::log_options));
    let opened = opened.map_err(|error| error.to_string());
    if opened.is_err() {
        // Set up once only: what fails now was set up by whoever called.
        let _ = zap::init(&zap::Options::default());
    }
    early.iter().for_each(Note::log);
    if let Some(arguments) = arguments {
        tracing::info!(args = ?arguments, "Running: ");
    }
    opened
}

fn serve(config: &Config, built: io::Result<tokio::runtime::Runtime>, log: Guard) -> ExitCode {
    // Whoever has installed one before has installed the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(target: zap::FATAL, %error, "the async runtime cannot be started");
            return ExitCode::FAILURE;
        }
    };
    let end = runtime.block_on(run::run(config));
    // The last spans go out while there is somebody to carry them.
    drop(log);
    // A blocking call that hangs must not keep the process from ending.
    runtime.shutdown_background();
    match end {
        End::Failed => ExitCode::FAILURE,
        End::Signal(signal) => {
            run::end_by(signal);
            ExitCode::SUCCESS
        }
    }
}

/// A configuration file, up to its bound.
fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    let read = file.take(file::MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > file::MAX_BYTES {
        return Err(io::Error::other(format!("the file has more than {} bytes", file::MAX_BYTES)));
    }
    Ok(text)
}

/// The address from which the machine reaches others: that of the way to an address reserved for documentation, to
/// which nothing is sent.
fn host() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}
