//! etcd's messages, written and read by hand where a measurement needs a million of them: the bytes go straight into
//! the request, and of an answer only the field that counts is looked at. Tests hold them against the generated types.

use anyhow::{Context, bail};

pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const TXN: &str = "/etcdserverpb.KV/Txn";
pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";

pub fn put(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    bytes(1, key, out);
    bytes(2, value, out);
}

pub fn range(key: &[u8], range_end: &[u8], serializable: bool, out: &mut Vec<u8>) {
    bytes(1, key, out);
    if !range_end.is_empty() {
        bytes(2, range_end, out);
    }
    if serializable {
        out.extend_from_slice(&[7 << 3, 1]);
    }
}

/// Puts the value if the key was last written at `revision` (0: it does not exist).
pub fn compare_and_put(key: &[u8], revision: i64, value: &[u8], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    const MOD: u8 = 2;
    scratch.clear();
    scratch.extend_from_slice(&[2 << 3, MOD]);
    bytes(3, key, scratch);
    scratch.push(6 << 3);
    varint(revision as u64, scratch);
    bytes(1, scratch, out);
    // A RequestOp whose field 2 is the put.
    scratch.clear();
    put(key, value, scratch);
    let put_length = scratch.len();
    out.push(2 << 3 | 2);
    varint((1 + varint_len(put_length as u64) + put_length) as u64, out);
    bytes(2, scratch, out);
}

/// A watch on one key, from now on.
pub fn watch_create(key: &[u8], out: &mut Vec<u8>) {
    let mut create = Vec::with_capacity(key.len() + 8);
    bytes(1, key, &mut create);
    bytes(1, &create, out);
}

/// The revision in a TxnResponse's header, if the comparison held. Works on the first bytes of the message.
pub fn txn_revision(message: &[u8]) -> anyhow::Result<Option<i64>> {
    let (mut revision, mut rest) = (0, message);
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Value::Bytes(mut header)) => {
                while !header.is_empty() {
                    if let (3, Value::Number(number)) = field(&mut header)? {
                        revision = number as i64;
                    }
                }
            }
            // Fields come in order, and true is the only value that is written.
            (2, Value::Number(_)) => return Ok(Some(revision)),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// What a WatchResponse says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Watched {
    pub watch_id: u64,
    pub created: bool,
    pub canceled: bool,
    pub events: u64,
}

pub fn watched(mut message: &[u8]) -> anyhow::Result<Watched> {
    let mut watched = Watched::default();
    while !message.is_empty() {
        match field(&mut message)? {
            (2, Value::Number(id)) => watched.watch_id = id,
            (3, Value::Number(set)) => watched.created = set != 0,
            (4, Value::Number(set)) => watched.canceled = set != 0,
            (11, Value::Bytes(_)) => watched.events += 1,
            _ => {}
        }
    }
    Ok(watched)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn field<'a>(message: &mut &'a [u8]) -> anyhow::Result<(u64, Value<'a>)> {
    let tag = read_varint(message)?;
    let value = match tag & 7 {
        0 => Value::Number(read_varint(message)?),
        2 => {
            let length = read_varint(message)? as usize;
            let (value, rest) = message.split_at_checked(length).context("a message that ends too early")?;
            *message = rest;
            Value::Bytes(value)
        }
        kind => bail!("wire type {kind}, which these messages do not have"),
    };
    Ok((tag >> 3, value))
}

fn read_varint(message: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for (index, byte) in message.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *message = &message[index + 1..];
            return Ok(value);
        }
    }
    bail!("a number that does not end")
}

fn bytes(field: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}

#[cfg(test)]
mod tests {
    use etcd_proto::{etcdserverpb as pb, mvccpb};
    use prost::Message;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn requests_are_what_the_generated_types_read() {
        let put = pb::PutRequest { key: "k".into(), value: vec![7; 256].into(), ..Default::default() };
        assert_eq!(pb::PutRequest::decode(&written(|out| super::put(b"k", &[7; 256], out))[..]).unwrap(), put);

        let mut range = pb::RangeRequest { key: "k".into(), ..Default::default() };
        assert_eq!(pb::RangeRequest::decode(&written(|out| super::range(b"k", b"", false, out))[..]).unwrap(), range);
        (range.range_end, range.serializable) = ("l".into(), true);
        assert_eq!(pb::RangeRequest::decode(&written(|out| super::range(b"k", b"l", true, out))[..]).unwrap(), range);

        for (revision, size) in [(0, 1), (300, 256), (i64::MAX, 20_000)] {
            let value = vec![7; size];
            let written = written(|out| compare_and_put(b"k", revision, &value, &mut Vec::new(), out));
            let found = pb::TxnRequest::decode(&written[..]).unwrap();
            let compare = pb::Compare {
                result: 0,
                target: 2,
                key: "k".into(),
                range_end: Default::default(),
                target_union: Some(pb::compare::TargetUnion::ModRevision(revision)),
            };
            assert_eq!(found.compare, [compare]);
            let put = pb::PutRequest { key: "k".into(), value: value.into(), ..Default::default() };
            assert_eq!(found.success[0].request, Some(pb::request_op::Request::RequestPut(put)));
        }

        let create = pb::WatchRequest::decode(&written(|out| watch_create(b"k", out))[..]).unwrap();
        let wanted = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
        assert_eq!(create.request_union, Some(pb::watch_request::RequestUnion::CreateRequest(wanted)));
    }

    #[test]
    fn answers_are_read_as_far_as_they_count() {
        let header = pb::ResponseHeader { cluster_id: u64::MAX, member_id: 1, revision: 77, raft_term: 3 };
        let mut response = pb::TxnResponse { header: Some(header), succeeded: true, ..Default::default() };
        assert_eq!(txn_revision(&response.encode_to_vec()).unwrap(), Some(77));
        response.succeeded = false;
        response.responses.push(pb::ResponseOp { response: None });
        assert_eq!(txn_revision(&response.encode_to_vec()).unwrap(), None);

        let event = mvccpb::Event { kv: Some(mvccpb::KeyValue::default()), ..Default::default() };
        let watch = pb::WatchResponse {
            header: Some(header),
            watch_id: 300,
            created: true,
            events: vec![event.clone(), event],
            ..Default::default()
        };
        let wanted = Watched { watch_id: 300, created: true, canceled: false, events: 2 };
        assert_eq!(watched(&watch.encode_to_vec()).unwrap(), wanted);
        assert!(watched(&[0x5a, 9, 1]).is_err());
    }
}
