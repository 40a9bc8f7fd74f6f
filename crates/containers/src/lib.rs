//! OCI containers and images on this machine.
//!
//! ```text
//!   Runtime (async, in the node's process)          shim (one small process per pod, single-threaded)
//!     ├─ images: content store, layers, pull           ├─ holds the pod's IPC, UTS and PID namespaces
//!     └─ one socket per sandbox ──────────────────────▶├─ creates, starts, kills, reaps its containers
//!          requests, replies, events, descriptors      └─ writes their logs, records how they ended
//! ```
//!
//! The shim outlives the process that asked for it: a new one finds the state folder, connects and has everything
//! again. libcontainer is used only in short-lived children of the shim, never in a process with threads.
//!
//! Knows no Kubernetes API object, no network address management, no scheduling.

mod cgroup;
mod error;
pub mod images;
mod moves;
mod protocol;
mod record;
mod runtime_api;
mod shim;
mod spec;
mod sys;
mod types;

pub use error::Error;
pub use images::{DEMO_V1, DEMO_V2, Images};
pub use moves::favor_moves;
pub use runtime_api::{
    AttachSession, Events, ExecControl, ExecOutput, ExecRequest, ExecSession, Options, Runtime, StreamReader,
    StreamWriter, cleanup,
};
pub use shim::shim_main;
pub use types::*;
