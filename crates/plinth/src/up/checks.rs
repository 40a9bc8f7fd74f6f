//! What the running process says of its parts, for `plinth status`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::net::UdpSocket;

use super::{Ground, parts::Agent, settings::Settings};
use crate::{
    cli::{Paths, UpArgs},
    control,
    status::Check,
};

/// For one look at a part.
const PATIENCE: Duration = Duration::from_secs(2);
/// Less free space than this share of the disk, and than so many bytes, is told; the node's own measure.
const DISK_FREE: f64 = 0.05;
const DISK_FREE_BYTES: u64 = 1 << 30;

struct Checker {
    store: Arc<dyn store_api::Store>,
    /// None where this machine is no node; then nothing is asked of what a node has.
    datapath: Option<datapath::Handle>,
    paths: Paths,
    dns: (IpAddr, u16),
    domain: String,
}

/// Opens the control socket.
pub fn serve(
    args: &UpArgs,
    settings: &Settings,
    agent: Option<&Agent>,
    store: Arc<dyn store_api::Store>,
    ground: &Ground,
) -> anyhow::Result<()> {
    let checker = Checker {
        store,
        datapath: agent.map(|agent| agent.datapath.clone()),
        paths: args.paths.clone(),
        dns: (settings.dns_service_ip.into(), 53),
        domain: args.cluster_domain.clone(),
    };
    let images = agent.map(|agent| agent.images.clone());
    control::serve(&args.paths.run_dir, images, Arc::new(checker), &ground.agents)
        .context("cannot open the control socket")
}

impl control::Checker for Checker {
    async fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.store().await, self.disk()];
        if let Some(datapath) = &self.datapath {
            checks.extend([self.network(datapath).await, self.services(datapath).await, self.names().await]);
        }
        checks
    }
}

impl Checker {
    async fn store(&self) -> Check {
        match tokio::time::timeout(PATIENCE, self.store.status()).await {
            Ok(Ok(status)) if status.errors.is_empty() => {
                let size = status.db_size as f64 / 1e6;
                Check::good(
                    "Store",
                    format!("revision {}, {} keys, {size:.1} MB on disk", status.revision, status.keys),
                )
            }
            Ok(Ok(status)) => {
                Check::bad("Store", status.errors.join("; "), "free space on the disk, or delete objects; see the log")
            }
            Ok(Err(error)) => Check::bad("Store", error.to_string(), "look at the log of plinth up"),
            Err(_) => Check::bad("Store", "no answer within 2 s", "is the disk slow or full? df -h"),
        }
    }

    fn disk(&self) -> Check {
        let folder = self.paths.data_dir.display();
        match nix::sys::statvfs::statvfs(&self.paths.data_dir) {
            Ok(stat) => {
                let share = stat.blocks_available() as f64 / (stat.blocks().max(1)) as f64;
                let detail = format!("{:.0} % free at {folder}", share * 100.0);
                let free = stat.blocks_available() * stat.fragment_size();
                match share < DISK_FREE && free < DISK_FREE_BYTES {
                    false => Check::good("Disk", detail),
                    true => Check::bad("Disk", detail, "remove images (plinth image rm) or give the disk more room"),
                }
            }
            Err(error) => Check::bad("Disk", format!("{folder}: {error}"), "does the data folder exist?"),
        }
    }

    async fn network(&self, datapath: &datapath::Handle) -> Check {
        let status = datapath::status(&super::datapath_paths(&self.paths)).await;
        let live = datapath.live();
        match live.outside_error {
            Some(error) => Check::bad("Pod network", error, "is nft installed? apt-get install nftables"),
            None if !status.bridge => {
                Check::bad("Pod network", "the bridge plinth0 is gone", "restart the cluster: plinth down; plinth up")
            }
            None => Check::good("Pod network", format!("{} addresses in use", status.pods)),
        }
    }

    async fn services(&self, datapath: &datapath::Handle) -> Check {
        let status = datapath::status(&super::datapath_paths(&self.paths)).await;
        let live = datapath.live();
        if let Some(error) = live.sockets_error {
            let hint = "the kernel needs cgroup2 and BPF (5.10 or newer)";
            return Check::bad("Services", error, hint);
        }
        let attached = status.attached.len();
        if attached < status.expected {
            let detail = format!("{attached} of {} eBPF programs are attached", status.expected);
            return Check::bad("Services", detail, "restart the cluster: plinth down; plinth up");
        }
        if !live.synced {
            return Check::bad("Services", "not programmed yet", "wait a moment: plinth status --wait 10");
        }
        Check::good(
            "Services",
            format!("{attached} eBPF programs, {} ports, {} endpoints", live.frontends, live.backends),
        )
    }

    /// Asks the cluster's DNS as a pod would, through its Service address.
    async fn names(&self) -> Check {
        let name = format!("kubernetes.default.svc.{}", self.domain);
        match tokio::time::timeout(PATIENCE, resolve(self.dns, &name)).await {
            Ok(Ok(answers)) if answers > 0 => Check::good("DNS", format!("{name} answered by {}", self.dns.0)),
            Ok(Ok(_)) => Check::bad("DNS", format!("{name} is not known"), "kubectl get service kubernetes"),
            Ok(Err(error)) => Check::bad("DNS", error.to_string(), "kubectl -n kube-system get endpointslices"),
            Err(_) => Check::bad("DNS", format!("{} does not answer", self.dns.0), "see Services above, and the log"),
        }
    }
}

/// One A query over UDP; the number of answers.
async fn resolve(server: (IpAddr, u16), name: &str) -> std::io::Result<u16> {
    let mut query = vec![0x50, 0x4c, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).map_err(std::io::Error::other)?);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut answer = [0; 512];
    let size = socket.recv(&mut answer).await?;
    match answer.get(..size) {
        Some([0x50, 0x4c, _, _, _, _, high, low, ..]) => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(std::io::Error::other("the answer is not one to the question")),
    }
}
