//! Ports for programs that cannot be told to take any.

use std::{
    net::{TcpListener, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below what the kernel gives to connections, and beside NodePorts: a port that is free now stays so until it is used.
const PORTS: std::ops::Range<u32> = 12_000..29_000;

/// A port of loopback that nobody has. Tests of other processes begin to look elsewhere.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        let step = std::process::id().wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (PORTS.start + step % (PORTS.end - PORTS.start)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}
