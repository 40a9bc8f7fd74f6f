//! Binds the addresses of URLs: TCP with the socket options of the flags, and unix sockets whose old file goes first.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use etcd_server::Listener;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::{config::Sockets, parse::words, url::Url};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 4096;
/// Seconds of silence after which the kernel asks whether a client's machine is there, and between two such questions,
/// as etcd has it. Connections have it from their listener.
const KEEP_ALIVE_SECONDS: u32 = 30;

#[derive(Debug, thiserror::Error)]
#[error("listen {network} {address}: {step}: {reason}")]
pub struct ListenError {
    network: &'static str,
    address: String,
    step: &'static str,
    reason: String,
}

/// A bound address, and what it was bound for.
pub struct Bound {
    pub url: Url,
    pub listener: Listener,
    /// As it is logged: with the port that the kernel chose, if it did.
    pub address: String,
    /// The socket's file, which goes when the listener does.
    pub file: Option<SocketFile>,
}

/// Removes a socket's file in the end.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A later start removes what is left.
        let _ = fs::remove_file(&self.0);
    }
}

pub async fn bind(url: &Url, sockets: Sockets) -> Result<Bound, ListenError> {
    if url.scheme.is_unix() { bind_unix(url) } else { bind_tcp(url, sockets).await }
}

fn bind_unix(url: &Url) -> Result<Bound, ListenError> {
    let path = url.socket();
    let failed = |error: &io::Error| fail("unix", &path, "bind", error);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(|error| failed(&error))?;
    let file = Some(SocketFile(Path::new(&path).to_owned()));
    Ok(Bound { url: url.clone(), listener: Listener::Unix(listener), address: path, file })
}

async fn bind_tcp(url: &Url, sockets: Sockets) -> Result<Bound, ListenError> {
    let address = resolve(&url.host).await.map_err(|error| fail("tcp", &url.host, "lookup", &error))?;
    let listener = open(address, sockets).map_err(|error| fail("tcp", &address.to_string(), "bind", &error))?;
    let bound = listener.local_addr().map_err(|error| fail("tcp", &address.to_string(), "bind", &error))?;
    Ok(Bound { url: url.clone(), listener: Listener::Tcp(listener), address: bound.to_string(), file: None })
}

/// The address of a host; the one of IPv4 where there are both, as in Go.
pub async fn resolve(host: &str) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(host).await?.collect();
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    v4.or(addresses.first()).copied().ok_or_else(|| io::Error::other("no such host"))
}

fn open(address: SocketAddr, sockets: Sockets) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Go sets this on every listener; without it a restart would wait for old connections to time out.
    socket.set_reuseaddr(true)?;
    if sockets.reuse_port {
        socket.set_reuseport(true)?;
    }
    socket.set_keepalive(true)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &KEEP_ALIVE_SECONDS)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &KEEP_ALIVE_SECONDS)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn fail(network: &'static str, address: &str, step: &'static str, error: &io::Error) -> ListenError {
    ListenError { network, address: address.to_owned(), step, reason: words(error) }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    #[tokio::test]
    async fn dead_clients_are_found_by_the_kernel() {
        let url = Url::parse("http://127.0.0.1:0").unwrap();
        let bound = bind(&url, Sockets::default()).await.unwrap();
        let Listener::Tcp(listener) = bound.listener else { panic!("it is TCP's") };
        let _client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(getsockopt(&accepted, sockopt::KeepAlive), Ok(true));
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepIdle), Ok(KEEP_ALIVE_SECONDS));
    }
}
