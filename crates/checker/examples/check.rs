//! Checks a history that was kept: `cargo run -p checker --example check -- target/robustness/…/history.jsonl`.
//! Ends with 1 when there are findings, so that a history can be cut down by a script while it stays wrong.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: check FILE, a history as JSON lines");
        return ExitCode::from(2);
    };
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    match read.and_then(|text| checker::jsonl::read(&text).map_err(|error| error.to_string())) {
        Ok(history) => {
            let report = checker::check(&history);
            println!("{}: {report}", history.settings.name);
            ExitCode::from(u8::from(!report.is_good()))
        }
        Err(reason) => {
            eprintln!("{path}: {reason}");
            ExitCode::from(2)
        }
    }
}
