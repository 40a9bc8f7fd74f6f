//! Pipes and terminals of containers as async streams.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd},
    net::unix::pipe,
};

use crate::sys;

/// Bytes from a container.
pub type StreamReader = Pin<Box<dyn AsyncRead + Send + Sync>>;
/// Bytes to a container; shutting it down or dropping it is the end of its input.
pub type StreamWriter = Pin<Box<dyn AsyncWrite + Send + Sync>>;

/// How much a reader of an attached container may be behind: the largest that Linux allows without privilege.
const ATTACH_PIPE: i32 = 1024 * 1024;

/// A pipe: our async end and the other one.
pub(super) fn pipe_out() -> io::Result<(StreamReader, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((Box::pin(pipe::Receiver::from_owned_fd(read)?), write))
}

pub(super) fn pipe_in() -> io::Result<(StreamWriter, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((Box::pin(pipe::Sender::from_owned_fd(write)?), read))
}

/// As [`pipe_out`], with room for a reader that is slow for a while.
pub(super) fn roomy_pipe_out() -> io::Result<(StreamReader, OwnedFd)> {
    let (reader, write) = pipe_out()?;
    // Refused where the user's pipe memory is used up; the usual size does then.
    let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(ATTACH_PIPE));
    Ok((reader, write))
}

/// The writing end of a pipe that someone else made.
pub(super) fn writer(fd: OwnedFd) -> io::Result<StreamWriter> {
    Ok(Box::pin(pipe::Sender::from_owned_fd(fd)?))
}

/// The master side of a terminal. Clones share it.
#[derive(Clone)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Terminal> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Terminal(Arc::new(sys::async_fd(fd)?)))
    }

    pub(super) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        sys::set_window_size(self.0.get_ref().as_fd(), columns, rows)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let target = buffer.initialize_unfilled();
            match guard.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), target)?)) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // Nobody holds the other side any more: the end.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), bytes)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
