//! The scheduler as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    scheduler_main::main(std::env::args_os().collect(), Vec::new())
}
