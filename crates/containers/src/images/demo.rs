//! The built-in images: a static HTTP server that says which pod it is, in two versions that differ in what they say.

use std::io;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{ImageError, Store, install};

/// Answers `Hello from <pod> (v1)` on port 8080.
pub const DEMO_V1: &str = "plinth.io/demo:v1";
/// The same with `v2`, to roll out to.
pub const DEMO_V2: &str = "plinth.io/demo:v2";

/// The program, compiled by build.rs from demo/server.c.
static SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo-server"));

/// Puts both versions into the store unless they are there.
pub(super) fn install(store: &Store) -> Result<(), ImageError> {
    let layer = layer().map_err(|e| ImageError::Invalid(format!("the demo image: {e}")))?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    for (name, version) in [(DEMO_V1, "v1"), (DEMO_V2, "v2")] {
        let config = config(&digest, version);
        let id = format!("sha256:{}", hex::encode(Sha256::digest(&config)));
        let known = store.state.lock().index.names.get(name) == Some(&id);
        let size = install::install_layer(store, &digest, layer.as_slice(), None)?;
        if !known {
            let (parsed, layers) = install::read_config(&config)?;
            let incoming = install::Incoming { config, layers: Vec::new(), names: vec![name.to_owned()] };
            install::register(store, &incoming, parsed, layers, size)?;
        }
    }
    Ok(())
}

fn layer() -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, path, bytes)
    };
    add("bin/", 0o755, b"")?;
    add("bin/demo", 0o755, SERVER)?;
    add("etc/", 0o755, b"")?;
    add("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/demo\ndemo:x:65532:65532:demo:/:/bin/demo\n")?;
    add("etc/group", 0o644, b"root:x:0:\ndemo:x:65532:\n")?;
    add("tmp/", 0o1777, b"")?;
    archive.into_inner()
}

fn config(layer: &str, version: &str) -> Vec<u8> {
    let document = json!({
        "architecture": install::architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/bin/demo"],
            "Env": [format!("VERSION={version}")],
            "ExposedPorts": { "8080/tcp": {} },
            "StopSignal": "SIGTERM",
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    });
    document.to_string().into_bytes()
}
