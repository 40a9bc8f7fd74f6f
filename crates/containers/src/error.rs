//! Why the runtime refused or failed. Image errors have an enum of their own in `images`.

use std::{io, path::PathBuf};

use crate::images::ImageError;

/// Why a call on [`crate::Runtime`] failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sandbox {0} not found")]
    SandboxNotFound(String),
    #[error("container {0} not found")]
    ContainerNotFound(String),
    /// The sandbox's shim is gone or was stopped.
    #[error("sandbox {0} is not ready")]
    SandboxNotReady(String),
    /// The call does not fit the container's state.
    #[error("container {container} is {state}, cannot {action}")]
    WrongState { container: String, state: String, action: &'static str },
    /// Something in the configuration cannot be done; trying again will not help.
    #[error("invalid configuration: {0}")]
    Invalid(String),
    /// The container's process could not be made or started: bad command, user, mount… The container is Exited with
    /// reason `StartError`.
    #[error("failed to start container: {0}")]
    Start(String),
    /// The command of an exec could not be started.
    #[error("failed to exec in container: {0}")]
    Exec(String),
    #[error("command {command:?} timed out after {seconds} s")]
    ExecTimeout { command: String, seconds: u64 },
    /// The shim did not answer, or answered nonsense.
    #[error("shim of sandbox {sandbox}: {reason}")]
    Shim { sandbox: String, reason: String },
    /// The machine lacks something that containers need.
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("{action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

pub(crate) trait IoContext<T> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.into(), source })
    }
}

impl<T> IoContext<T> for nix::Result<T> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(io::Error::from).context(action, path)
    }
}

/// An error with its sources in one line; repeated texts once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}
