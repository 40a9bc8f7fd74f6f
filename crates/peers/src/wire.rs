//! Questions, replies and errors as bytes, and the body of a frame of messages.
//!
//! ```text
//!   messages   (group u32, length u32, message)*
//!   snapshot   the first frame: group u32, message; then portions; then an empty frame
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use mvcc::codec::{DecodeError, Reader, put_bytes, put_i64, put_u64};
use replica::{GroupId, Members, Message};
use store::{Question, Reply};
use store_api::{HashKv, Lease, LeaseStatus, MembershipError, StoreError};

use crate::PeerError;

pub fn put_message(out: &mut BytesMut, group: GroupId, message: &Message) {
    let bytes = consensus::encode_message(message);
    out.put_u32_le(group);
    out.put_u32_le(u32::try_from(bytes.len()).expect("messages are bounded far below 4 GiB"));
    out.put_slice(&bytes);
}

pub fn messages(mut body: Bytes) -> Result<Vec<(GroupId, Message)>, PeerError> {
    let mut found = Vec::new();
    while body.has_remaining() {
        found.push(message(&mut body)?);
    }
    Ok(found)
}

pub fn message(body: &mut Bytes) -> Result<(GroupId, Message), PeerError> {
    let short = |_| PeerError::Protocol("a message is cut off");
    let group = body.try_get_u32_le().map_err(short)?;
    let length = body.try_get_u32_le().map_err(short)? as usize;
    if length > body.len() {
        return Err(PeerError::Protocol("a message is cut off"));
    }
    let message = consensus::decode_message(&body.split_to(length));
    Ok((group, message.map_err(|_| PeerError::Protocol("a message cannot be read"))?))
}

pub fn put_question(question: &Question) -> Vec<u8> {
    let mut out = Vec::new();
    match question {
        Question::KeepAlive(group, id) => {
            out.push(1);
            put_u64(&mut out, u64::from(*group));
            put_i64(&mut out, *id);
        }
        Question::TimeToLive(group, id, keys) => {
            out.push(2);
            put_u64(&mut out, u64::from(*group));
            put_i64(&mut out, *id);
            out.push(u8::from(*keys));
        }
        Question::Promote(id) => {
            out.push(3);
            put_u64(&mut out, *id);
        }
        Question::Joining => out.push(4),
        Question::Hash(group, revision) => {
            out.push(5);
            put_u64(&mut out, u64::from(*group));
            put_i64(&mut out, *revision);
        }
        Question::InSync(group, id) => {
            out.push(6);
            put_u64(&mut out, u64::from(*group));
            put_u64(&mut out, *id);
        }
    }
    out
}

pub fn question(body: Bytes) -> Result<Question, DecodeError> {
    let mut r = Reader::new(body);
    Ok(match r.u8()? {
        1 => Question::KeepAlive(r.u32()?, r.i64()?),
        2 => Question::TimeToLive(r.u32()?, r.i64()?, r.bool()?),
        3 => Question::Promote(r.u64()?),
        4 => Question::Joining,
        5 => Question::Hash(r.u32()?, r.i64()?),
        6 => Question::InSync(r.u32()?, r.u64()?),
        _ => return Err(DecodeError("unknown question")),
    })
}

/// A reply, and who gives it: a member that joins learns its cluster's id from it.
pub fn put_reply(cluster: u64, reply: &Result<Reply, StoreError>) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, cluster);
    match reply {
        Err(error) => {
            out.push(0);
            put_error(&mut out, error);
        }
        Ok(Reply::KeepAlive(lease)) => {
            out.push(1);
            put_i64(&mut out, lease.id);
            put_i64(&mut out, lease.ttl);
        }
        Ok(Reply::TimeToLive(status)) => {
            out.push(2);
            put_i64(&mut out, status.id);
            put_i64(&mut out, status.ttl);
            put_i64(&mut out, status.granted_ttl);
            put_u64(&mut out, status.keys.len() as u64);
            status.keys.iter().for_each(|key| put_bytes(&mut out, key));
        }
        Ok(Reply::Members(members)) => {
            out.push(3);
            Members::new(members.iter().cloned()).encode(&mut out);
        }
        Ok(Reply::Joining(members, groups)) => {
            out.push(5);
            Members::new(members.iter().cloned()).encode(&mut out);
            put_u64(&mut out, u64::from(*groups));
        }
        Ok(Reply::Hash(hash)) => {
            out.push(4);
            put_u64(&mut out, u64::from(hash.hash));
            [hash.hash_revision, hash.compact_revision, hash.revision].iter().for_each(|n| put_i64(&mut out, *n));
        }
        Ok(Reply::InSync(in_sync)) => out.extend([6, u8::from(*in_sync)]),
    }
    out
}

pub fn reply(body: Bytes) -> Result<(u64, Result<Reply, StoreError>), DecodeError> {
    let mut r = Reader::new(body);
    let cluster = r.u64()?;
    let reply = match r.u8()? {
        0 => Err(error(&mut r)?),
        1 => Ok(Reply::KeepAlive(Lease { id: r.i64()?, ttl: r.i64()? })),
        2 => {
            let (id, ttl, granted_ttl) = (r.i64()?, r.i64()?, r.i64()?);
            let count = r.count()?;
            let keys = (0..count).map(|_| r.bytes()).collect::<Result<_, _>>()?;
            Ok(Reply::TimeToLive(LeaseStatus { id, ttl, granted_ttl, keys }))
        }
        3 => Ok(Reply::Members(Members::decode(&mut r)?.list())),
        5 => Ok(Reply::Joining(Members::decode(&mut r)?.list(), r.u32()?)),
        4 => {
            let hash = r.u32()?;
            let (hash_revision, compact_revision, revision) = (r.i64()?, r.i64()?, r.i64()?);
            Ok(Reply::Hash(HashKv { hash, hash_revision, compact_revision, revision }))
        }
        6 => Ok(Reply::InSync(r.bool()?)),
        _ => return Err(DecodeError("unknown reply")),
    };
    Ok((cluster, reply))
}

/// The errors that these questions can have; another one is told in its words.
fn put_error(out: &mut Vec<u8>, error: &StoreError) {
    let (tag, id) = match error {
        StoreError::LeaseNotFound(id) => (1, *id),
        StoreError::NotLeader | StoreError::NoLeader => (2, 0),
        StoreError::Membership(MembershipError::LearnerNotReady) => (3, 0),
        StoreError::Membership(MembershipError::NotFound) => (4, 0),
        StoreError::Membership(MembershipError::NotLearner) => (5, 0),
        StoreError::Membership(MembershipError::NotEnoughStarted) => (6, 0),
        _ => (0, 0),
    };
    out.push(tag);
    put_i64(out, id);
    put_bytes(out, error.to_string().as_bytes());
}

fn error(r: &mut Reader) -> Result<StoreError, DecodeError> {
    let (tag, id, text) = (r.u8()?, r.i64()?, r.bytes()?);
    Ok(match tag {
        1 => StoreError::LeaseNotFound(id),
        // Leadership has moved meanwhile.
        2 => StoreError::NoLeader,
        3 => MembershipError::LearnerNotReady.into(),
        4 => MembershipError::NotFound.into(),
        5 => MembershipError::NotLearner.into(),
        6 => MembershipError::NotEnoughStarted.into(),
        _ => StoreError::Unavailable(String::from_utf8_lossy(&text).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use store_api::Member;

    #[test]
    fn questions_and_replies_come_back_as_they_went() {
        for q in [
            Question::KeepAlive(3, -5),
            Question::TimeToLive(0, 7, true),
            Question::Promote(u64::MAX),
            Question::Joining,
            Question::Hash(2, 9),
            Question::InSync(1, u64::MAX),
        ] {
            assert_eq!(question(put_question(&q).into()), Ok(q));
        }
        let keys = vec!["a".into(), "b".into()];
        let members = vec![Member { id: 4, name: "m".into(), is_learner: true, ..Default::default() }];
        for r in [
            Ok(Reply::KeepAlive(Lease { id: 4, ttl: 5 })),
            Ok(Reply::TimeToLive(LeaseStatus { id: 1, ttl: -1, granted_ttl: 60, keys })),
            Ok(Reply::Members(members.clone())),
            Ok(Reply::Joining(members, 4)),
            Ok(Reply::InSync(true)),
            Ok(Reply::Hash(HashKv { hash: u32::MAX, hash_revision: 3, compact_revision: 1, revision: 4 })),
            Err(StoreError::LeaseNotFound(9)),
            Err(StoreError::Membership(MembershipError::LearnerNotReady)),
        ] {
            assert_eq!(reply(put_reply(77, &r).into()), Ok((77, r)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            drop(question(bytes.clone().into()));
            drop(reply(bytes.clone().into()));
            drop(messages(bytes.into()));
        }
    }
}
