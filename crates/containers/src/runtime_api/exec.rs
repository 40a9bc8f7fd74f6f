//! Commands inside running containers, and joining a container's own streams.

use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{io::AsyncReadExt, sync::watch};

use super::{
    Runtime,
    sandbox::{Sandbox, numbers},
    streams::{self, StreamReader, StreamWriter, Terminal},
};
use crate::{
    error::{Error, IoContext},
    protocol::{Answer, Op},
    types::ContainerId,
};

/// What is kept of a short command's output.
const MAX_OUTPUT: usize = 16 * 1024;
/// How long the output may outlive the command: something it started may hold the pipe.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// A command to run inside a container.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    pub argv: Vec<String>,
    /// A terminal; stdout carries what it shows and there is no stderr.
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A running command. Its streams are the command's own pipes or terminal: the bytes pass through no other process.
pub struct ExecSession {
    pub stdin: Option<StreamWriter>,
    pub stdout: Option<StreamReader>,
    pub stderr: Option<StreamReader>,
    control: ExecControl,
}

impl ExecSession {
    /// A handle for resizing, killing and waiting that outlives the streams being moved away.
    pub fn control(&self) -> ExecControl {
        self.control.clone()
    }
}

/// Steers a running command.
#[derive(Clone)]
pub struct ExecControl {
    sandbox: Arc<Sandbox>,
    exec: u64,
    terminal: Option<Terminal>,
    ending: watch::Receiver<Option<i32>>,
}

impl ExecControl {
    /// Sets the terminal's size; without a terminal it does nothing.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        match &self.terminal {
            Some(terminal) => terminal.resize(columns, rows).context("resize", "terminal"),
            None => Ok(()),
        }
    }

    /// Sends SIGKILL to the command and what it started in its process group.
    pub async fn kill(&self) -> Result<(), Error> {
        self.sandbox.request(Op::ExecKill { exec: self.exec }, &[]).await.map(drop)
    }

    /// Waits for the command's end: its exit code, or 128 plus the signal. Each caller gets the same answer.
    pub async fn wait(&self) -> Result<i32, Error> {
        let mut ending = self.ending.clone();
        let ended = ending.wait_for(Option::is_some).await.ok().and_then(|code| *code);
        ended.ok_or_else(|| Error::SandboxNotReady(self.sandbox.record.id.to_string()))
    }
}

/// What a short command said and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    pub exit_code: i32,
    /// Standard output and error in the order of arrival, at most 16 KiB of it.
    pub output: Vec<u8>,
}

/// The streams of a container's main process, from now on.
pub struct AttachSession {
    /// Present when the container was made with stdin.
    pub stdin: Option<StreamWriter>,
    /// Ends when the container does. A reader slower than the container by more than the pipe holds is cut off.
    pub stdout: StreamReader,
    /// `None` with a terminal.
    pub stderr: Option<StreamReader>,
}

impl Runtime {
    /// Runs a command inside a running container, as the container's user and under its restrictions.
    pub async fn exec(&self, id: &ContainerId, request: ExecRequest) -> Result<ExecSession, Error> {
        let sandbox = self.owner(id)?;
        let ExecRequest { argv, tty, stdin, stdout, stderr } = request;
        let op = |argv| Op::Exec { container: id.clone(), argv, tty, stdin, stdout, stderr };
        if tty {
            return terminal_session(sandbox, op(argv)).await;
        }
        let io = |r: io::Result<_>| r.context("create", "pipe");
        let mut theirs = Vec::new();
        let ours_in = if stdin { Some(keep(&mut theirs, streams::pipe_in().context("create", "pipe")?)) } else { None };
        let ours_out = if stdout { Some(keep(&mut theirs, io(streams::pipe_out())?)) } else { None };
        let ours_err = if stderr { Some(keep(&mut theirs, io(streams::pipe_out())?)) } else { None };
        let control = start(&sandbox, op(argv), theirs).await?;
        Ok(ExecSession { stdin: ours_in, stdout: ours_out, stderr: ours_err, control })
    }

    /// Runs a command and collects its output; kills it after `timeout`. For probes and hooks.
    pub async fn exec_sync(&self, id: &ContainerId, argv: &[String], timeout: Duration) -> Result<ExecOutput, Error> {
        let sandbox = self.owner(id)?;
        let (mut reader, write) = streams::pipe_out().context("create", "pipe")?;
        // One pipe for both, so that the order of what was said is kept.
        let copy = write.try_clone().context("create", "pipe")?;
        let (argv, command) = (argv.to_vec(), argv.join(" "));
        let op = Op::Exec { container: id.clone(), argv, tty: false, stdin: false, stdout: true, stderr: true };
        let control = start(&sandbox, op, vec![write, copy]).await?;
        let mut output = Vec::new();
        let ended = {
            let read = collect(&mut reader, &mut output);
            tokio::pin!(read);
            let wait = async {
                tokio::select! {
                    code = control.wait() => {
                        let _ = tokio::time::timeout(DRAIN_TIME, &mut read).await;
                        code
                    }
                    () = &mut read => control.wait().await,
                }
            };
            tokio::time::timeout(timeout, wait).await
        };
        match ended {
            Ok(code) => Ok(ExecOutput { exit_code: code?, output }),
            Err(_) => {
                control.kill().await?;
                Err(Error::ExecTimeout { command, seconds: timeout.as_secs() })
            }
        }
    }

    /// Joins the streams of the container's main process.
    pub async fn attach(&self, id: &ContainerId) -> Result<AttachSession, Error> {
        let sandbox = self.owner(id)?;
        let tty = self.container_status(id).is_some_and(|status| status.tty);
        let (stdout, out) = streams::roomy_pipe_out().context("create", "pipe")?;
        let mut theirs = vec![out];
        let stderr = match tty {
            true => None,
            false => Some(keep(&mut theirs, streams::roomy_pipe_out().context("create", "pipe")?)),
        };
        let answered = sandbox.request(Op::Attach { container: id.clone() }, &numbers(&theirs)).await?;
        let stdin = match answered.fds.into_iter().next() {
            Some(fd) if tty => {
                let terminal = Terminal::new(fd).context("open", "terminal")?;
                Some(Box::pin(terminal) as StreamWriter)
            }
            Some(fd) => Some(streams::writer(fd).context("open", "pipe")?),
            None => None,
        };
        Ok(AttachSession { stdin, stdout, stderr })
    }
}

fn keep<T>(theirs: &mut Vec<OwnedFd>, (ours, other): (T, OwnedFd)) -> T {
    theirs.push(other);
    ours
}

/// Asks for a command with pipes.
async fn start(sandbox: &Arc<Sandbox>, op: Op, theirs: Vec<OwnedFd>) -> Result<ExecControl, Error> {
    let answered = sandbox.request(op, &numbers(&theirs)).await?;
    control(sandbox, answered.answer, answered.ending, None)
}

/// Asks for a command with a terminal: its master comes first, then whether the command runs.
async fn terminal_session(sandbox: Arc<Sandbox>, op: Op) -> Result<ExecSession, Error> {
    let connection = sandbox.connection()?;
    let mut answers = connection.ask(op, &[]).await.map_err(|e| sandbox.refused(e))?;
    let first = answers.next().await.map_err(|e| sandbox.refused(e))?;
    let master = first.fds.into_iter().next().ok_or_else(|| sandbox.trouble("sent no terminal"))?;
    let second = answers.next().await.map_err(|e| sandbox.refused(e))?;
    let terminal = Terminal::new(master).context("open", "terminal")?;
    let control = control(&sandbox, second.answer, second.ending, Some(terminal.clone()))?;
    Ok(ExecSession { stdin: Some(Box::pin(terminal.clone())), stdout: Some(Box::pin(terminal)), stderr: None, control })
}

fn control(
    sandbox: &Arc<Sandbox>,
    answer: Answer,
    ending: Option<watch::Receiver<Option<i32>>>,
    terminal: Option<Terminal>,
) -> Result<ExecControl, Error> {
    match (answer, ending) {
        (Answer::Exec { exec }, Some(ending)) => Ok(ExecControl { sandbox: sandbox.clone(), exec, terminal, ending }),
        _ => Err(sandbox.trouble("an unexpected answer")),
    }
}

/// Reads to the end, keeping the first part.
async fn collect(reader: &mut StreamReader, output: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut chunk).await {
        let room = MAX_OUTPUT - output.len();
        output.extend_from_slice(&chunk[..length.min(room)]);
    }
}
