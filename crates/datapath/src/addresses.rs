//! Which pod has which address: one file per address, whose name is the address and whose content names the pod.
//!
//! A file appears with its content in one step (written aside, then linked, which fails when the name is taken), so a
//! crash leaves either the whole assignment or none. Addresses go round, so that a pod's address is not given to the
//! next pod while others still talk to it.

use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The pod that holds an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no IP addresses available in range {0}")]
    Exhausted(Ipv4Net),
    #[error("address files in {}", folder.display())]
    Files { folder: PathBuf, source: io::Error },
}

/// The addresses of this node's pods.
pub struct Addresses {
    folder: PathBuf,
    range: Ipv4Net,
    state: Mutex<State>,
}

struct State {
    holders: BTreeMap<Ipv4Addr, Holder>,
    /// The offset in the range at which the search for a free address begins.
    next: u32,
}

impl Addresses {
    /// Reads what an earlier process left. Files that are no assignment are removed.
    pub fn open(folder: &Path, range: Ipv4Net) -> Result<Self, Error> {
        let this = Addresses {
            folder: folder.to_owned(),
            range,
            state: Mutex::new(State { holders: BTreeMap::new(), next: 0 }),
        };
        this.read_files().map_err(|source| this.files(source))?;
        Ok(this)
    }

    /// The node's own address in the range: its first.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.network()) + 1)
    }

    pub fn range(&self) -> Ipv4Net {
        self.range
    }

    /// The address of `holder`'s pod, a free one if it has none.
    pub fn assign(&self, holder: &Holder) -> Result<Ipv4Addr, Error> {
        let mut state = self.state.lock();
        if let Some(address) = state.of(&holder.uid) {
            return Ok(address);
        }
        let (first, last) = (u32::from(self.range.network()) + 2, u32::from(self.range.broadcast()) - 1);
        let size = last.saturating_sub(first).saturating_add(1);
        for step in 0..size {
            let offset = state.next.wrapping_add(step) % size;
            let address = Ipv4Addr::from(first + offset);
            if state.holders.contains_key(&address) {
                continue;
            }
            self.write(address, holder).map_err(|source| self.files(source))?;
            state.next = offset + 1;
            state.holders.insert(address, holder.clone());
            return Ok(address);
        }
        Err(Error::Exhausted(self.range))
    }

    /// Frees the address of the pod and returns it.
    pub fn release(&self, uid: &str) -> Result<Option<Ipv4Addr>, Error> {
        let mut state = self.state.lock();
        let Some(address) = state.of(uid) else { return Ok(None) };
        match fs::remove_file(self.folder.join(address.to_string())) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(self.files(source)),
            _ => {}
        }
        state.holders.remove(&address);
        Ok(Some(address))
    }

    pub fn of(&self, uid: &str) -> Option<Ipv4Addr> {
        self.state.lock().of(uid)
    }

    /// All assignments, by address.
    pub fn list(&self) -> Vec<(Ipv4Addr, Holder)> {
        self.state.lock().holders.iter().map(|(address, holder)| (*address, holder.clone())).collect()
    }

    fn read_files(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut state = self.state.lock();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let address = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let holder = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Holder>(&bytes).ok());
            match (address, holder) {
                (Some(address), Some(holder)) if self.range.contains(&address) => {
                    state.holders.insert(address, holder);
                }
                _ => fs::remove_file(&path)?,
            }
        }
        Ok(())
    }

    fn write(&self, address: Ipv4Addr, holder: &Holder) -> io::Result<()> {
        let name = self.folder.join(address.to_string());
        let aside = self.folder.join(format!("{address}.new"));
        fs::write(&aside, serde_json::to_vec(holder)?)?;
        let linked = fs::hard_link(&aside, &name);
        fs::remove_file(&aside)?;
        linked
    }

    fn files(&self, source: io::Error) -> Error {
        Error::Files { folder: self.folder.clone(), source }
    }
}

impl State {
    fn of(&self, uid: &str) -> Option<Ipv4Addr> {
        self.holders.iter().find(|(_, holder)| holder.uid == uid).map(|(address, _)| *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(uid: &str) -> Holder {
        Holder { uid: uid.to_owned(), namespace: "default".to_owned(), name: uid.to_owned() }
    }

    #[test]
    fn addresses_go_round_and_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let range: Ipv4Net = "10.42.0.0/29".parse().unwrap();
        let open = || Addresses::open(folder.path(), range).unwrap();
        let addresses = open();
        let assign = |uid: &str| addresses.assign(&holder(uid)).map(|a| a.octets()[3]);
        assert_eq!(assign("a").unwrap(), 2);
        assert_eq!(assign("b").unwrap(), 3);
        assert_eq!(assign("a").unwrap(), 2);
        assert_eq!(addresses.release("a").unwrap().unwrap().octets()[3], 2);
        assert_eq!(addresses.release("a").unwrap(), None);
        assert_eq!(["c", "d", "e", "f"].map(|uid| assign(uid).unwrap()), [4, 5, 6, 2]);
        assert_eq!(assign("g").unwrap_err().to_string(), "no IP addresses available in range 10.42.0.0/29");
        fs::write(folder.path().join("10.42.0.9"), "torn").unwrap();
        fs::write(folder.path().join("10.42.0.5.new"), "").unwrap();
        assert_eq!(open().list(), addresses.list());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }
}
