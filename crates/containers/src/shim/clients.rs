//! The runtimes that are connected to this shim.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
};

use crate::{
    protocol::{Answer, Message, Packet, Refusal},
    sys,
};

/// More connections than this are refused: one is the rule, two during a hand-over.
const MAX_CLIENTS: usize = 8;

pub(super) struct Client {
    /// Never used twice, so that a late answer finds its asker or nobody.
    pub(super) key: u64,
    pub(super) socket: OwnedFd,
    pub(super) subscribed: bool,
}

#[derive(Default)]
pub(super) struct Clients {
    pub(super) list: Vec<Client>,
    next_key: u64,
}

/// Who asked: the client and its number for the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) client: u64,
    pub(super) request: u64,
}

impl Clients {
    pub(super) fn accept(&mut self, listener: &OwnedFd) {
        let Ok(socket) = sys::accept(listener) else { return };
        if self.list.len() < MAX_CLIENTS {
            self.next_key += 1;
            self.list.push(Client { key: self.next_key, socket, subscribed: false });
        }
    }

    pub(super) fn drop_client(&mut self, key: u64) {
        self.list.retain(|c| c.key != key);
    }

    /// The next message of a client: `Ok(None)` when there is none now, `Err` when the client is gone.
    pub(super) fn receive(&mut self, key: u64) -> io::Result<Option<Packet>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let client = self.list.iter().find(|c| c.key == key).ok_or_else(gone)?;
        match sys::receive(client.socket.as_fd()) {
            Ok(None) => Err(gone()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other,
        }
    }

    pub(super) fn reply(&mut self, to: Asker, result: Result<Answer, Refusal>, fds: &[&OwnedFd]) {
        self.send(to.client, &Message::Reply { id: to.request, result }, fds);
    }

    pub(super) fn send(&mut self, key: u64, message: &Message, fds: &[&OwnedFd]) {
        let Some(client) = self.list.iter().find(|c| c.key == key) else { return };
        let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let bytes = serde_json::to_vec(message).expect("messages hold nothing that JSON cannot carry");
        // One that does not read is cut off: it connects again and is told everything then.
        if sys::send(client.socket.as_fd(), &bytes, &raw).is_err() {
            self.drop_client(key);
        }
    }

    /// Tells every subscriber.
    pub(super) fn publish(&mut self, message: &Message) {
        let keys: Vec<u64> = self.list.iter().filter(|c| c.subscribed).map(|c| c.key).collect();
        keys.into_iter().for_each(|key| self.send(key, message, &[]));
    }
}
