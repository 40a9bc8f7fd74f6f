//! Where the real counterparts are: what tools/install.sh and tools/clients.sh have brought.
//!
//! There is no way around a counterpart that is missing: a test that was left out would look like one that passed.

use std::path::{Path, PathBuf};

/// The folder of both: `PLINTH_TOOLS_DIR`, else `.tools` of this repository.
pub fn tools_dir() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
    std::env::var_os("PLINTH_TOOLS_DIR").map_or_else(own, PathBuf::from)
}

/// A program of it, such as `etcdctl`; fails the test when it is not there.
pub fn tool(name: &str) -> PathBuf {
    tool_at(&Path::new("bin").join(name))
}

/// A file below the folder, such as `clients/bin/python`; fails the test when it is not there.
pub fn tool_at(path: &Path) -> PathBuf {
    let file = tools_dir().join(path);
    assert!(
        file.exists(),
        "{} is missing: run tools/install.sh and tools/clients.sh (or set PLINTH_TOOLS_DIR)",
        file.display()
    );
    // The folder and not the file: a Python finds its packages by the link that it was called by.
    let folder = file.parent().expect("a file has a folder").canonicalize().unwrap();
    folder.join(file.file_name().expect("a file has a name"))
}
