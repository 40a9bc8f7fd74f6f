//! Images made of this machine's own busybox, as `docker save` writes them: tests need no registry.

use std::fs;

use serde_json::json;
use sha2::{Digest, Sha256};

/// What a test's shell may call.
const APPLETS: [&str; 17] = [
    "sh", "cat", "echo", "env", "grep", "head", "hostname", "id", "kill", "ls", "printf", "sleep", "stat", "stty",
    "tail", "test", "touch",
];

/// A layer with busybox and the usual few files.
pub fn busybox_layer() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| fs::read(path).ok());
    let busybox = busybox.expect("these tests need Debian's busybox-static");
    let mut archive = tar::Builder::new(Vec::new());
    add(&mut archive, "bin/busybox", 0o755, &busybox);
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    add(&mut archive, "etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n");
    add(&mut archive, "etc/group", 0o644, b"root:x:0:\nwww:x:34:\nlog:x:50:web\n");
    add(&mut archive, "tmp/", 0o1777, b"");
    archive.into_inner().unwrap()
}

/// Adds a file, or a folder when the path ends with a slash.
pub fn add(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).unwrap();
}

/// An archive with one image, which says `FROM_IMAGE=yes` in its environment.
pub fn save_archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let digests: Vec<String> = layers.iter().map(|l| format!("sha256:{}", hex::encode(Sha256::digest(l)))).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": { "Cmd": ["sh"], "Env": ["FROM_IMAGE=yes"], "Labels": { "a": "b" } },
        "rootfs": { "type": "layers", "diff_ids": digests },
    })
    .to_string();
    let mut archive = tar::Builder::new(Vec::new());
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let path = format!("{number}/layer.tar");
        add(&mut archive, &path, 0o644, layer);
        names.push(path);
    }
    add(&mut archive, "config.json", 0o644, config.as_bytes());
    let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": names }]).to_string();
    add(&mut archive, "manifest.json", 0o644, manifest.as_bytes());
    archive.into_inner().unwrap()
}

/// An archive of busybox alone.
pub fn busybox_archive(name: &str) -> Vec<u8> {
    save_archive(name, &[busybox_layer()])
}
