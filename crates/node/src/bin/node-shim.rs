//! The containers' shim alone, for this crate's tests; the product runs it from its own binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    containers::shim_main(std::env::args_os().skip(1))
}
