//! A pod network that only makes network namespaces: each pod has its own loopback and nothing else.

use std::{fs, path::PathBuf};

use async_trait::async_trait;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use node::{NetworkError, PodAddress, PodNetwork};
use runtime::Tasks;

pub struct Namespaces {
    pub dir: PathBuf,
    pub tasks: Tasks,
}

impl Namespaces {
    fn address(&self, uid: &str) -> PodAddress {
        PodAddress { ip: [10, 99, 0, 7].into(), netns: self.dir.join(uid), gateway: [10, 99, 0, 1].into() }
    }
}

#[async_trait]
impl PodNetwork for Namespaces {
    async fn attach(&self, pod_uid: &str, _: &str, _: &str) -> Result<PodAddress, NetworkError> {
        let address = self.address(pod_uid);
        if address.netns.exists() {
            return Ok(address);
        }
        fs::create_dir_all(&self.dir).unwrap();
        fs::write(&address.netns, b"").unwrap();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let target = address.netns.clone();
        // A thread of its own: the namespace it enters is never left again.
        self.tasks.spawn_thread("netns", move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).and_then(|()| {
                let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
                mount(Some(own.as_str()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            });
            let _ = sender.send(made);
        });
        receiver.await.unwrap().map_err(|error| NetworkError(error.to_string()))?;
        Ok(address)
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        let path = self.dir.join(pod_uid);
        if path.exists() {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            fs::remove_file(&path).map_err(|error| NetworkError(error.to_string()))?;
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<(String, PodAddress)>, NetworkError> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.map(|uid| (uid.clone(), self.address(&uid))).collect())
    }
}
