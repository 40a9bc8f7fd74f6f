//! The way to one peer: a bounded queue, and a task that connects, writes what waits in one go, and starts anew when
//! the connection breaks.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use replica::{GroupId, Message, snapshot::Point};
use runtime::{CancellationToken, Tasks};
use tokio::{io::AsyncWriteExt, sync::Notify, time::timeout};

use crate::{
    PeerError,
    frame::{self, Greeting, Kind},
    metrics::Metrics,
    network::{Network, Stream, buffer},
    wire,
};

/// Messages that wait for a peer at most; what is over is dropped, and Raft hears of it.
const MAX_QUEUE: usize = 4096;
/// Bytes of one write, about.
const MAX_WRITE: usize = 4 << 20;
/// How long a write may take before the connection counts as broken.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a peer may take to store a snapshot once it has all of it.
const STORE_LIMIT: Duration = Duration::from_secs(120);

pub struct Link {
    shared: Arc<Shared>,
    /// Ends the task when the link is dropped.
    stop: CancellationToken,
}

struct Shared {
    network: Weak<Network>,
    greeting: Greeting,
    urls: Mutex<Vec<String>>,
    queue: Mutex<VecDeque<(GroupId, Message)>>,
    arrived: Notify,
    /// Since when there has been a connection.
    connected: Mutex<Option<Duration>>,
}

impl Link {
    pub fn start(network: &Arc<Network>, greeting: Greeting, urls: Vec<String>) -> Self {
        let shared = Arc::new(Shared {
            network: Arc::downgrade(network),
            greeting,
            urls: Mutex::new(urls),
            queue: Mutex::default(),
            arrived: Notify::new(),
            connected: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let (task, stopped) = (shared.clone(), stop.clone());
        network.spawn_in_runtime("peer", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task.run() => {}
            }
        });
        Link { shared, stop }
    }

    pub fn send(&self, group: GroupId, message: Message) {
        let mut queue = self.shared.queue.lock();
        if queue.len() >= MAX_QUEUE {
            drop(queue);
            return self.shared.dropped(&[(group, message)]);
        }
        queue.push_back((group, message));
        drop(queue);
        self.shared.arrived.notify_one();
    }

    /// Since when there has been a connection.
    pub fn connected(&self) -> Option<Duration> {
        *self.shared.connected.lock()
    }

    pub fn urls(&self) -> Vec<String> {
        self.shared.urls.lock().clone()
    }

    pub fn set_urls(&self, urls: Vec<String>) {
        *self.shared.urls.lock() = urls;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(network) = self.network.upgrade() else { return };
            let urls = self.urls.lock().clone();
            match network.connect(&urls, self.greeting).await {
                Ok(stream) => {
                    let metrics = network.metrics.clone();
                    *self.connected.lock() = network.store().map(store::Store::monotonic);
                    drop(network);
                    let Greeting { from, to, .. } = self.greeting;
                    metrics.connected(from, to);
                    pause = FIRST_PAUSE;
                    tracing::debug!(peer = format!("{:x}", self.greeting.to), "connected");
                    let error = self.carry(stream, &metrics).await;
                    *self.connected.lock() = None;
                    metrics.lost(from, to);
                    tracing::debug!(peer = format!("{:x}", self.greeting.to), %error, "connection lost");
                }
                Err(error) => tracing::debug!(peer = format!("{:x}", self.greeting.to), %error, "cannot connect"),
            }
            // What waited is old by the time there is a connection again.
            let old: Vec<_> = std::mem::take(&mut *self.queue.lock()).into();
            self.dropped(&old);
            if let Some(network) = self.network.upgrade()
                && let Some(store) = network.store()
            {
                store.unreachable(self.greeting.to);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Messages that will not be sent. Raft sends lost ones again, but for a snapshot it waits until it hears what came of it,
    /// and tells the peer nothing more before.
    fn dropped(&self, messages: &[(GroupId, Message)]) {
        let Some(network) = self.network.upgrade() else { return };
        network.metrics.dropped(self.greeting.to, messages.len());
        let Some(store) = network.store() else { return };
        for group in snapshots_among(messages) {
            store.snapshot_sent(group, self.greeting.to, false);
        }
    }

    /// Writes what comes, until the connection breaks.
    async fn carry(self: &Arc<Self>, mut stream: Box<dyn Stream>, metrics: &Metrics) -> PeerError {
        let mut out = buffer();
        loop {
            out.clear();
            frame::put(&mut out, |body| {
                while body.len() < MAX_WRITE {
                    let Some((group, message)) = self.queue.lock().pop_front() else { break };
                    if is_snapshot(&message) {
                        self.send_snapshot(group, message);
                    } else {
                        wire::put_message(body, group, &message);
                    }
                }
            });
            if out.len() > 8 {
                let written = async {
                    stream.write_all(&out).await?;
                    stream.flush().await
                };
                match timeout(WRITE_LIMIT, written).await {
                    Ok(Ok(())) => metrics.sent(self.greeting.to, out.len()),
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return PeerError::Late,
                }
            }
            if self.queue.lock().is_empty() {
                let mut nothing = [0; 1];
                tokio::select! {
                    () = self.arrived.notified() => {}
                    // The peer never writes here: what comes is its end.
                    _ = tokio::io::AsyncReadExt::read(&mut stream, &mut nothing) => {
                        return std::io::Error::from(std::io::ErrorKind::ConnectionReset).into();
                    }
                }
            }
        }
    }

    /// A snapshot goes its own way: it must not hold up heartbeats.
    fn send_snapshot(self: &Arc<Self>, group: GroupId, message: Message) {
        let Some(network) = self.network.upgrade() else { return };
        let link = self.clone();
        network.tasks().clone().spawn("snapshot-out", async move {
            let Some(store) = network.store().cloned() else { return };
            let metadata = message.get_snapshot().get_metadata();
            let (index, term, to) = (metadata.index, metadata.term, link.greeting.to);
            let sent = link.stream_snapshot(&network, Point { group, index, term }, &message).await;
            match &sent {
                Ok(bytes) => tracing::info!(peer = format!("{to:x}"), index, bytes, "snapshot sent"),
                Err(error) => tracing::warn!(peer = format!("{to:x}"), index, %error, "snapshot not sent"),
            }
            store.snapshot_sent(group, to, sent.is_ok());
        });
    }

    async fn stream_snapshot(&self, network: &Network, point: Point, message: &Message) -> Result<u64, PeerError> {
        let store = network.store().ok_or(PeerError::Protocol("the store is not open"))?.clone();
        let mut file = store.open_snapshot(point).map_err(PeerError::Refused)?;
        let urls = self.urls.lock().clone();
        let mut stream = network.connect(&urls, Greeting { kind: Kind::Snapshot, ..self.greeting }).await?;
        let mut head = buffer();
        wire::put_message(&mut head, point.group, message);
        frame::write(&mut stream, &head).await?;
        let mut bytes = 0;
        loop {
            let (back, portion) = runtime::blocking(move || {
                let portion = file.next();
                (file, portion)
            })
            .await;
            file = back;
            let Some(portion) = portion.map_err(PeerError::Refused)? else { break };
            bytes += portion.len() as u64;
            let written = frame::write(&mut stream, &portion);
            timeout(WRITE_LIMIT * 4, written).await.map_err(|_| PeerError::Late)??;
        }
        frame::write(&mut stream, &[]).await?;
        let answer = timeout(STORE_LIMIT, frame::read(&mut stream)).await.map_err(|_| PeerError::Late)??;
        match answer.is_empty() {
            true => Ok(bytes),
            false => Err(PeerError::Refused(String::from_utf8_lossy(&answer).into_owned())),
        }
    }
}

fn is_snapshot(message: &Message) -> bool {
    message.get_snapshot().get_metadata().index != 0
}

/// The groups whose snapshots are among the messages.
fn snapshots_among(messages: &[(GroupId, Message)]) -> impl Iterator<Item = GroupId> {
    messages.iter().filter(|(_, message)| is_snapshot(message)).map(|(group, _)| *group)
}

impl Network {
    /// Links are made wherever members change, also on threads outside of the runtime.
    fn spawn_in_runtime(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (handle, tasks): (_, &Tasks) = (self.runtime(), self.tasks());
        let _entered = handle.enter();
        tasks.spawn(name, task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raft_hears_of_snapshots_that_are_dropped() {
        let heartbeat = Message::default();
        let mut snapshot = Message::default();
        snapshot.mut_snapshot().mut_metadata().index = 7;
        let check = |messages: &[(GroupId, Message)], expected: &[GroupId]| {
            assert_eq!(snapshots_among(messages).collect::<Vec<_>>(), expected);
        };
        check(&[], &[]);
        check(&[(1, heartbeat.clone())], &[]);
        check(&[(1, heartbeat.clone()), (2, snapshot.clone()), (1, heartbeat), (3, snapshot)], &[2, 3]);
    }
}
