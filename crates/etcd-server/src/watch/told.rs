//! One response of a watch stream, and where responses go. Events are written from the store's own values straight into
//! the stream's queue: small ones are encoded there at once, which costs no more than looking for an encoded copy;
//! large values go out as references that all watchers share.

use std::sync::Arc;

use etcd_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use grpc::{Encode, Rope};
use store_api::{Event, StoreError};
use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    codes, convert,
    fast::wire::{Wire, bytes_len, message_len, number_len, put_message, put_number, put_signed, put_text, signed_len},
};

/// One response, before it is written.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub head: ResponseHeader,
    pub watch_id: i64,
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: i64,
    pub reason: String,
    pub fragment: bool,
    pub events: Vec<Arc<Event>>,
}

impl Told {
    /// A response that says how far a watch is.
    pub fn new(head: ResponseHeader, watch_id: i64) -> Self {
        Told { head, watch_id, ..Default::default() }
    }

    /// The response that ends a watch: by the client's wish, or by an error.
    pub fn canceled(head: ResponseHeader, id: i64, error: Option<&StoreError>) -> Self {
        let mut told = Told { canceled: true, ..Told::new(head, id) };
        match error {
            None => {}
            // The revision says it all; clients look for it first.
            Some(StoreError::Compacted { compacted, .. }) => told.compact_revision = *compacted,
            Some(error) => told.reason = codes::status(error).message().to_owned(),
        }
        told
    }

    fn into_message(self) -> WatchResponse {
        WatchResponse {
            header: Some(self.head),
            watch_id: self.watch_id,
            created: self.created,
            canceled: self.canceled,
            compact_revision: self.compact_revision,
            cancel_reason: self.reason,
            fragment: self.fragment,
            events: self.events.into_iter().map(Arc::unwrap_or_clone).map(convert::event).collect(),
        }
    }
}

impl Encode for Told {
    fn encoded_len(&self) -> usize {
        let flags = [self.created, self.canceled, self.fragment].map(|flag| number_len(flag.into()));
        message_len(&self.head)
            + signed_len(self.watch_id)
            + flags.iter().sum::<usize>()
            + signed_len(self.compact_revision)
            + bytes_len(self.reason.len())
            + self.events.iter().map(|event| message_len(&**event)).sum::<usize>()
    }

    fn encode(&self, into: &mut Rope) {
        put_message(1, &self.head, into);
        let tail = into.tail();
        put_signed(2, self.watch_id, tail);
        put_number(3, self.created.into(), tail);
        put_number(4, self.canceled.into(), tail);
        put_signed(5, self.compact_revision, tail);
        put_text(6, &self.reason, into);
        put_number(7, self.fragment.into(), into.tail());
        self.events.iter().for_each(|event| put_message(11, &**event, into));
    }
}

/// The bytes that an event takes in a response.
pub(super) fn event_len(event: &Event) -> usize {
    event.len()
}

/// Where the responses of a stream go. A clone goes to the same stream.
#[derive(Clone)]
pub(super) enum Responses {
    Fast(grpc::Sender),
    Tonic(mpsc::Sender<Result<WatchResponse, Status>>),
}

impl Responses {
    /// Waits for room. Whoever would get the response is gone only together with the client, and then whoever sends
    /// it is stopped too.
    pub async fn send(&self, told: Told) {
        match self {
            Responses::Fast(sender) => drop(sender.send(&told).await),
            Responses::Tonic(queue) => drop(queue.send(Ok(told.into_message())).await),
        }
    }
}

/// A status of the fast server as tonic's.
pub(super) fn tonic_status(status: grpc::Status) -> Status {
    Status::new((status.code as i32).into(), status.message)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use store_api::{EventKind, KeyValue};

    use super::*;

    #[test]
    fn responses_are_what_the_generated_code_writes() {
        let check = |make: &dyn Fn() -> Told| {
            let mut rope = Rope::default();
            make().encode(&mut rope);
            assert_eq!(make().encoded_len(), rope.len());
            assert!(rope.to_bytes()[..] == make().into_message().encode_to_vec()[..], "{:?}", make());
        };
        let head = ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        let kv = |len: usize| KeyValue {
            key: "k".into(),
            value: vec![7; len].into(),
            create_revision: 200,
            mod_revision: 70_000,
            version: 1,
            lease: 9,
        };
        let event = |kind, len, before: Option<usize>| Arc::new(Event { kind, kv: kv(len), prev_kv: before.map(kv) });
        check(&Told::default);
        check(&|| Told::new(head, -1));
        check(&|| Told::canceled(head, 300, Some(&StoreError::Stopped)));
        check(&|| Told::canceled(head, 0, Some(&StoreError::Compacted { requested: 1, compacted: 300 })));
        let events = || {
            vec![
                event(EventKind::Put, 3, None),
                event(EventKind::Put, 5000, Some(4000)),
                event(EventKind::Delete, 0, Some(0)),
            ]
        };
        check(&|| Told { created: true, fragment: true, events: events(), ..Told::new(head, 7) });
    }
}
