//! Images from files: docker-save tarballs, OCI-layout tarballs and OCI-layout folders.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Component, Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{
    ImageError, ImageInfo, Reference, Store,
    install::{self, Blob, Incoming, MAX_DOCUMENT, MAX_LAYERS},
    io_error,
    reference::is_digest,
};

/// The largest archive, unpacked.
const MAX_ARCHIVE: u64 = 64 * 1024 * 1024 * 1024;
/// The most files in an archive: each image has a few and one per layer.
const MAX_FILES: usize = 100_000;
/// How deep an index may point to other indexes.
const MAX_DEPTH: usize = 4;

/// Brings in every image at `path`.
pub(super) fn import(store: &Store, path: &Path) -> Result<Vec<ImageInfo>, ImageError> {
    let found = fs::metadata(path).map_err(io_error("read", path))?;
    let stem = path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let stem = stem.split('.').next().unwrap_or_default().to_lowercase();
    if found.is_dir() {
        return import_folder(store, path, &stem);
    }
    let draft = Draft::new(store)?;
    let file = File::open(path).map_err(io_error("open", path))?;
    let mut file = BufReader::with_capacity(64 * 1024, file);
    let compressed = file.fill_buf().map_err(io_error("read", path))?.starts_with(&[0x1f, 0x8b]);
    if compressed {
        spread(MultiGzDecoder::new(file), &draft.0)?;
    } else {
        spread(file, &draft.0)?;
    }
    import_folder(store, &draft.0, &stem)
}

/// A folder for unpacked or fetched files that goes away with its holder.
pub(super) struct Draft(pub(super) PathBuf);

impl Draft {
    pub(super) fn new(store: &Store) -> Result<Draft, ImageError> {
        let dir = store.images_dir.join(format!("tmp-{:016x}", runtime::entropy::random_u64()));
        fs::create_dir(&dir).map_err(io_error("create", &dir))?;
        Ok(Draft(dir))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a temporary folder");
        }
    }
}

/// Unpacks an archive's plain files. Links between layers, which old docker versions write, become hard links.
fn spread(reader: impl Read, folder: &Path) -> Result<(), ImageError> {
    let broken = |e: io::Error| ImageError::Invalid(format!("not an image archive: {e}"));
    let mut archive = tar::Archive::new(reader);
    let (mut size, mut links) = (0u64, Vec::new());
    for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        size = size.saturating_add(entry.size());
        if count > MAX_FILES || size > MAX_ARCHIVE {
            return Err(ImageError::Invalid("the archive is larger than allowed".into()));
        }
        let path = entry.path().map_err(broken)?.into_owned();
        let target = inside(folder, &path)?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent).map_err(io_error("create", parent))?;
                }
                let mut file = File::create(&target).map_err(io_error("create", &target))?;
                io::copy(&mut entry, &mut file).map_err(broken)?;
            }
            EntryType::Symlink | EntryType::Link => {
                let link = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                let base = match entry.header().entry_type() {
                    EntryType::Symlink => path.parent().unwrap_or(Path::new("")).join(link),
                    _ => link,
                };
                links.push((inside(folder, &base)?, target));
            }
            _ => {}
        }
    }
    for (from, to) in links {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        }
        fs::hard_link(&from, &to).map_err(io_error("link", to))?;
    }
    Ok(())
}

/// `path` below `folder`, with `..` resolved by name. Only real files and folders are made there, so names suffice.
fn inside(folder: &Path, path: &Path) -> Result<PathBuf, ImageError> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        let fine = match part {
            Component::Normal(name) => {
                clean.push(name);
                true
            }
            Component::CurDir => true,
            Component::ParentDir => clean.pop(),
            Component::RootDir | Component::Prefix(_) => false,
        };
        if !fine {
            return Err(ImageError::Invalid(format!("path {path:?} leads out of the archive")));
        }
    }
    Ok(folder.join(clean))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<PathBuf>>,
}

/// An OCI descriptor.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// An OCI index or manifest: which of the two says what it has.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

fn import_folder(store: &Store, folder: &Path, stem: &str) -> Result<Vec<ImageInfo>, ImageError> {
    // Newer docker writes both; its own manifest has the names.
    if folder.join("manifest.json").is_file() {
        return import_saved(store, folder);
    }
    if !folder.join("index.json").is_file() {
        return Err(ImageError::Invalid("neither a docker-save archive nor an OCI layout".into()));
    }
    let index: Document = document(&folder.join("index.json"))?;
    let mut images = Vec::new();
    for descriptor in &index.manifests {
        let names = names(&descriptor.annotations, stem)?;
        if let Some(image) = import_descriptor(store, folder, descriptor, &names, 0)? {
            images.push(image);
        }
    }
    if images.is_empty() {
        return Err(ImageError::Invalid(format!("no image for linux/{} in it", install::architecture())));
    }
    Ok(images)
}

fn import_saved(store: &Store, folder: &Path) -> Result<Vec<ImageInfo>, ImageError> {
    let list: Vec<Saved> = document(&folder.join("manifest.json"))?;
    let mut images = Vec::new();
    for saved in list {
        let tags = saved.repo_tags.unwrap_or_default();
        let names = tags.iter().map(|tag| Ok(Reference::parse(tag)?.to_string())).collect::<Result<_, ImageError>>()?;
        let layers = saved.layers.unwrap_or_default();
        let layers = layers.iter().map(|path| Ok(Blob { path: inside(folder, path)?, digest: None }));
        let layers = layers.collect::<Result<Vec<_>, ImageError>>()?;
        let path = inside(folder, &saved.config)?;
        let config = install::read_bounded(&path, MAX_DOCUMENT).map_err(io_error("read", path))?;
        images.push(install::install(store, &Incoming { config, layers, names })?);
    }
    Ok(images)
}

/// What an image in a layout is called. Tools write the whole name, or only its tag; the file's name stands for the
/// rest then.
fn names(annotations: &BTreeMap<String, String>, stem: &str) -> Result<Vec<String>, ImageError> {
    let whole = annotations.get("io.containerd.image.name");
    let short = annotations.get("org.opencontainers.image.ref.name");
    let name = match (whole, short) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) if name.contains(['/', ':']) => name.clone(),
        (None, Some(tag)) => format!("{stem}:{tag}"),
        (None, None) => format!("{stem}:latest"),
    };
    Ok(vec![Reference::parse(&name)?.to_string()])
}

/// Follows a descriptor to the image for this machine.
fn import_descriptor(
    store: &Store,
    folder: &Path,
    descriptor: &Descriptor,
    names: &[String],
    depth: usize,
) -> Result<Option<ImageInfo>, ImageError> {
    let fits = descriptor.platform.as_ref().is_none_or(|p| {
        (p.os.is_empty() || p.os == "linux") && (p.architecture.is_empty() || p.architecture == install::architecture())
    });
    if !fits || depth > MAX_DEPTH {
        return Ok(None);
    }
    let manifest: Document = verified(folder, &descriptor.digest)?;
    let Some(config) = manifest.config else {
        for descriptor in &manifest.manifests {
            if let Some(image) = import_descriptor(store, folder, descriptor, names, depth + 1)? {
                return Ok(Some(image));
            }
        }
        return Ok(None);
    };
    if manifest.layers.len() > MAX_LAYERS {
        return Err(ImageError::Invalid(format!("{} layers, more than {MAX_LAYERS}", manifest.layers.len())));
    }
    if let Some(foreign) = manifest.layers.iter().find(|l| !l.media_type.is_empty() && !l.media_type.contains("tar")) {
        return Err(ImageError::Invalid(format!("layers of type {} are not supported", foreign.media_type)));
    }
    let layers = manifest
        .layers
        .iter()
        .map(|layer| Ok(Blob { path: blob(folder, &layer.digest)?, digest: Some(layer.digest.clone()) }));
    let layers = layers.collect::<Result<Vec<_>, ImageError>>()?;
    let config = verified_bytes(folder, &config.digest)?;
    install::install(store, &Incoming { config, layers, names: names.to_vec() }).map(Some)
}

fn blob(folder: &Path, digest: &str) -> Result<PathBuf, ImageError> {
    if !is_digest(digest) {
        return Err(ImageError::Invalid(format!("{digest:?} is not a digest")));
    }
    Ok(folder.join("blobs/sha256").join(&digest["sha256:".len()..]))
}

fn verified<T: for<'a> Deserialize<'a>>(folder: &Path, digest: &str) -> Result<T, ImageError> {
    let bytes = verified_bytes(folder, digest)?;
    serde_json::from_slice(&bytes).map_err(|e| ImageError::Invalid(format!("{digest}: {e}")))
}

fn verified_bytes(folder: &Path, digest: &str) -> Result<Vec<u8>, ImageError> {
    let path = blob(folder, digest)?;
    let bytes = install::read_bounded(&path, MAX_DOCUMENT).map_err(io_error("read", path))?;
    let found = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    if found != digest {
        return Err(ImageError::Invalid(format!("blob {digest} has the content of {found}")));
    }
    Ok(bytes)
}

fn document<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, ImageError> {
    let bytes = install::read_bounded(path, MAX_DOCUMENT).map_err(io_error("read", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    serde_json::from_slice(&bytes).map_err(|e| ImageError::Invalid(format!("{name}: {e}")))
}
