//! The process that holds one pod: single-threaded, one poll loop, no async runtime.
//!
//! ```text
//!   socket ──request──▶ Shim ──fork──▶ child: libcontainer, or exec   (short-lived: their memory goes with them)
//!   SIGCHLD ──reap────▶   │
//!   pipes ──lines──────▶ log files, attached readers
//!                         └──status, events──▶ every subscriber
//! ```
//!
//! Knows no image store, no network set-up, no grace period: it does what it is told and tells what happens.

use std::{ffi::OsString, io::Write as _, path::PathBuf, process::ExitCode};

mod children;
mod clients;
mod container;
mod create;
mod exec;
mod launch;
mod logs;
mod memory;
mod rootfs;
mod service;

/// The shim's whole life. To be called before any thread or async runtime starts, with the arguments that follow
/// [`crate::Options::shim_command`]: one, the sandbox's folder.
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (Some(dir), None) = (args.next(), args.next()) else {
        return fail("usage: shim <sandbox folder>");
    };
    match launch::launch(PathBuf::from(dir)) {
        Ok(code) => code,
        Err(error) => fail(&error.to_string()),
    }
}

/// Tells the starting process why, which reads standard error until the shim is up.
fn fail(reason: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{reason}");
    ExitCode::FAILURE
}
