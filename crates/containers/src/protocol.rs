//! What the runtime and a shim say to each other: one JSON document per message of a SOCK_SEQPACKET socket, so that
//! a message arrives whole or not at all, with the file descriptors that belong to it.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::types::{ContainerId, ContainerStatus};

/// The largest message; past it the sender is refused. The kernel's own bound on such a socket is about 200 KiB.
pub(crate) const MAX_MESSAGE: usize = 128 * 1024;
/// The most descriptors in one message: stdin, stdout and stderr.
pub(crate) const MAX_FDS: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) op: Op,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Send the state now and events from now on.
    Subscribe,
    /// Read `containers/<id>/container.json` and keep it.
    Create {
        container: ContainerId,
    },
    Start {
        container: ContainerId,
    },
    /// To the main process, or to every process of the container.
    Signal {
        container: ContainerId,
        signal: i32,
        all: bool,
    },
    /// Forget a container that does not run.
    Remove {
        container: ContainerId,
    },
    /// With the wanted ends of stdin, stdout, stderr attached in this order; with a terminal none, and the answer
    /// carries its master side.
    Exec {
        container: ContainerId,
        argv: Vec<String>,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    ExecKill {
        exec: u64,
    },
    /// With write ends for stdout and stderr attached; the answer carries the write end of stdin if there is one.
    Attach {
        container: ContainerId,
    },
    Resize {
        container: ContainerId,
        columns: u16,
        rows: u16,
    },
    /// Kill everything that runs; new containers are refused afterwards.
    Stop,
    /// Stop, remove cgroups and mounts, end.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Reply {
        id: u64,
        result: Result<Answer, Refusal>,
    },
    /// A container changed.
    Status(Box<ContainerStatus>),
    Oom {
        container: ContainerId,
    },
    ExecExited {
        exec: u64,
        code: i32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    State { pid: u32, stopped: bool, containers: Vec<ContainerStatus> },
    Exec { exec: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    NotFound,
    WrongState(String),
    Invalid(String),
    Start(String),
    Exec(String),
    Failed(String),
}

/// A message with what came along.
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}
