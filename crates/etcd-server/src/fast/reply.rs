//! The store's answers, written as the messages that clients know, without a copy of them in between.

use etcd_proto::etcdserverpb::ResponseHeader;
use grpc::{Encode, Keep, Rope};
use store_api::{
    DeleteRangeResponse, Event, EventKind, KeyValue, PutResponse, RangeResponse, ResponseOp, Revision, TxnResponse,
};

use super::wire::{
    Wire, bytes_len, message_len, number_len, put_bytes, put_message, put_number, put_signed, signed_len,
};

/// One answer with its header.
#[derive(Debug)]
pub(crate) enum Reply {
    Range(ResponseHeader, RangeResponse),
    Put(ResponseHeader, PutResponse),
    DeleteRange(ResponseHeader, DeleteRangeResponse),
    Txn(ResponseHeader, TxnResponse),
    Compact(ResponseHeader),
}

impl Encode for Reply {
    fn encoded_len(&self) -> usize {
        match self {
            Reply::Range(head, response) => (head, response).len(),
            Reply::Put(head, response) => (head, response).len(),
            Reply::DeleteRange(head, response) => (head, response).len(),
            Reply::Txn(head, response) => (head, response).len(),
            Reply::Compact(head) => message_len(head),
        }
    }

    fn encode(&self, into: &mut Rope) {
        match self {
            Reply::Range(head, response) => (head, response).put(into),
            Reply::Put(head, response) => (head, response).put(into),
            Reply::DeleteRange(head, response) => (head, response).put(into),
            Reply::Txn(head, response) => (head, response).put(into),
            Reply::Compact(head) => put_message(1, head, into),
        }
    }

    fn encode_whole(self, into: &mut Rope) {
        let Reply::Range(head, response) = self else { return self.encode(into) };
        put_message(1, &head, into);
        for kv in response.kvs {
            put_message(2, &kv, into);
            into.settle();
        }
        put_number(3, response.more.into(), into.tail());
        put_signed(4, response.count, into.tail());
    }

    fn keep(&self) -> Option<Keep> {
        let charge = match self {
            Reply::Range(_, response) => &response.charge,
            Reply::Txn(_, response) => &response.charge,
            _ => return None,
        };
        (!charge.is_empty()).then(|| -> Keep { Box::new(charge.clone()) })
    }
}

/// A part of a range that is sent as a stream; the last one has a header.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    pub head: Option<ResponseHeader>,
    pub response: RangeResponse,
}

impl Encode for Portion {
    fn encoded_len(&self) -> usize {
        message_len(&(self.head.as_ref(), &self.response))
    }

    fn encode(&self, into: &mut Rope) {
        put_message(1, &(self.head.as_ref(), &self.response), into);
    }
}

/// The header of an answer within a transaction's: it says the revision and nothing else, as in etcd.
pub(crate) fn inner_head(revision: Revision) -> ResponseHeader {
    ResponseHeader { revision, ..Default::default() }
}

impl Wire for ResponseHeader {
    fn len(&self) -> usize {
        number_len(self.cluster_id)
            + number_len(self.member_id)
            + signed_len(self.revision)
            + number_len(self.raft_term)
    }

    fn put(&self, into: &mut Rope) {
        let into = into.tail();
        put_number(1, self.cluster_id, into);
        put_number(2, self.member_id, into);
        put_signed(3, self.revision, into);
        put_number(4, self.raft_term, into);
    }
}

impl Wire for KeyValue {
    fn len(&self) -> usize {
        let numbers = [self.create_revision, self.mod_revision, self.version, self.lease];
        bytes_len(self.key.len()) + bytes_len(self.value.len()) + numbers.map(signed_len).iter().sum::<usize>()
    }

    fn put(&self, into: &mut Rope) {
        put_bytes(1, &self.key, into);
        let tail = into.tail();
        put_signed(2, self.create_revision, tail);
        put_signed(3, self.mod_revision, tail);
        put_signed(4, self.version, tail);
        put_bytes(5, &self.value, into);
        put_signed(6, self.lease, into.tail());
    }
}

impl Wire for Event {
    fn len(&self) -> usize {
        let kind = number_len(kind(self.kind));
        kind + message_len(&self.kv) + self.prev_kv.as_ref().map_or(0, message_len)
    }

    fn put(&self, into: &mut Rope) {
        put_number(1, kind(self.kind), into.tail());
        put_message(2, &self.kv, into);
        if let Some(before) = &self.prev_kv {
            put_message(3, before, into);
        }
    }
}

fn kind(kind: EventKind) -> u64 {
    match kind {
        EventKind::Put => 0,
        EventKind::Delete => 1,
    }
}

impl Wire for (&ResponseHeader, &RangeResponse) {
    fn len(&self) -> usize {
        (Some(self.0), self.1).len()
    }

    fn put(&self, into: &mut Rope) {
        (Some(self.0), self.1).put(into);
    }
}

impl Wire for (Option<&ResponseHeader>, &RangeResponse) {
    fn len(&self) -> usize {
        let (head, response) = self;
        let kvs: usize = response.kvs.iter().map(message_len).sum();
        let head = head.map_or(0, message_len);
        head + kvs + number_len(response.more.into()) + signed_len(response.count)
    }

    fn put(&self, into: &mut Rope) {
        let (head, response) = self;
        if let Some(head) = head {
            put_message(1, *head, into);
        }
        response.kvs.iter().for_each(|kv| put_message(2, kv, into));
        put_number(3, response.more.into(), into.tail());
        put_signed(4, response.count, into.tail());
    }
}

impl Wire for (&ResponseHeader, &PutResponse) {
    fn len(&self) -> usize {
        message_len(self.0) + self.1.prev_kv.as_ref().map_or(0, message_len)
    }

    fn put(&self, into: &mut Rope) {
        put_message(1, self.0, into);
        if let Some(before) = &self.1.prev_kv {
            put_message(2, before, into);
        }
    }
}

impl Wire for (&ResponseHeader, &DeleteRangeResponse) {
    fn len(&self) -> usize {
        message_len(self.0) + signed_len(self.1.deleted) + self.1.prev_kvs.iter().map(message_len).sum::<usize>()
    }

    fn put(&self, into: &mut Rope) {
        put_message(1, self.0, into);
        put_signed(2, self.1.deleted, into.tail());
        self.1.prev_kvs.iter().for_each(|kv| put_message(3, kv, into));
    }
}

impl Wire for (&ResponseHeader, &TxnResponse) {
    fn len(&self) -> usize {
        let responses: usize = self.1.responses.iter().map(message_len).sum();
        message_len(self.0) + number_len(self.1.succeeded.into()) + responses
    }

    fn put(&self, into: &mut Rope) {
        put_message(1, self.0, into);
        put_number(2, self.1.succeeded.into(), into.tail());
        self.1.responses.iter().for_each(|response| put_message(3, response, into));
    }
}

impl Wire for ResponseOp {
    fn len(&self) -> usize {
        match self {
            ResponseOp::Range(r) => message_len(&(&inner_head(r.revision), r)),
            ResponseOp::Put(r) => message_len(&(&inner_head(r.revision), r)),
            ResponseOp::DeleteRange(r) => message_len(&(&inner_head(r.revision), r)),
            ResponseOp::Txn(r) => message_len(&(&inner_head(r.revision), r)),
        }
    }

    fn put(&self, into: &mut Rope) {
        match self {
            ResponseOp::Range(r) => put_message(1, &(&inner_head(r.revision), r), into),
            ResponseOp::Put(r) => put_message(2, &(&inner_head(r.revision), r), into),
            ResponseOp::DeleteRange(r) => put_message(3, &(&inner_head(r.revision), r), into),
            ResponseOp::Txn(r) => put_message(4, &(&inner_head(r.revision), r), into),
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_proto::etcdserverpb::{RangeResponse as RangeResponseMessage, RangeStreamResponse};
    use prost::Message;

    use super::*;
    use crate::convert;

    fn kv(n: i64) -> KeyValue {
        let (key, value) = (format!("key {n}").into(), vec![7; n as usize * 1500].into());
        KeyValue { key, value, create_revision: n, mod_revision: 1 << n, version: 3, lease: n % 2 * -5 }
    }

    /// What is written is, byte for byte, what the generated message would write.
    fn check(reply: Reply, message: impl Message) {
        let mut rope = Rope::default();
        reply.encode(&mut rope);
        assert_eq!(reply.encoded_len(), rope.len(), "{reply:?}");
        assert!(rope.to_bytes()[..] == message.encode_to_vec()[..], "{reply:?}");
        let mut whole = Rope::default();
        reply.encode_whole(&mut whole);
        assert!(whole.to_bytes() == rope.to_bytes());
    }

    #[test]
    fn replies_are_what_the_generated_code_writes() {
        let head = ResponseHeader { cluster_id: u64::MAX, member_id: 7, revision: 300, raft_term: 2 };
        let ranges = [
            RangeResponse::default(),
            RangeResponse {
                revision: 300,
                kvs: (0..90).map(|n| kv(n % 60)).collect(),
                more: true,
                count: 1000,
                ..Default::default()
            },
        ];
        let puts = [PutResponse::default(), PutResponse { revision: 300, prev_kv: Some(kv(1)) }];
        let deletes = DeleteRangeResponse { revision: 300, deleted: 2, prev_kvs: vec![kv(0), kv(2)] };
        let responses: Vec<ResponseOp> = ranges.iter().cloned().map(ResponseOp::Range).collect();
        let inner = TxnResponse { revision: 300, responses, ..Default::default() };
        let responses = vec![
            ResponseOp::Put(puts[1].clone()),
            ResponseOp::DeleteRange(deletes.clone()),
            ResponseOp::Txn(inner),
            ResponseOp::Txn(TxnResponse::default()),
        ];
        let txn = TxnResponse { revision: 300, succeeded: true, responses, ..Default::default() };
        for (portion, head) in ranges.iter().cloned().zip([None, Some(head)]) {
            let message = convert::range_response(head.unwrap_or_default(), portion.clone());
            let message =
                RangeStreamResponse { range_response: Some(RangeResponseMessage { header: head, ..message }) };
            let mut rope = Rope::default();
            let portion = Portion { head, response: portion };
            portion.encode(&mut rope);
            assert_eq!(portion.encoded_len(), rope.len(), "{portion:?}");
            assert!(rope.to_bytes()[..] == message.encode_to_vec()[..], "{portion:?}");
        }
        for range in ranges {
            check(Reply::Range(head, range.clone()), convert::range_response(head, range));
        }
        for put in puts {
            check(Reply::Put(head, put.clone()), convert::put_response(head, put));
        }
        check(Reply::DeleteRange(head, deletes.clone()), convert::delete_response(head, deletes));
        check(Reply::Txn(head, txn.clone()), convert::txn_response(head, txn));
        check(Reply::Compact(head), etcd_proto::etcdserverpb::CompactionResponse { header: Some(head) });
    }
}
