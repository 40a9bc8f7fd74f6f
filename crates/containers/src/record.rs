//! What lies in the state folder: the only thing that a new process needs to find everything again.
//!
//! ```text
//!   <state_dir>/pods/<sandbox id>/sandbox.json                    SandboxRecord, by the runtime
//!                                 s                               the shim's socket
//!                                 shm/                            the pod's /dev/shm (a tmpfs)
//!                                 containers/<id>/container.json  ContainerRecord, by the runtime
//!                                                 status.json     ContainerStatus, by the shim
//!                                                 config.json     the OCI bundle, by the shim
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    images::ImageConfig,
    types::{ContainerConfig, ContainerId, SandboxConfig, SandboxId},
};

/// The largest record that is read back.
const MAX_RECORD: u64 = 4 * 1024 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: SandboxId,
    pub(crate) config: SandboxConfig,
    pub(crate) created_at: Timestamp,
    /// The cgroup of the pod, and the one of all shims.
    pub(crate) cgroup: String,
    pub(crate) shim_cgroup: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: ContainerId,
    pub(crate) config: ContainerConfig,
    pub(crate) image_id: String,
    pub(crate) image_ref: String,
    pub(crate) image: ImageConfig,
    pub(crate) created_at: Timestamp,
    pub(crate) log_path: PathBuf,
    /// Folder of the unpacked layers and their names in it, topmost first.
    pub(crate) layers_dir: PathBuf,
    pub(crate) layers: Vec<String>,
    /// Folder that holds the container's own `upper` and `work`.
    pub(crate) files_dir: PathBuf,
}

/// File names inside a sandbox's folder.
pub(crate) const SANDBOX_FILE: &str = "sandbox.json";
pub(crate) const SOCKET: &str = "s";
pub(crate) const CONTAINERS: &str = "containers";
pub(crate) const CONTAINER_FILE: &str = "container.json";
pub(crate) const STATUS_FILE: &str = "status.json";

/// Writes a record so that a reader finds the old or the new one, never a part.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let draft = path.with_extension("tmp");
    fs::write(&draft, bytes)?;
    fs::rename(&draft, path)
}

/// Reads a record of bounded size.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let size = fs::metadata(path)?.len();
    if size > MAX_RECORD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes are too many for a record")));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
