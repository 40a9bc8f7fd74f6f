//! HTTP/1.1 over TLS from the client's side and as lean as it can be: whole requests go out as bytes, answers are read
//! as far as their status and end. Many connections are served by one thread.
//!
//! Knows no object; never checks the server, which this program has started on loopback.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustls::{ClientConnection, pki_types::ServerName};

use super::answer::Answers;
use crate::{api::Target, interrupt};

/// How long a wait lasts at most, so that an interrupt is seen.
const TICK: Duration = Duration::from_millis(50);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is taken out of TLS at once.
const PLAIN_BYTES: usize = 64 << 10;
/// Events taken from one wait.
const EVENTS: usize = 64;
/// How much of a refusal is told.
const TOLD_BYTES: usize = 400;

pub struct Connection {
    socket: TcpStream,
    tls: ClientConnection,
    answers: Answers,
    plain: Vec<u8>,
}

impl Connection {
    /// Connects. Reads wait for a tick if `blocking`, else not at all.
    pub fn open(target: &Target, blocking: bool) -> anyhow::Result<Self> {
        let mut socket = TcpStream::connect(&target.address).with_context(|| target.address.clone())?;
        socket.set_nodelay(true)?;
        // Without ALPN a server speaks HTTP/1.1.
        let mut tls = ClientConnection::new(target.tls().clone(), ServerName::try_from("localhost")?)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        if blocking {
            socket.set_read_timeout(Some(TICK))?;
        } else {
            socket.set_nonblocking(true)?;
        }
        Ok(Connection { socket, tls, answers: Answers::default(), plain: vec![0; PLAIN_BYTES] })
    }

    /// Sends a whole request, or as much of it as the socket takes.
    pub fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.tls.writer().write_all(request)?;
        self.flush()
    }

    /// Sends what waits, as far as the socket takes it.
    fn flush(&mut self) -> anyhow::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads once. Gives how many answers have ended, after their bodies have gone to `body`; fails for an answer that
    /// `allowed` does not allow.
    pub fn read(&mut self, allowed: fn(u16) -> bool, body: &mut impl FnMut(&[u8])) -> anyhow::Result<usize> {
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        self.tls.process_new_packets()?;
        let mut ended = 0;
        loop {
            let count = match self.tls.reader().read(&mut self.plain) {
                Ok(0) => bail!("the server has closed the connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let mut rest = &self.plain[..count];
            while !rest.is_empty() {
                let before = rest;
                let (taken, status) = self.answers.take(rest, body)?;
                rest = &rest[taken..];
                if let Some(status) = status {
                    let told = String::from_utf8_lossy(&before[..before.len().min(TOLD_BYTES)]);
                    ensure!(allowed(status), "a request was answered with {status}: {told}");
                    ended += 1;
                }
            }
        }
        // TLS may have something to say of its own.
        self.flush()?;
        Ok(ended)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Some connections, each with one request under way at a time.
pub struct Pool {
    connections: Vec<Connection>,
    epoll: Epoll,
}

impl Pool {
    pub fn open(target: &Target, count: usize) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            let connection = Connection::open(target, false)?;
            epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            connections.push(connection);
        }
        Ok(Pool { connections, epoll })
    }

    /// Sends requests until there are no more, as many at once as there are connections. `next` writes a request into
    /// the buffer and says whether there was one. Every answer must be allowed.
    pub fn send_all(
        &mut self,
        allowed: fn(u16) -> bool,
        mut next: impl FnMut(&mut Vec<u8>) -> bool,
    ) -> anyhow::Result<()> {
        let (mut request, mut under_way, mut more) = (Vec::new(), 0, true);
        for connection in &mut self.connections {
            request.clear();
            more = more && next(&mut request);
            if more {
                connection.send(&request)?;
                under_way += 1;
            }
        }
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut heard = Instant::now();
        while under_way > 0 {
            interrupt::check()?;
            ensure!(heard.elapsed() < PATIENCE, "the API server has answered nothing for {PATIENCE:?}");
            let count = match self.epoll.wait(&mut events, EpollTimeout::try_from(TICK)?) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                heard = Instant::now();
                let connection = &mut self.connections[event.data() as usize];
                for _ in 0..connection.read(allowed, &mut |_| {})? {
                    request.clear();
                    more = more && next(&mut request);
                    if more {
                        connection.send(&request)?;
                    } else {
                        under_way -= 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// One request with its answer's body.
    pub fn call(&mut self, allowed: fn(u16) -> bool, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (began, mut body) = (Instant::now(), Vec::new());
        let connection = self.connections.first_mut().context("a pool without connections")?;
        connection.send(request)?;
        while connection.read(allowed, &mut |bytes| body.extend_from_slice(bytes))? == 0 {
            interrupt::check()?;
            ensure!(began.elapsed() < PATIENCE, "the API server did not answer within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(body)
    }
}

pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}
