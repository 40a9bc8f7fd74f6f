//! Compiles the .proto files without a protoc on the machine.

use std::{error::Error, path::Path};

/// Those that others import come along by themselves.
const FILES: [&str; 3] = ["rpc.proto", "lock.proto", "election.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let descriptors = protox::compile(FILES.map(|file| folder.join(file)), [&folder])?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
