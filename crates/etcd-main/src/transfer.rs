//! `plinth store import` and `plinth store export`: between this store and etcd's snapshot files, in both directions.
//!
//! ```text
//!   etcd ─▶ Maintenance.Snapshot ─▶ file ─┐
//!   file of `etcdctl snapshot save` ──────┼─▶ store::import ─▶ <data-dir>/member.importing ─▶ <data-dir>/member
//!   data folder of a stopped etcd ────────┘
//!
//!   member of either ─▶ Maintenance.Snapshot ─┐
//!   folder of a stopped member ───────────────┴─▶ FILE.part, compared with its hash ─▶ FILE
//! ```
//!
//! Each takes its final name as the last step, so that one that was cut short has left nothing that could be used.

pub mod command;
mod export;
mod file;
mod import;
mod progress;
mod target;

use std::{error::Error, process::ExitCode};

use self::command::{Export, Import};

/// Runs `import`.
pub fn import(command: &Import) -> ExitCode {
    end("import", import::run(command))
}

/// Runs `export`.
pub fn export(command: &Export) -> ExitCode {
    end("export", export::run(command))
}

pub(crate) fn end<E: Error>(what: &str, result: Result<String, E>) -> ExitCode {
    match result {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut text = format!("Error: {what} failed: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
