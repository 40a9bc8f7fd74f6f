//! The pods' network: one bridge, one veth pair and one network namespace per pod.
//!
//! ```text
//!   host: plinth0 (gateway address) ── pl<address> ══ veth ══ eth0 :pod   (namespace at <run_dir>/netns/<pod uid>)
//! ```
//!
//! A pod's namespace is made on a thread that lives for this one job, because a thread that has entered a namespace
//! must not go back to a pool. The veth's name is made from the address, so that leftovers are recognised without any
//! record of them. Knows no Service and no eBPF.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::Ipv4Net;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
    sys::statfs::{FsType, statfs},
};
use parking_lot::Mutex;
use runtime::Tasks;
use tokio::sync::oneshot;

use crate::{
    addresses::{self, Addresses, Holder},
    netlink::Netlink,
};

/// What statfs says of a bind-mounted namespace (`NSFS_MAGIC`).
const NSFS: FsType = FsType(0x6e73_6673);
/// Interfaces of pods on the host begin with this; the address in hexadecimal follows.
const VETH_PREFIX: &str = "pl";
/// A pod UID is a file name here, so it is held to what a UID looks like.
const MAX_UID: usize = 128;

/// Where a pod is in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAddress {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub ip: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// The pod's network namespace, mounted.
    pub netns: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("pod UID {0:?} is not usable as a file name")]
    BadUid(String),
    #[error(transparent)]
    Addresses(#[from] addresses::Error),
    #[error("{what}")]
    Kernel { what: String, source: io::Error },
    #[error("the datapath is stopping")]
    Stopping,
}

fn kernel<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |source| Error::Kernel { what: what.into(), source: source.into() }
}

/// A handle on the pods' network; clones share it.
#[derive(Clone)]
pub struct PodNetwork {
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    addresses: Addresses,
    netns_dir: PathBuf,
    bridge: u32,
    mtu: u32,
    /// A socket of the host's namespace, wherever the thread that uses it stands.
    outside: Mutex<Netlink>,
    /// Held while a pod's state changes, so that two calls for one pod follow each other.
    busy: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl PodNetwork {
    /// Makes the bridge, reads what an earlier process left and removes what belongs to no pod. Blocking.
    pub fn open(bridge: &str, range: Ipv4Net, state_dir: &Path, run_dir: &Path, tasks: Tasks) -> Result<Self, Error> {
        let addresses = Addresses::open(&state_dir.join("addresses"), range)?;
        let netns_dir = run_dir.join("netns");
        fs::create_dir_all(&netns_dir).map_err(kernel(format!("create {}", netns_dir.display())))?;
        let mut netlink = Netlink::open().map_err(kernel("open a netlink socket"))?;
        let mtu = uplink_mtu(&mut netlink).map_err(kernel("read the default route"))?;
        let bridge = ensure_bridge(&mut netlink, bridge, addresses.gateway(), range, mtu)
            .map_err(kernel(format!("set up the bridge {bridge}")))?;
        let outside = Mutex::new(netlink);
        let shared = Shared { addresses, netns_dir, bridge, mtu, outside, busy: Mutex::default() };
        let this = PodNetwork { shared: Arc::new(shared), tasks };
        this.sweep()?;
        Ok(this)
    }

    pub fn gateway(&self) -> Ipv4Addr {
        self.shared.addresses.gateway()
    }

    /// Gives the pod a namespace with an address in it. Called again, it returns what the pod has.
    pub async fn attach(&self, uid: &str, namespace: &str, name: &str) -> Result<PodAddress, Error> {
        check_uid(uid)?;
        let holder = Holder { uid: uid.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
        let (sender, receiver) = oneshot::channel();
        let shared = self.shared.clone();
        self.tasks.spawn_thread("pod-netns", move || {
            // A caller that went away finds the result by its next call.
            let _ = sender.send(shared.attach(&holder));
        });
        receiver.await.map_err(|_| Error::Stopping)?
    }

    /// Takes the pod off the network and frees its address. A pod that is not there is no error.
    pub async fn detach(&self, uid: &str) -> Result<(), Error> {
        check_uid(uid)?;
        let (shared, uid) = (self.shared.clone(), uid.to_owned());
        runtime::blocking(move || shared.detach(&uid)).await
    }

    /// Every pod that has an address.
    pub fn list(&self) -> Vec<PodAddress> {
        self.shared.addresses.list().into_iter().map(|(ip, holder)| self.shared.describe(&holder, ip)).collect()
    }

    /// Removes namespaces and interfaces that no address belongs to, and addresses whose namespace is gone.
    fn sweep(&self) -> Result<(), Error> {
        let shared = &self.shared;
        for (ip, holder) in shared.addresses.list() {
            if !is_netns(&shared.netns_dir.join(&holder.uid)) {
                tracing::info!(pod = holder.name, %ip, "removing the address of a pod whose network namespace is gone");
                shared.detach(&holder.uid)?;
            }
        }
        let held = shared.addresses.list();
        let uids: HashSet<&str> = held.iter().map(|(_, holder)| holder.uid.as_str()).collect();
        let veths: HashSet<String> = held.iter().map(|(ip, _)| veth_name(*ip)).collect();
        for entry in fs::read_dir(&shared.netns_dir).map_err(kernel("list network namespaces"))? {
            let path = entry.map_err(kernel("list network namespaces"))?.path();
            if path.file_name().and_then(|n| n.to_str()).is_none_or(|name| !uids.contains(name)) {
                tracing::info!(path = %path.display(), "removing a network namespace that belongs to no pod");
                unmount_netns(&path).map_err(kernel(format!("unmount {}", path.display())))?;
            }
        }
        let mut netlink = shared.outside.lock();
        for link in netlink.links().map_err(kernel("list interfaces"))? {
            let ours = link.controller == Some(shared.bridge) && link.name.starts_with(VETH_PREFIX);
            if ours && !veths.contains(&link.name) {
                netlink.delete_link(&link.name).map_err(kernel(format!("remove interface {}", link.name)))?;
            }
        }
        Ok(())
    }
}

impl Shared {
    fn attach(&self, holder: &Holder) -> Result<PodAddress, Error> {
        let lock = self.busy.lock().entry(holder.uid.clone()).or_default().clone();
        let _busy = lock.lock();
        let path = self.netns_dir.join(&holder.uid);
        if let Some(ip) = self.addresses.of(&holder.uid)
            && is_netns(&path)
        {
            return Ok(self.describe(holder, ip));
        }
        let ip = self.addresses.assign(holder)?;
        match self.build(ip, &path) {
            Ok(()) => Ok(self.describe(holder, ip)),
            Err(error) => {
                if let Err(undo) = self.tear_down(&holder.uid, ip) {
                    tracing::warn!(pod = holder.name, error = %undo, "a half-made pod network could not be removed");
                }
                Err(error)
            }
        }
    }

    /// Runs on a thread that ends afterwards: it does not come back from the pod's namespace.
    fn build(&self, ip: Ipv4Addr, path: &Path) -> Result<(), Error> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(kernel("create a network namespace"))?;
        File::create(path).map_err(kernel(format!("create {}", path.display())))?;
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(kernel(format!("mount the network namespace at {}", path.display())))?;
        let netns = File::open(path).map_err(kernel(format!("open {}", path.display())))?;
        // As containerd does for pods: ports below 1024 and ping need no capability inside the pod's own network.
        for (name, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
            fs::write(format!("/proc/sys/net/ipv4/{name}"), value).map_err(kernel(format!("set {name}")))?;
        }
        let veth = veth_name(ip);
        // An interface of this name can only be left from an attempt that was cut off.
        let mut outside = self.outside.lock();
        outside.delete_link(&veth).map_err(kernel("remove a left-over interface"))?;
        let peer = ("eth0", hardware_address(ip), netns.as_fd());
        outside.add_veth(&veth, self.bridge, peer, self.mtu).map_err(kernel("create the veth pair"))?;
        drop(outside);

        let mut inside = Netlink::open().map_err(kernel("open a netlink socket in the pod"))?;
        let index = if_nametoindex("eth0").map_err(kernel("find eth0 in the pod"))?;
        let loopback = if_nametoindex("lo").map_err(kernel("find lo in the pod"))?;
        inside.set_up(loopback, None).map_err(kernel("bring lo up"))?;
        inside.set_up(index, None).map_err(kernel("bring eth0 up"))?;
        inside.add_address(index, ip, self.addresses.range().prefix_len()).map_err(kernel("set the pod's address"))?;
        inside.add_default_route(self.addresses.gateway()).map_err(kernel("set the pod's default route"))
    }

    fn detach(&self, uid: &str) -> Result<(), Error> {
        let lock = self.busy.lock().entry(uid.to_owned()).or_default().clone();
        let busy = lock.lock();
        match self.addresses.of(uid) {
            Some(ip) => self.tear_down(uid, ip)?,
            None => unmount_netns(&self.netns_dir.join(uid)).map_err(kernel("unmount the network namespace"))?,
        }
        drop(busy);
        // Whoever waits for the lock holds a clone of it: then it stays.
        let mut locks = self.busy.lock();
        if Arc::strong_count(&lock) == 2 {
            locks.remove(uid);
        }
        Ok(())
    }

    fn tear_down(&self, uid: &str, ip: Ipv4Addr) -> Result<(), Error> {
        unmount_netns(&self.netns_dir.join(uid)).map_err(kernel("unmount the network namespace"))?;
        self.outside.lock().delete_link(&veth_name(ip)).map_err(kernel("remove the pod's interface"))?;
        self.addresses.release(uid)?;
        Ok(())
    }

    fn describe(&self, holder: &Holder, ip: Ipv4Addr) -> PodAddress {
        PodAddress {
            uid: holder.uid.clone(),
            namespace: holder.namespace.clone(),
            name: holder.name.clone(),
            ip,
            gateway: self.addresses.gateway(),
            netns: self.netns_dir.join(&holder.uid),
        }
    }
}

/// Removes the bridge with its ports and every namespace. Nothing that is gone already is an error. Blocking.
pub fn cleanup(bridge: &str, state_dir: &Path, run_dir: &Path) -> Result<(), Error> {
    let netns_dir = run_dir.join("netns");
    if let Ok(entries) = fs::read_dir(&netns_dir) {
        for entry in entries.flatten() {
            let path = entry.path();
            unmount_netns(&path).map_err(kernel(format!("unmount {}", path.display())))?;
        }
    }
    let mut netlink = Netlink::open().map_err(kernel("open a netlink socket"))?;
    if let Some(found) = netlink.link(bridge).map_err(kernel("look for the bridge"))? {
        for link in netlink.links().map_err(kernel("list interfaces"))? {
            if link.controller == Some(found.index) && link.name.starts_with(VETH_PREFIX) {
                netlink.delete_link(&link.name).map_err(kernel(format!("remove interface {}", link.name)))?;
            }
        }
        netlink.delete_link(bridge).map_err(kernel(format!("remove the bridge {bridge}")))?;
    }
    for folder in [netns_dir, state_dir.join("addresses")] {
        match fs::remove_dir_all(&folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(kernel(format!("remove {}", folder.display()))(source));
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many pods' namespaces are mounted.
pub fn mounted(run_dir: &Path) -> usize {
    let entries = fs::read_dir(run_dir.join("netns")).into_iter().flatten().flatten();
    entries.filter(|entry| is_netns(&entry.path())).count()
}

fn ensure_bridge(netlink: &mut Netlink, name: &str, gateway: Ipv4Addr, range: Ipv4Net, mtu: u32) -> io::Result<u32> {
    let link = match netlink.link(name)? {
        Some(link) => link,
        None => {
            netlink.add_bridge(name, hardware_address(gateway), mtu)?;
            netlink.link(name)?.ok_or_else(|| io::Error::other("the bridge vanished"))?
        }
    };
    netlink.set_up(link.index, Some(mtu))?;
    for (index, address, prefix) in netlink.addresses()? {
        if index == link.index && (address, prefix) != (gateway, range.prefix_len()) {
            netlink.delete_address(index, address, prefix)?;
        }
    }
    netlink.add_address(link.index, gateway, range.prefix_len())?;
    Ok(link.index)
}

/// The MTU of the interface that leads outside; Ethernet's where there is none.
fn uplink_mtu(netlink: &mut Netlink) -> io::Result<u32> {
    let Some(index) = netlink.default_route_link()? else { return Ok(1500) };
    Ok(netlink.links()?.into_iter().find(|link| link.index == index).map_or(1500, |link| link.mtu))
}

fn is_netns(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}

fn unmount_netns(path: &Path) -> io::Result<()> {
    while is_netns(path) {
        umount2(path, MntFlags::MNT_DETACH)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn check_uid(uid: &str) -> Result<(), Error> {
    let usable = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if uid.is_empty() || uid.len() > MAX_UID || !uid.chars().all(usable) {
        return Err(Error::BadUid(uid.chars().take(MAX_UID).collect()));
    }
    Ok(())
}

fn veth_name(ip: Ipv4Addr) -> String {
    format!("{VETH_PREFIX}{:08x}", u32::from(ip))
}

/// A locally administered hardware address that says which IP address it belongs to.
fn hardware_address(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_file_names() {
        for (uid, good) in [("0c1c-4d", true), ("", false), ("../x", false), ("a/b", false), (&"a".repeat(129), false)]
        {
            assert_eq!(check_uid(uid).is_ok(), good, "{uid}");
        }
        assert_eq!(veth_name(Ipv4Addr::new(10, 42, 0, 5)), "pl0a2a0005");
    }
}
