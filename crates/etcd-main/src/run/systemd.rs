//! Tells systemd that the member is ready, if it was started by it.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Sends `READY=1` where `NOTIFY_SOCKET` says.
pub fn ready() {
    tracing::info!("notifying init daemon");
    match notify("READY=1") {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::error!(%error, "failed to notify systemd for readiness"),
    }
}

fn notify(state: &str) -> io::Result<()> {
    let Some(path) = env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty()) else { return Ok(()) };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}
