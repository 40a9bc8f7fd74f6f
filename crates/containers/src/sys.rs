//! System calls that the standard library does not wrap, each argued once. Everything that is `unsafe` in this crate
//! stands here.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use nix::{
    cmsg_space,
    sys::socket::{
        AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind,
        connect, listen, recvmsg, sendmsg, socket,
    },
    unistd::{ForkResult, Pid},
};

use crate::protocol::{MAX_FDS, MAX_MESSAGE, Packet};

/// Forks. Returns the child's pid in the parent and `None` in the child.
///
/// Only single-threaded processes call this: the shim and its own children.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the shim never starts a thread, so the child's memory is consistent and it may go on as usual.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// linux/sched.h; libc's constant is cut to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a fork this is.
pub(crate) enum Side {
    Parent(Pid),
    /// `placed`: born in the cgroup that was asked for.
    Child {
        placed: bool,
    },
}

/// As [`fork`], with the child born in a cgroup2 folder: a process that moves there by itself waits for all CPUs, some
/// 10 ms. Where the kernel cannot (before 5.7), the child is not placed and has to move.
pub(crate) fn fork_into(cgroup: Option<&Path>) -> io::Result<Side> {
    let plain = || match fork()? {
        Some(child) => Ok(Side::Parent(child)),
        None => Ok(Side::Child { placed: false }),
    };
    let Some(Ok(folder)) = cgroup.map(std::fs::File::open) else { return plain() };
    // SAFETY: all zeroes is clone3's way of asking for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = u64::from(folder.as_raw_fd().unsigned_abs());
    // SAFETY: without shared memory and without a stack this is fork; the caller is single-threaded (see `fork`), so the
    // child's memory is consistent. The arguments live until the call returns.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) } {
        -1 => plain(),
        0 => Ok(Side::Child { placed: true }),
        pid => Ok(Side::Parent(Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?))),
    }
}

/// Ends a forked child at once, without running the parent's destructors.
pub(crate) fn exit_child(code: i32) -> ! {
    // SAFETY: _exit takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Makes orphaned descendants children of this process, so that it can reap them.
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: prctl with this option takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into()).map(drop)
}

/// Asks for SIGKILL when the parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: prctl with this option takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into()).map(drop)
}

/// The privilege to gain none by exec.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: prctl with this option takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// Whether changing the user keeps the permitted capabilities.
pub(crate) fn keep_capabilities(keep: bool) -> io::Result<()> {
    // SAFETY: prctl with this option takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) }.into()).map(drop)
}

/// Sets the process's name as `ps` shows it (15 bytes).
pub(crate) fn set_name(name: &str) {
    let Ok(name) = CString::new(name) else { return };
    // SAFETY: the pointer is to a terminated string that lives through the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Sets the host name of this UTS namespace.
pub(crate) fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes behind the pointer, which are the string's.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Whether capability `number` is in this process's bounding set; `None` past the last one that the kernel knows.
pub(crate) fn bounding_capability(number: u32) -> Option<bool> {
    // SAFETY: prctl with this option takes numbers only.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Sends a signal by number, real-time ones too. A process that is gone is fine.
pub(crate) fn signal(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    match check(unsafe { libc::kill(pid.as_raw(), number) }.into()) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

/// A descriptor that names the process and no later one with the same number.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; the result is checked and owned by nobody else.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    Ok(own(fd as RawFd))
}

/// Joins every namespace of the process but its user namespace.
pub(crate) fn join_namespaces(pidfd: &OwnedFd) -> io::Result<()> {
    let kinds = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    // SAFETY: takes numbers only.
    check(unsafe { libc::setns(pidfd.as_raw_fd(), kinds) }.into()).map(drop)
}

/// The other side of a terminal whose master is `master`, without any path.
pub(crate) fn open_peer(master: &OwnedFd) -> io::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: the kernel reads one int behind the pointer.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlock) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes numbers only; the result is checked and owned by nobody else.
    let fd = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())?;
    Ok(own(fd as RawFd))
}

/// Makes standard input the controlling terminal of this session.
pub(crate) fn take_terminal() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }.into()).map(drop)
}

/// Sets a terminal's size.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one winsize behind the pointer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) }.into()).map(drop)
}

/// Marks every descriptor from `first` on as closed by exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` on, in a child that will own none of them.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers only; the only caller is a forked child that uses nothing but standard streams afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// An eventfd, for v1 memory notifications.
pub(crate) fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; the result is checked and owned by nobody else.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }.into())?;
    Ok(own(fd as RawFd))
}

/// Sets an extended attribute without following a link at the end of the path.
pub(crate) fn set_attribute(path: &std::ffi::CStr, key: &std::ffi::CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: both strings are terminated, and the kernel reads `len` bytes of the value.
    check(unsafe { libc::lsetxattr(path.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) }.into())
        .map(drop)
}

/// Gives memory that the allocator keeps back to the kernel.
pub(crate) fn trim_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets the kernel forget that this process has touched the pages of a mapping.
///
/// Only for mappings of files that are not writable and hold no private copy of any page: what is touched again comes
/// back from the file as it was.
pub(crate) fn forget_clean_pages(start: usize, length: usize) {
    // SAFETY: the caller has checked that every page is the file's own, so dropping them changes no content.
    unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}

/// A listening message socket at `path`.
pub(crate) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let fd = message_socket()?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::new(64)?)?;
    Ok(fd)
}

/// A message socket connected to the one at `path`.
pub(crate) fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let fd = message_socket()?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

fn message_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

/// Accepts one connection; the socket must be listening.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let fd = nix::sys::socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    Ok(own(fd))
}

/// Sends one message with its descriptors; never blocks.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)?;
    Ok(())
}

/// Receives one message; never blocks. `None` is the other side's end.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Packet>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            fds.extend(received.into_iter().map(own));
        }
    }
    let (length, truncated) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
    if truncated {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too large"));
    }
    if length == 0 {
        return Ok(None);
    }
    buffer.truncate(length);
    Ok(Some(Packet { bytes: buffer, fds }))
}

/// Registers a non-blocking descriptor with the async runtime.
pub(crate) fn async_fd(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always answers with the same open descriptor until it is dropped, and AsyncFd drops it.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(fd) }?)
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: every caller passes a descriptor that the kernel has just made for it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
