//! Compiles the .proto files without a protoc on the machine.

use std::{env, error::Error, fs, path::Path};

use prost::Message;

/// Those that others import come along by themselves.
const FILES: [&str; 5] = ["rpc.proto", "lock.proto", "election.proto", "health.proto", "shards.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let descriptors = protox::compile(FILES.map(|file| folder.join(file)), [&folder])?;
    let mut described = descriptors.clone();
    // Whoever reads them while running wants the names and numbers, not the comments.
    described.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"), described.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
