//! From a layer's tar stream to a folder that overlayfs can stack.
//!
//! The names in the stream are not trusted: every one is resolved by the kernel inside the folder, so that neither
//! `..` nor a link can lead out of it. Whiteouts become what overlayfs understands.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io::{self, BufReader, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use nix::{
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, makedev, mkdirat, mknodat, utimensat},
    sys::time::TimeSpec,
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat},
};
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{ImageError, io_error};
use crate::sys;

/// The largest unpacked layer.
const MAX_LAYER: u64 = 32 * 1024 * 1024 * 1024;
/// The most files in a layer.
const MAX_ENTRIES: u64 = 4_000_000;
/// The largest value of an extended attribute; the kernel's own bound.
const MAX_ATTRIBUTE: usize = 64 * 1024;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Counts and hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    length: u64,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        Hashing { inner, hash: Sha256::new(), length: 0 }
    }

    /// Reads to the end and compares. What stands after the archive's end counts too.
    fn verify(mut self, digest: &str, what: &str) -> Result<R, ImageError> {
        io::copy(&mut self, &mut io::sink()).map_err(|e| ImageError::Invalid(format!("read the layer: {e}")))?;
        let found = format!("sha256:{}", hex::encode(self.hash.finalize()));
        if found != digest {
            return Err(ImageError::Invalid(format!("the {what} is {found}, not {digest}")));
        }
        Ok(self.inner)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        self.length += length as u64;
        if self.length > MAX_LAYER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the layer is larger than allowed"));
        }
        Ok(length)
    }
}

/// Unpacks a plain or gzip-compressed layer into `folder`, which must not exist. `digest` is of the uncompressed
/// stream, `file_digest` of what is read. Returns the size of the files.
pub(super) fn unpack(
    bytes: impl Read,
    folder: &Path,
    digest: &str,
    file_digest: Option<&str>,
) -> Result<u64, ImageError> {
    let invalid = |e: io::Error| ImageError::Invalid(format!("read the layer: {e}"));
    let mut outer = BufReader::with_capacity(64 * 1024, Hashing::new(bytes));
    let head = io::BufRead::fill_buf(&mut outer).map_err(invalid)?;
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(ImageError::Invalid("the layer is compressed with zstd, which is not supported".into()));
    }
    let compressed = head.starts_with(&[0x1f, 0x8b]);
    fs::create_dir(folder).map_err(io_error("create", folder))?;
    let root = open(folder, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY, Mode::empty())
        .map_err(|e| io_error("open", folder)(e.into()))?;
    let (size, outer) = if compressed {
        let inner = Hashing::new(BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(outer)));
        let (size, inner) = extract(inner, &root)?;
        (size, inner.verify(digest, "layer")?.into_inner().into_inner())
    } else {
        let inner = Hashing::new(outer);
        let (size, inner) = extract(inner, &root)?;
        (size, inner.verify(digest, "layer")?)
    };
    if let Some(expected) = file_digest {
        outer.into_inner().verify(expected, "layer's file")?;
    }
    Ok(size)
}

fn extract<R: Read>(reader: R, root: &OwnedFd) -> Result<(u64, R), ImageError> {
    let mut archive = tar::Archive::new(reader);
    let (mut size, mut count) = (0, 0);
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(ImageError::Invalid(format!("more than {MAX_ENTRIES} files in a layer")));
        }
        size += entry.size();
        let path = clean(&entry.path_bytes())?;
        place(&mut entry, &path, root, &mut folders)
            .map_err(|e| ImageError::Invalid(format!("unpack {:?}: {e}", path.display())))?;
    }
    // A folder's time changes with every file put into it, so these come last.
    for (path, time) in folders.into_iter().rev() {
        if let Ok((parent, name)) = parent_of(root, &path) {
            let _ = set_time(&parent, &name, time);
        }
    }
    Ok((size, archive.into_inner()))
}

fn broken(error: io::Error) -> ImageError {
    ImageError::Invalid(format!("the layer is not a tar archive: {error}"))
}

/// The entry's path without leading slashes and dots. One that climbs is refused.
fn clean(bytes: &[u8]) -> Result<PathBuf, ImageError> {
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(bytes)).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let shown = String::from_utf8_lossy(bytes);
                return Err(ImageError::Invalid(format!("path {shown:?} leads out of the layer")));
            }
        }
    }
    Ok(path)
}

/// Opens the folder that holds `path`, making what is missing, and returns it with the last name.
fn parent_of(root: &OwnedFd, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let name = path.file_name().map(PathBuf::from).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let inside = |p: &Path| {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
        let p = if p.as_os_str().is_empty() { Path::new(".") } else { p };
        openat2(root, p, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT))
    };
    match inside(parent) {
        Ok(fd) => Ok((fd, name)),
        Err(nix::Error::ENOENT) => {
            let (above, last) = parent_of(root, parent)?;
            mkdirat(&above, &last, Mode::from_bits_truncate(0o755))?;
            Ok((inside(parent)?, name))
        }
        Err(error) => Err(error.into()),
    }
}

fn place<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    root: &OwnedFd,
    folders: &mut Vec<(PathBuf, i64)>,
) -> io::Result<()> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let mode = entry.header().mode().unwrap_or(0o644) & 0o7777;
    let time = entry.header().mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
    // An owner that is left out is root.
    let owner = (id(entry.header().uid().unwrap_or(0))?, id(entry.header().gid().unwrap_or(0))?);
    let attributes = attributes(entry)?;
    if path.as_os_str().is_empty() {
        // The root itself.
        let here = PathBuf::from(".");
        return finish(root, &here, Some(mode), owner, &attributes);
    }
    let (parent, name) = parent_of(root, path)?;
    let bytes = name.as_os_str().as_bytes();
    if bytes == OPAQUE {
        return set_attribute(&parent, Path::new("."), b"trusted.overlay.opaque", b"y");
    }
    if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
        let hidden = Path::new(OsStr::from_bytes(hidden));
        if hidden.components().count() != 1 || !matches!(hidden.components().next(), Some(Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout of nothing"));
        }
        clear(&parent, hidden)?;
        return Ok(mknodat(&parent, hidden, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?);
    }
    let is_folder =
        openat(&parent, &name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()).is_ok();
    if !(kind.is_dir() && is_folder) {
        clear(&parent, &name)?;
    }
    let permissions = Mode::from_bits_truncate(mode);
    match kind {
        EntryType::Directory => {
            if !is_folder {
                mkdirat(&parent, &name, permissions)?;
            }
            folders.push((path.to_path_buf(), time));
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut file = File::from(openat(&parent, &name, flags, permissions)?);
            io::copy(entry, &mut file)?;
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or(io::ErrorKind::InvalidData)?;
            symlinkat(OsStr::from_bytes(&target), &parent, &name)?;
            // A link has no mode of its own.
            fchownat(&parent, &name, Some(owner.0), Some(owner.1), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            return set_time(&parent, &name, time);
        }
        EntryType::Link => {
            let target = entry.link_name_bytes().ok_or(io::ErrorKind::InvalidData)?;
            let target = clean(&target).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            let (folder, file) = parent_of(root, &target)?;
            // The other name has its owner and mode already.
            return Ok(linkat(&folder, &file, &parent, &name, AtFlags::empty())?);
        }
        EntryType::Char | EntryType::Block => {
            let (major, minor) = (entry.header().device_major()?, entry.header().device_minor()?);
            let device = makedev(major.unwrap_or(0).into(), minor.unwrap_or(0).into());
            let sort = if kind == EntryType::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
            mknodat(&parent, &name, sort, permissions, device)?;
        }
        EntryType::Fifo => mknodat(&parent, &name, SFlag::S_IFIFO, permissions, 0)?,
        other => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("unknown kind {:?}", other.as_byte())));
        }
    }
    finish(&parent, &name, Some(mode), owner, &attributes)?;
    set_time(&parent, &name, time)
}

/// Owner first: changing it takes the set-user bits away.
fn finish(
    parent: &OwnedFd,
    name: &Path,
    mode: Option<u32>,
    owner: (Uid, Gid),
    attributes: &[(Vec<u8>, Vec<u8>)],
) -> io::Result<()> {
    fchownat(parent, name, Some(owner.0), Some(owner.1), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if let Some(mode) = mode {
        fchmodat(parent, name, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)?;
    }
    attributes.iter().try_for_each(|(key, value)| set_attribute(parent, name, key, value))
}

/// Removes what stands in the way; a later entry of the same name wins.
fn clear(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(nix::Error::EISDIR | nix::Error::EPERM) => {
            // Reached through the descriptor, so no link on the way can redirect it.
            fs::remove_dir_all(Path::new(&format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name))
        }
        Err(error) => Err(error.into()),
    }
}

fn set_time(parent: &OwnedFd, name: &Path, seconds: i64) -> io::Result<()> {
    let time = TimeSpec::new(seconds, 0);
    Ok(utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

fn id<T: From<u32>>(number: u64) -> io::Result<T> {
    let number = u32::try_from(number).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "owner out of range"))?;
    Ok(T::from(number))
}

/// Extended attributes of the entry that a container may have. Overlayfs' own would let a layer lie to it.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = Vec::new();
    let Some(extensions) = entry.pax_extensions()? else { return Ok(list) };
    for extension in extensions {
        let extension = extension?;
        let Some(key) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        let wanted = key.starts_with(b"user.") || key == b"security.capability";
        if wanted && extension.value_bytes().len() <= MAX_ATTRIBUTE {
            list.push((key.to_vec(), extension.value_bytes().to_vec()));
        }
    }
    Ok(list)
}

fn set_attribute(parent: &OwnedFd, name: &Path, key: &[u8], value: &[u8]) -> io::Result<()> {
    let path = Path::new(&format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    sys::set_attribute(&text(path.as_os_str().as_bytes())?, &text(key)?, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &[u8], expected: Option<&str>) {
        assert_eq!(clean(path).ok(), expected.map(PathBuf::from), "{path:?}");
    }

    #[test]
    fn paths_stay_inside() {
        check(b"./a/./b/", Some("a/b"));
        check(b"/etc/passwd", Some("etc/passwd"));
        check(b"./", Some(""));
        check(b"a/../b", None);
        check(b"../x", None);
    }

    proptest::proptest! {
        #[test]
        fn any_stream_is_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000)) {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
            let _ = unpack(bytes.as_slice(), &dir.path().join("layer"), &digest, None);
        }
    }
}
