//! How the datapath is, seen from outside: what is attached, programmed and built, with or without a running process.

use crate::{Paths, error_text, netlink::Netlink, outside, pods, sockets};

/// One look at the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Hooks whose programs are attached, and how many there should be.
    pub attached: Vec<&'static str>,
    pub expected: usize,
    /// Entries of the maps; an error's text when they cannot be read.
    pub entries: Result<(usize, usize), String>,
    /// The bridge stands.
    pub bridge: bool,
    /// The packet rules stand.
    pub rules: bool,
    /// Mounted network namespaces of pods.
    pub pods: usize,
}

/// Looks at the host.
pub async fn status(paths: &Paths) -> Status {
    let paths = paths.clone();
    runtime::blocking(move || Status {
        attached: sockets::attached(&paths.bpf_dir),
        expected: sockets::HOOKS.len(),
        entries: sockets::entries(&paths.bpf_dir).map_err(|error| error_text(&error)),
        bridge: Netlink::open().and_then(|mut netlink| netlink.link(&paths.bridge)).is_ok_and(|link| link.is_some()),
        rules: outside::present(&paths.nft_table),
        pods: pods::mounted(&paths.run_dir),
    })
    .await
}
