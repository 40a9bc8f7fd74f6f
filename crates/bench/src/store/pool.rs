//! The connections of one load to one server or cluster, and the wait for the first that has something to read.

use std::{net::SocketAddr, time::Duration};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::h2::Connection;

/// How long a wait lasts at most, so that an interrupt and the end of a measurement are seen.
const TICK: Duration = Duration::from_millis(50);
/// The same, while bytes wait to be written.
const SHORT_TICK: Duration = Duration::from_millis(1);
/// Events taken from one wait.
const EVENTS: usize = 64;

pub struct Pool {
    pub connections: Vec<Connection>,
    epoll: Epoll,
    /// Connections that the last wait found readable.
    pub ready: Vec<usize>,
}

/// How many connections so many clients share, much as etcd's own benchmark is run.
pub fn connections_for(clients: usize) -> usize {
    match clients {
        0..=1 => 1,
        2..=16 => clients,
        17..=64 => 16,
        _ => 50,
    }
}

impl Pool {
    /// Connects so many times, to one address after the other.
    pub fn open(addresses: &[SocketAddr], count: usize) -> anyhow::Result<Self> {
        // A single connection is simply read from; that saves it a call for each answer.
        let patience = (count == 1).then_some(TICK);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for (index, address) in addresses.iter().cycle().take(count).enumerate() {
            let connection = Connection::open(*address, patience)?;
            epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            connections.push(connection);
        }
        Ok(Pool { connections, epoll, ready: Vec::new() })
    }

    /// Writes what is buffered, then fills `ready`: it is empty when a tick has passed.
    pub fn wait(&mut self) -> anyhow::Result<()> {
        let mut all_out = true;
        for connection in &mut self.connections {
            all_out &= connection.flush()?;
        }
        self.ready.clear();
        if self.connections.len() == 1 {
            self.ready.push(0);
            return Ok(());
        }
        let tick = if all_out { TICK } else { SHORT_TICK };
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, EpollTimeout::try_from(tick)?) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        self.ready.extend(events[..count].iter().map(|event| event.data() as usize));
        Ok(())
    }
}
