//! Images on this machine: blobs by digest, layers unpacked once, names that point to them.
//!
//! ```text
//!   data_dir/images/index.json           names → images, images → configuration and layers
//!   data_dir/images/blobs/sha256/<hex>   each image's configuration, verified when written
//!   data_dir/images/tmp-*                downloads and imports under way
//!   data_dir/layers/<digest>/            one unpacked layer each, shared by all images that have it
//! ```
//!
//! Knows no pod and no container: who uses an image says so by holding an [`ImageLease`].

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use runtime::blocking;
use tokio::sync::{Mutex as AsyncMutex, RwLock};

mod archive;
mod auth;
mod demo;
mod install;
mod pull;
mod reference;
mod unpack;

pub use auth::RegistryAuths;
pub use demo::{DEMO_V1, DEMO_V2};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
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
    /// Digests of the uncompressed layers, lowest first.
    pub(crate) layers: Vec<String>,
}

impl ImageInfo {
    /// Folder names of the layers, topmost first, as overlayfs wants them.
    pub(crate) fn layer_folders(&self) -> Vec<String> {
        // An overlay needs something below it, also for an image without layers.
        let empty = || vec![EMPTY_LAYER.to_owned()];
        if self.layers.is_empty() { empty() } else { self.layers.iter().rev().map(|d| layer_folder(d)).collect() }
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

/// The folder that stands below a container whose image has no layers.
const EMPTY_LAYER: &str = "empty";
/// Digits of a digest that name a layer's folder: enough to be unique, few enough for the kernel's one page of mount
/// options with many layers.
const FOLDER_DIGITS: usize = 24;

fn layer_folder(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(FOLDER_DIGITS).collect()
}

pub(crate) fn io_error(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> ImageError {
    let path = path.into();
    move |source| ImageError::Io { action, path, source }
}

/// Keeps an image from being removed for as long as it lives.
pub struct ImageLease {
    info: ImageInfo,
    store: Weak<Store>,
}

impl ImageLease {
    /// The image as it was when the lease was taken.
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }
}

impl Drop for ImageLease {
    fn drop(&mut self) {
        let Some(store) = self.store.upgrade() else { return };
        let mut state = store.state.lock();
        if let Some(users) = state.leases.get_mut(&self.info.id) {
            *users = users.saturating_sub(1);
            if *users == 0 {
                state.leases.remove(&self.info.id);
            }
        }
    }
}

/// The image store. A clone is a handle on the same store.
#[derive(Clone)]
pub struct Images {
    store: Arc<Store>,
}

struct Store {
    images_dir: PathBuf,
    layers_dir: PathBuf,
    state: Mutex<State>,
    /// Held shared while layers are being made, and alone while unused ones are removed.
    layers: RwLock<()>,
    /// Fetches under way, so that one image is fetched once.
    fetching: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

#[derive(Default)]
struct State {
    index: install::Index,
    /// Holders of leases by image id.
    leases: HashMap<String, usize>,
}

impl Images {
    /// Opens or creates the store under `data_dir`, and puts the built-in demo images into it.
    pub async fn open(data_dir: &Path) -> Result<Images, ImageError> {
        let (images_dir, layers_dir) = (data_dir.join("images"), data_dir.join("layers"));
        let store = Arc::new(Store {
            state: Mutex::new(State::default()),
            layers: RwLock::new(()),
            fetching: Mutex::default(),
            images_dir,
            layers_dir,
        });
        let images = Images { store: store.clone() };
        blocking(move || {
            store.state.lock().index = install::open(&store.images_dir, &store.layers_dir)?;
            demo::install(&store)
        })
        .await?;
        Ok(images)
    }

    /// Brings in every image of a docker-save tarball, an OCI-layout tarball or an OCI-layout folder.
    /// A plain or gzip-compressed tarball will do.
    pub async fn import(&self, path: &Path) -> Result<Vec<ImageInfo>, ImageError> {
        let _layers = self.store.layers.read().await;
        let (store, path) = (self.store.clone(), path.to_path_buf());
        blocking(move || archive::import(&store, &path)).await
    }

    /// Every image, by first name.
    pub fn list(&self) -> Vec<ImageInfo> {
        let state = self.store.state.lock();
        let mut list: Vec<_> = state.index.images.keys().filter_map(|id| state.index.info(id)).collect();
        list.sort_by(|a, b| (&a.tags, &a.id).cmp(&(&b.tags, &b.id)));
        list
    }

    /// The image by name (normalised first) or id (`sha256:…`, or a unique prefix of 12 digits and more).
    pub fn get(&self, name: &str) -> Option<ImageInfo> {
        let state = self.store.state.lock();
        state.index.find(name).and_then(|id| state.index.info(&id))
    }

    /// Takes the image into use.
    pub fn lease(&self, name: &str) -> Result<ImageLease, ImageError> {
        let mut state = self.store.state.lock();
        let found = state.index.find(name).and_then(|id| state.index.info(&id));
        let info = found.ok_or_else(|| ImageError::NotFound(name.to_owned()))?;
        *state.leases.entry(info.id.clone()).or_default() += 1;
        Ok(ImageLease { info, store: Arc::downgrade(&self.store) })
    }

    /// Removes a name, and with its last name the image and layers that nobody else uses. An image in use stays, and
    /// the error says so. Returns what was removed.
    pub async fn remove(&self, name: &str) -> Result<Vec<String>, ImageError> {
        let _layers = self.store.layers.write().await;
        let (store, name) = (self.store.clone(), name.to_owned());
        blocking(move || install::remove(&store, &name)).await
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
        let reference = Reference::parse(reference)?;
        let name = reference.to_string();
        let present = || self.get(&name).filter(|_| policy != PullPolicy::Always);
        if let Some(info) = present() {
            return Ok(info);
        }
        if policy == PullPolicy::Never {
            return Err(ImageError::NotFound(name));
        }
        let turn = self.turn(&name);
        let waited = turn.try_lock().is_err();
        let _turn = turn.lock().await;
        // Who waited for another's fetch takes what it brought.
        if waited && let Some(info) = self.get(&name) {
            return Ok(info);
        }
        let fetch = pull::pull(&self.store, &reference, auth, &progress);
        tokio::time::timeout(timeout, fetch).await.unwrap_or_else(|_| {
            let reason = format!("not finished within {} s", timeout.as_secs());
            Err(ImageError::Pull { reference: name.clone(), reason, retryable: true })
        })
    }

    /// Folder that holds the unpacked layers.
    pub(crate) fn layers_dir(&self) -> PathBuf {
        self.store.layers_dir.clone()
    }

    fn turn(&self, name: &str) -> Arc<AsyncMutex<()>> {
        let mut fetching = self.store.fetching.lock();
        fetching.retain(|_, turn| turn.strong_count() > 0);
        let known = fetching.get(name).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let turn = Arc::new(AsyncMutex::new(()));
            fetching.insert(name.to_owned(), Arc::downgrade(&turn));
            turn
        })
    }
}
