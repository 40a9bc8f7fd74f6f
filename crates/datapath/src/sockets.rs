//! Loads the eBPF programs, attaches them to a cgroup and writes their maps.
//!
//! ```text
//!   <bpf_dir>/<abi version>/services …      maps, kept over restarts
//!   <bpf_dir>/<abi version>/link_connect4 … links: while these files exist, the programs run, with or without us
//! ```
//!
//! On a restart new programs are attached beside the old ones, then the pins are renamed over. In between a socket
//! meets both, and the second finds nothing to translate: there is no gap. Knows no Kubernetes object.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader, Pod,
    maps::{HashMap, MapData, MapError},
    pin::PinError,
    programs::{CgroupAttachMode, CgroupSockAddr, ProgramError, links::FdLink},
};
use datapath_abi::{ABI_VERSION, Backend, Frontend, Member, Service, Slot};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs},
};

use crate::{sys, table::Op};

static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/socket.o"));

/// The programs, by the hooks that they are named after.
pub const HOOKS: [&str; 8] = [
    "getpeername4",
    "getpeername6",
    "recvmsg4",
    "recvmsg6",
    // Those that translate forwards come last: what is sent away can be turned back from the first packet on.
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];
const MAPS: [&str; 6] = ["services", "backends", "members", "node_addresses", "flows", "affinity"];
/// Where a cgroup2 tree is mounted: alone, or beside the controllers of version 1.
const CGROUP_ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no cgroup2 file system is mounted at {} or {}", CGROUP_ROOTS[0], CGROUP_ROOTS[1])]
    NoCgroup2,
    #[error("{what}")]
    Files { what: String, source: io::Error },
    #[error("load the eBPF programs")]
    Load(#[from] EbpfError),
    #[error("eBPF program {name}")]
    Program { name: &'static str, source: ProgramError },
    #[error("the kernel has no eBPF links for cgroups (Linux 5.7)")]
    NoLinks,
    #[error("the compiled object has no program or map {0:?}")]
    Missing(&'static str),
    #[error("pin {}", path.display())]
    Pin { path: PathBuf, source: PinError },
    #[error("write the eBPF maps")]
    Map(#[from] MapError),
}

fn files(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Files { what: what.into(), source }
}

/// What the service maps hold.
pub type Contents = (Vec<(Frontend, Service)>, Vec<(Slot, Backend)>, Vec<Member>);

type Table<const K: usize, const V: usize> = HashMap<MapData, [u8; K], [u8; V]>;

/// The attached programs' maps.
pub struct Sockets {
    services: Table<{ Frontend::SIZE }, { Service::SIZE }>,
    backends: Table<{ Slot::SIZE }, { Backend::SIZE }>,
    members: Table<{ Member::SIZE }, 4>,
    node_addresses: Table<4, 4>,
}

/// The root of the cgroup2 tree.
pub fn cgroup2_root() -> Result<PathBuf, Error> {
    let is_cgroup2 = |path: &str| statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
    CGROUP_ROOTS.iter().find(|path| is_cgroup2(path)).map(PathBuf::from).ok_or(Error::NoCgroup2)
}

impl Sockets {
    /// Loads and attaches. Maps that an earlier process pinned are used as they are. Blocking.
    pub fn attach(cgroup: &Path, bpf_dir: &Path) -> Result<Self, Error> {
        ensure_bpffs(bpf_dir)?;
        let dir = version_dir(bpf_dir);
        fs::create_dir_all(&dir).map_err(files(format!("create {}", dir.display())))?;
        let mut loaded = load(&dir)?;
        let tree = File::open(cgroup).map_err(files(format!("open {}", cgroup.display())))?;
        for name in HOOKS {
            let link = attach_one(&mut loaded, name, &tree)?;
            pin_over(link, &dir.join(format!("link_{name}")))?;
        }
        remove_other_versions(bpf_dir, &dir);
        Ok(Sockets {
            services: table(&mut loaded, "services")?,
            backends: table(&mut loaded, "backends")?,
            members: table(&mut loaded, "members")?,
            node_addresses: table(&mut loaded, "node_addresses")?,
        })
    }

    /// Everything that the maps hold now.
    pub fn contents(&self) -> Result<Contents, Error> {
        let services =
            self.services.iter().map(|entry| entry.map(|(k, v)| (Frontend::from_bytes(&k), Service::from_bytes(&v))));
        let backends =
            self.backends.iter().map(|entry| entry.map(|(k, v)| (Slot::from_bytes(&k), Backend::from_bytes(&v))));
        let members = self.members.keys().map(|key| key.map(|k| Member::from_bytes(&k)));
        Ok((
            services.collect::<Result<_, _>>()?,
            backends.collect::<Result<_, _>>()?,
            members.collect::<Result<_, _>>()?,
        ))
    }

    /// Writes one change.
    pub fn run(&mut self, op: &Op) -> Result<(), Error> {
        match op {
            Op::SetBackend(slot, backend) => self.backends.insert(slot.to_bytes(), backend.to_bytes(), 0)?,
            Op::RemoveBackend(slot) => removed(self.backends.remove(&slot.to_bytes()))?,
            Op::AddMember(member) => self.members.insert(member.to_bytes(), [1, 0, 0, 0], 0)?,
            Op::RemoveMember(member) => removed(self.members.remove(&member.to_bytes()))?,
            Op::SetService(frontend, service) => self.services.insert(frontend.to_bytes(), service.to_bytes(), 0)?,
            Op::RemoveService(frontend) => removed(self.services.remove(&frontend.to_bytes()))?,
        }
        Ok(())
    }

    /// Makes `addresses` the ones at which node ports answer.
    pub fn set_node_addresses(&mut self, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        let wanted: Vec<[u8; 4]> = addresses.iter().map(Ipv4Addr::octets).collect();
        let present = self.node_addresses.keys().collect::<Result<Vec<_>, _>>()?;
        for address in wanted.iter().filter(|address| !present.contains(address)) {
            self.node_addresses.insert(address, [1, 0, 0, 0], 0)?;
        }
        for address in present.iter().filter(|address| !wanted.contains(address)) {
            removed(self.node_addresses.remove(address))?;
        }
        Ok(())
    }
}

/// Which hooks are attached, for `status` without a running process.
pub fn attached(bpf_dir: &Path) -> Vec<&'static str> {
    let dir = version_dir(bpf_dir);
    HOOKS.into_iter().filter(|name| dir.join(format!("link_{name}")).exists()).collect()
}

/// Entries of the pinned maps: frontends and backends.
pub fn entries(bpf_dir: &Path) -> Result<(usize, usize), Error> {
    let dir = version_dir(bpf_dir);
    let open = |name: &str| MapData::from_pin(dir.join(name));
    let services: Table<{ Frontend::SIZE }, { Service::SIZE }> =
        HashMap::try_from(aya::maps::Map::HashMap(open("services")?))?;
    let backends: Table<{ Slot::SIZE }, { Backend::SIZE }> =
        HashMap::try_from(aya::maps::Map::HashMap(open("backends")?))?;
    Ok((services.keys().count(), backends.keys().count()))
}

/// Detaches the programs and removes the maps. Blocking.
pub fn cleanup(bpf_dir: &Path) -> Result<(), Error> {
    let Ok(versions) = fs::read_dir(bpf_dir) else { return Ok(()) };
    for version in versions.flatten() {
        remove_version(&version.path()).map_err(files(format!("remove {}", version.path().display())))?;
    }
    fs::remove_dir(bpf_dir).map_err(files(format!("remove {}", bpf_dir.display())))
}

fn version_dir(bpf_dir: &Path) -> PathBuf {
    bpf_dir.join(format!("v{ABI_VERSION}"))
}

/// The programs that translate forwards are unpinned first, so that no address is translated and not turned back.
fn remove_version(dir: &Path) -> io::Result<()> {
    for name in HOOKS.iter().rev() {
        match fs::remove_file(dir.join(format!("link_{name}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(dir)? {
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir(dir)
}

/// Programs of another layout translate with their own maps, which nobody updates any more.
fn remove_other_versions(bpf_dir: &Path, current: &Path) {
    for entry in fs::read_dir(bpf_dir).into_iter().flatten().flatten() {
        if entry.path() != current
            && let Err(error) = remove_version(&entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "programs of another version could not be removed");
        }
    }
}

/// Mounts the BPF file system where it is missing.
fn ensure_bpffs(bpf_dir: &Path) -> Result<(), Error> {
    let mount_point = bpf_dir.parent().unwrap_or(bpf_dir);
    let found = statfs(mount_point).map_err(|errno| files(format!("stat {}", mount_point.display()))(errno.into()))?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(Some("bpf"), mount_point, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(|errno| files(format!("mount the BPF file system at {}", mount_point.display()))(errno.into()))
}

fn load(dir: &Path) -> Result<Ebpf, Error> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(files("open a socket"))?;
    let cookie = sys::netns_cookie(&socket).map_err(files("read the network namespace's cookie"))?;
    let mut loader = EbpfLoader::new();
    loader.override_global("host_netns", &cookie, true);
    for name in MAPS {
        loader.map_pin_path(name, dir.join(name));
    }
    Ok(loader.load(PROGRAMS)?)
}

fn attach_one(loaded: &mut Ebpf, name: &'static str, cgroup: &File) -> Result<FdLink, Error> {
    let failed = |source| Error::Program { name, source };
    let program = loaded.program_mut(name).ok_or(Error::Missing(name))?;
    let program: &mut CgroupSockAddr = program.try_into().map_err(failed)?;
    program.load().map_err(failed)?;
    // For links the mode is spelled as no flag, and the kernel always lets several stand side by side.
    let id = program.attach(cgroup, CgroupAttachMode::Single).map_err(failed)?;
    let link = program.take_link(id).map_err(failed)?;
    // Only kernels before 5.7 attach without a link.
    FdLink::try_from(link).map_err(|_| Error::NoLinks)
}

/// Renaming drops the old link in the same moment in which the new one takes its name.
fn pin_over(link: FdLink, path: &Path) -> Result<(), Error> {
    let mut aside = path.as_os_str().to_owned();
    aside.push("_new");
    let aside = PathBuf::from(aside);
    match fs::remove_file(&aside) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(files(format!("remove {}", aside.display()))(source));
        }
        _ => {}
    }
    link.pin(&aside).map_err(|source| Error::Pin { path: aside.clone(), source })?;
    fs::rename(&aside, path).map_err(files(format!("rename {} to {}", aside.display(), path.display())))
}

fn table<const K: usize, const V: usize>(loaded: &mut Ebpf, name: &'static str) -> Result<Table<K, V>, Error>
where
    [u8; K]: Pod,
    [u8; V]: Pod,
{
    Ok(HashMap::try_from(loaded.take_map(name).ok_or(Error::Missing(name))?)?)
}

/// What should go may be gone already.
fn removed(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
