//! One connection to one shim: requests with their answers, and what the shim tells by itself.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd, RawFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, watch},
};

use crate::{
    protocol::{Answer, Message, Op, Packet, Refusal, Request},
    sys,
};

/// How long a shim may think. Longer than its own bound on creating a container.
const ANSWER_TIME: Duration = Duration::from_secs(90);

/// An answer with what came along. A command's carries where its end will be told.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) ending: Option<watch::Receiver<Option<i32>>>,
}

/// Why there is no answer.
pub(super) enum Unanswered {
    Refused(Refusal),
    Lost,
    Late,
}

/// What the shim tells by itself.
pub(super) enum Told {
    Status(Box<crate::types::ContainerStatus>),
    Oom(crate::types::ContainerId),
}

type Waiting = mpsc::Sender<Result<Answered, Refusal>>;

pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<Option<HashMap<u64, Waiting>>>,
    commands: Mutex<HashMap<u64, watch::Sender<Option<i32>>>>,
}

/// Answers to one request, which may come in two parts: a command's terminal first, then that it runs.
pub(super) struct Answers<'a> {
    connection: &'a Connection,
    id: u64,
    receiver: mpsc::Receiver<Result<Answered, Refusal>>,
}

impl Answers<'_> {
    pub(super) async fn next(&mut self) -> Result<Answered, Unanswered> {
        match tokio::time::timeout(ANSWER_TIME, self.receiver.recv()).await {
            Ok(Some(Ok(answered))) => Ok(answered),
            Ok(Some(Err(refusal))) => Err(Unanswered::Refused(refusal)),
            Ok(None) => Err(Unanswered::Lost),
            Err(_) => Err(Unanswered::Late),
        }
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.connection.waiting.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

impl Connection {
    pub(super) fn open(path: &Path) -> io::Result<Connection> {
        Ok(Connection {
            socket: sys::async_fd(sys::connect_to(path)?)?,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
            commands: Mutex::default(),
        })
    }

    pub(super) async fn ask(&self, op: Op, fds: &[RawFd]) -> Result<Answers<'_>, Unanswered> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(2);
        self.waiting.lock().as_mut().ok_or(Unanswered::Lost)?.insert(id, sender);
        let answers = Answers { connection: self, id, receiver };
        let bytes = serde_json::to_vec(&Request { id, op }).expect("requests hold nothing that JSON cannot carry");
        let sent = self.socket.async_io(Interest::WRITABLE, |socket| sys::send(socket.as_fd(), &bytes, fds)).await;
        match sent {
            Ok(()) => Ok(answers),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(Unanswered::Refused(Refusal::Invalid(error.to_string())))
            }
            Err(_) => Err(Unanswered::Lost),
        }
    }

    /// Reads until the shim has something to tell by itself; `None` when it is gone.
    pub(super) async fn listen(&self) -> Option<Told> {
        loop {
            let packet = self.socket.async_io(Interest::READABLE, |socket| sys::receive(socket.as_fd())).await;
            let Ok(Some(Packet { bytes, fds })) = packet else { break };
            match serde_json::from_slice(&bytes) {
                Ok(Message::Reply { id, result }) => self.answered(id, result, fds),
                Ok(Message::Status(status)) => return Some(Told::Status(status)),
                Ok(Message::Oom { container }) => return Some(Told::Oom(container)),
                Ok(Message::ExecExited { exec, code }) => {
                    if let Some(sender) = self.commands.lock().remove(&exec) {
                        let _ = sender.send(Some(code));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a shim speaks differently; leaving it");
                    break;
                }
            }
        }
        self.close();
        None
    }

    /// Lets everyone who waits know that nothing will come.
    pub(super) fn close(&self) {
        self.waiting.lock().take();
        self.commands.lock().clear();
    }

    fn answered(&self, id: u64, result: Result<Answer, Refusal>, fds: Vec<OwnedFd>) {
        let ending = match &result {
            Ok(Answer::Exec { exec }) => {
                let mut commands = self.commands.lock();
                Some(commands.entry(*exec).or_insert_with(|| watch::channel(None).0).subscribe())
            }
            _ => None,
        };
        let sender = self.waiting.lock().as_ref().and_then(|waiting| waiting.get(&id).cloned());
        if let Some(sender) = sender {
            // Nobody reads more than the two parts that fit.
            let _ = sender.try_send(result.map(|answer| Answered { answer, fds, ending }));
        }
    }
}
