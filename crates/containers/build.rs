//! Compiles the demo server to a static program without a C library, so that the built-in image needs nothing else.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=demo/server.c");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("demo-server");
    let compiler = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let target = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target's architecture");
    let mut command = Command::new(&compiler);
    command.arg(format!("--target={target}-linux-gnu"));
    command.args(["-static", "-nostdlib", "-ffreestanding", "-O2", "-s", "-Wall", "-Wextra", "-Werror"]);
    command.args(["-fno-stack-protector", "-fno-pic", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none"]);
    command.arg("-o").arg(&out).arg("demo/server.c");
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{compiler} cannot compile demo/server.c: {status}"),
        Err(error) => panic!("{compiler} is needed to build the demo image and cannot be run: {error}"),
    }
}
