//! Compiles the .proto files without a protoc on the machine.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = [folder.join("kv.proto"), folder.join("rpc.proto")];
    println!("cargo::rerun-if-changed={}", folder.display());
    let descriptors = protox::compile(&files, [&folder])?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
