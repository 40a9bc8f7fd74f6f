//! The process that holds one pod.

use std::{ffi::OsString, process::ExitCode};

/// The shim's whole life. To be called before any thread or async runtime starts, with the arguments that follow
/// [`crate::Options::shim_command`].
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
