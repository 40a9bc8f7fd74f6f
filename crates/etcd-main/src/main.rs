//! The store alone, as a program: what `plinth store` does, without the rest of the cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    etcd_main::main(std::env::args_os().collect())
}
