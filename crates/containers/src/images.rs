//! Images on this machine: blobs by digest, layers unpacked once, names that point to them.
//!
//! ```text
//!   data_dir/images/blobs/sha256/<hex>   manifests and configurations, verified when written
//!   data_dir/images/index.json           names → manifests
//!   data_dir/layers/<chain id>/          one unpacked layer each, shared by all images that have it
//! ```
//!
//! Knows no pod and no container: who uses an image says so by holding an [`ImageLease`].

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

mod reference;

pub use reference::{InvalidReference, Reference};

/// Why an image operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    InvalidReference(#[from] InvalidReference),
    #[error("image {0:?} not found")]
    NotFound(String),
    #[error("image {image} is in use by {users} container(s)")]
    InUse { image: String, users: usize },
    /// The registry's answer. `retryable` says whether trying again may help.
    #[error("failed to pull {reference}: {reason}")]
    Pull { reference: String, reason: String, retryable: bool },
    /// The bytes are not an image, or one past our bounds.
    #[error("invalid image: {0}")]
    Invalid(String),
    #[error("{action} {path}")]
    Io { action: &'static str, path: std::path::PathBuf, source: std::io::Error },
}

/// What an image says about how to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`… or empty.
    pub user: String,
    pub working_dir: String,
    /// Empty is `SIGTERM`.
    pub stop_signal: String,
    /// `8080/tcp`.
    pub exposed_ports: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct ImageInfo {
    /// `sha256:…` of the configuration: the same content has the same id whatever its name.
    pub id: String,
    /// Names with tags, normalised: `docker.io/library/web:v1`.
    pub tags: Vec<String>,
    /// Names with digests: `docker.io/library/web@sha256:…`; empty when imported.
    pub digests: Vec<String>,
    /// Bytes of its unpacked layers.
    pub size: u64,
    pub config: Arc<ImageConfig>,
    pub(crate) layers: Vec<String>,
}

/// Credentials by registry, from `imagePullSecrets`.
#[derive(Clone, Debug, Default)]
pub struct RegistryAuths {
    entries: Vec<(String, String, String)>,
}

impl RegistryAuths {
    /// Nobody's.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Adds what a secret of type `kubernetes.io/dockerconfigjson` (its `.dockerconfigjson`) or
    /// `kubernetes.io/dockercfg` (its `.dockercfg`) holds. Earlier entries win.
    pub fn add_docker_config(&mut self, json: &[u8]) -> Result<(), ImageError> {
        let _ = json;
        Ok(())
    }
}

/// How a pull goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullProgress {
    /// The manifest is known: so many layers have to be fetched.
    Resolved { layers: usize, bytes: u64 },
    /// Bytes of layers so far.
    Fetched { bytes: u64 },
    /// All layers are unpacked.
    Unpacked,
}

/// When to ask the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// Keeps an image from being removed for as long as it lives.
pub struct ImageLease {
    pub(crate) _info: Arc<ImageInfo>,
}

/// The image store. A clone is a handle on the same store.
#[derive(Clone)]
pub struct Images {}

impl Images {
    /// Opens or creates the store under `data_dir`, and puts the built-in demo images into it.
    pub async fn open(data_dir: &Path) -> Result<Images, ImageError> {
        let _ = data_dir;
        Err(ImageError::Invalid("the store is not there yet".into()))
    }

    /// Brings in every image of a docker-save tarball, an OCI-layout tarball or an OCI-layout folder.
    /// A plain or gzip-compressed tarball will do.
    pub async fn import(&self, path: &Path) -> Result<Vec<ImageInfo>, ImageError> {
        Err(ImageError::NotFound(path.display().to_string()))
    }

    /// Every image, by first name.
    pub fn list(&self) -> Vec<ImageInfo> {
        Vec::new()
    }

    /// The image by name (normalised first) or id (`sha256:…`, or a unique prefix of 12 digits and more).
    pub fn get(&self, name: &str) -> Option<ImageInfo> {
        let _ = name;
        None
    }

    /// Removes a name, and with its last name the image and layers that nobody else uses. An image in use stays, and
    /// the error says so. Returns what was removed.
    pub async fn remove(&self, name: &str) -> Result<Vec<String>, ImageError> {
        Err(ImageError::NotFound(name.to_owned()))
    }

    /// Fetches an image. Several callers for one image share one fetch. `progress` is called from the fetching task.
    pub async fn pull(
        &self,
        reference: &str,
        auth: &RegistryAuths,
        policy: PullPolicy,
        timeout: Duration,
        progress: impl Fn(PullProgress) + Send + Sync + 'static,
    ) -> Result<ImageInfo, ImageError> {
        let _ = (auth, policy, timeout, progress);
        Err(ImageError::NotFound(reference.to_owned()))
    }
}
