//! The index of images, and how an image gets into the store and out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EMPTY_LAYER, ImageConfig, ImageError, ImageInfo, Reference, Store, io_error, layer_folder, unpack};

/// The most layers that overlayfs stacks.
pub(super) const MAX_LAYERS: usize = 127;
/// The largest manifest, index or configuration.
pub(super) const MAX_DOCUMENT: u64 = 8 * 1024 * 1024;
/// The largest index file of the store: some 10,000 images.
const MAX_INDEX: u64 = 64 * 1024 * 1024;

/// What the store remembers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    /// By id.
    pub(super) images: BTreeMap<String, Stored>,
    /// Full names, with tag or digest, to ids.
    pub(super) names: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    config: Arc<ImageConfig>,
    layers: Vec<String>,
    size: u64,
}

impl Index {
    pub(super) fn info(&self, id: &str) -> Option<ImageInfo> {
        let stored = self.images.get(id)?;
        let names = self.names.iter().filter(|(_, i)| *i == id).map(|(name, _)| name.clone());
        let (digests, tags) = names.partition(|name| name.contains('@'));
        Some(ImageInfo {
            id: id.to_owned(),
            tags,
            digests,
            size: stored.size,
            config: stored.config.clone(),
            layers: stored.layers.clone(),
        })
    }

    /// The id of an image given by id, by a part of its id, or by name.
    pub(super) fn find(&self, name: &str) -> Option<String> {
        const SHORTEST: usize = 12;
        if self.images.contains_key(name) {
            return Some(name.to_owned());
        }
        if let Ok(reference) = Reference::parse(name) {
            // A digest says which image; the tag beside it is for people.
            let full = match &reference.digest {
                Some(digest) => format!("{}@{digest}", reference.name()),
                None => reference.to_string(),
            };
            if let Some(id) = self.names.get(&full) {
                return Some(id.clone());
            }
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.len() < SHORTEST {
            return None;
        }
        let mut matching = self.images.keys().filter(|id| id["sha256:".len()..].starts_with(digits));
        let first = matching.next()?;
        matching.next().is_none().then(|| first.clone())
    }
}

/// The part of an image's configuration that we read (OCI image specification; docker's is the same).
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<RunConfig>,
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
}

/// An image about to be brought in.
pub(super) struct Incoming {
    /// The configuration document.
    pub(super) config: Vec<u8>,
    /// Files of the layers, lowest first, with the digest of the file where it is known.
    pub(super) layers: Vec<Blob>,
    /// Full names.
    pub(super) names: Vec<String>,
}

pub(super) struct Blob {
    pub(super) path: PathBuf,
    pub(super) digest: Option<String>,
}

/// Reads a configuration document. Returns the digests of its layers beside what it says.
pub(super) fn read_config(bytes: &[u8]) -> Result<(ImageConfig, Vec<String>), ImageError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|e| ImageError::Invalid(format!("image configuration: {e}")))?;
    if !document.os.is_empty() && document.os != "linux" {
        return Err(ImageError::Invalid(format!("the image is for {}, not linux", document.os)));
    }
    if !document.architecture.is_empty() && document.architecture != architecture() {
        let reason = format!("the image is for {}, this machine is {}", document.architecture, architecture());
        return Err(ImageError::Invalid(reason));
    }
    let layers = document.rootfs.diff_ids.unwrap_or_default();
    if layers.len() > MAX_LAYERS {
        return Err(ImageError::Invalid(format!("{} layers, more than {MAX_LAYERS}", layers.len())));
    }
    if let Some(bad) = layers.iter().find(|digest| !super::reference::is_digest(digest)) {
        return Err(ImageError::Invalid(format!("{bad:?} is not a digest")));
    }
    let config = document.config.unwrap_or_default();
    let config = ImageConfig {
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        stop_signal: config.stop_signal.unwrap_or_default(),
        exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
        labels: config.labels.unwrap_or_default(),
    };
    Ok((config, layers))
}

/// This machine's architecture in the words of images.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Opens the index and clears what an interrupted process left.
pub(super) fn open(images_dir: &Path, layers_dir: &Path) -> Result<Index, ImageError> {
    for dir in [&images_dir.join("blobs/sha256"), &layers_dir.join(EMPTY_LAYER)] {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    }
    let path = images_dir.join("index.json");
    let index: Index = match read_bounded(&path, MAX_INDEX) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| ImageError::Invalid(format!("the image index {} is damaged: {e}", path.display())))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    for entry in fs::read_dir(images_dir).map_err(io_error("read", images_dir))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("tmp-") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    collect(&index, layers_dir);
    Ok(index)
}

/// Puts an image into the store: verifies, unpacks what is new, names it.
pub(super) fn install(store: &Store, incoming: &Incoming) -> Result<ImageInfo, ImageError> {
    let (config, layers) = read_config(&incoming.config)?;
    if layers.len() != incoming.layers.len() {
        let reason = format!("{} layers for {} digests", incoming.layers.len(), layers.len());
        return Err(ImageError::Invalid(reason));
    }
    let mut size = 0;
    for (digest, blob) in layers.iter().zip(&incoming.layers) {
        let file = File::open(&blob.path).map_err(io_error("open", &blob.path))?;
        size += install_layer(store, digest, BufReader::new(file), blob.digest.as_deref())?;
    }
    register(store, incoming, config, layers, size)
}

/// Unpacks a layer unless it is there. Returns its unpacked size.
pub(super) fn install_layer(
    store: &Store,
    digest: &str,
    bytes: impl Read,
    file_digest: Option<&str>,
) -> Result<u64, ImageError> {
    let folder = store.layers_dir.join(layer_folder(digest));
    let note = store.layers_dir.join(format!("{}.size", layer_folder(digest)));
    if folder.exists()
        && let Some(size) = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok())
    {
        return Ok(size);
    }
    let draft = store.layers_dir.join(format!("tmp-{:016x}", runtime::entropy::random_u64()));
    let unpacked = unpack::unpack(bytes, &draft, digest, file_digest);
    let size = match unpacked {
        Ok(size) => size,
        Err(error) => {
            let _ = fs::remove_dir_all(&draft);
            return Err(error);
        }
    };
    fs::write(&note, size.to_string()).map_err(io_error("write", &note))?;
    if let Err(error) = fs::rename(&draft, &folder) {
        let _ = fs::remove_dir_all(&draft);
        // Another image with the same layer may have been faster.
        if !folder.exists() {
            return Err(io_error("rename", folder)(error));
        }
    }
    Ok(size)
}

/// Writes the configuration and the names.
pub(super) fn register(
    store: &Store,
    incoming: &Incoming,
    config: ImageConfig,
    layers: Vec<String>,
    size: u64,
) -> Result<ImageInfo, ImageError> {
    let digits = hex::encode(Sha256::digest(&incoming.config));
    let id = format!("sha256:{digits}");
    let blob = store.images_dir.join("blobs/sha256").join(&digits);
    write_whole(&blob, &incoming.config)?;
    let mut state = store.state.lock();
    let mut index = state.index.clone();
    index.images.insert(id.clone(), Stored { config: Arc::new(config), layers, size });
    for name in &incoming.names {
        index.names.insert(name.clone(), id.clone());
    }
    save(store, &index)?;
    state.index = index;
    Ok(state.index.info(&id).expect("it was inserted above"))
}

/// Removes a name or, given an id or the last name, the image.
pub(super) fn remove(store: &Store, name: &str) -> Result<Vec<String>, ImageError> {
    let mut state = store.state.lock();
    let id = state.index.find(name).ok_or_else(|| ImageError::NotFound(name.to_owned()))?;
    let mut index = state.index.clone();
    let mut removed = Vec::new();
    let mut names: Vec<String> = index.names.iter().filter(|(_, i)| **i == id).map(|(n, _)| n.clone()).collect();
    if let Ok(reference) = Reference::parse(name)
        && let Some(full) = [reference.to_string(), reference.tagged().unwrap_or_default()]
            .into_iter()
            .find(|full| names.contains(full))
        && names.iter().any(|n| *n != full && n.contains('@') == full.contains('@'))
    {
        // Other names of the same sort remain, so only this one goes.
        names = vec![full];
    } else {
        let users = state.leases.get(&id).copied().unwrap_or(0);
        if users > 0 {
            return Err(ImageError::InUse { image: name.to_owned(), users });
        }
        index.images.remove(&id);
        removed.push(id.clone());
    }
    for name in names {
        index.names.remove(&name);
        removed.push(name);
    }
    save(store, &index)?;
    state.index = index;
    if !state.index.images.contains_key(&id) {
        let _ = fs::remove_file(store.images_dir.join("blobs/sha256").join(&id["sha256:".len()..]));
    }
    collect(&state.index, &store.layers_dir);
    Ok(removed)
}

/// Removes layers that no image has.
fn collect(index: &Index, layers_dir: &Path) {
    let used: BTreeSet<String> = index.images.values().flat_map(|i| &i.layers).map(|d| layer_folder(d)).collect();
    for entry in fs::read_dir(layers_dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let folder = name.strip_suffix(".size").unwrap_or(&name);
        if folder == EMPTY_LAYER || used.contains(folder) {
            continue;
        }
        let path = entry.path();
        let result = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = result {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unused layer");
        }
    }
}

fn save(store: &Store, index: &Index) -> Result<(), ImageError> {
    let bytes = serde_json::to_vec(index).map_err(|e| ImageError::Invalid(e.to_string()))?;
    write_whole(&store.images_dir.join("index.json"), &bytes)
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let draft = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_data()?;
        fs::rename(&draft, path)
    };
    write().map_err(io_error("write", path))
}

/// Reads a file that should be small.
pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(document: &str, expected: Option<(&[&str], usize)>) {
        let read = read_config(document.as_bytes()).ok();
        let expected = expected.map(|(cmd, layers)| (cmd.iter().map(|w| (*w).to_owned()).collect(), layers));
        assert_eq!(read.map(|(config, layers)| (config.cmd, layers.len())), expected, "{document}");
    }

    #[test]
    fn configurations_are_read_and_checked() {
        let digest = format!("sha256:{}", "0".repeat(64));
        check(r#"{"rootfs":{"diff_ids":null},"config":null}"#, Some((&[], 0)));
        check(&format!(r#"{{"config":{{"Cmd":["a"]}},"rootfs":{{"diff_ids":["{digest}"]}}}}"#), Some((&["a"], 1)));
        check(r#"{"rootfs":{"diff_ids":["sha256:../../x"]}}"#, None);
        check(r#"{"os":"windows","rootfs":{}}"#, None);
        check(r#"{"architecture":"s390x","rootfs":{}}"#, None);
        check("[]", None);
    }

    proptest::proptest! {
        #[test]
        fn any_configuration_is_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = read_config(&bytes);
        }
    }
}
