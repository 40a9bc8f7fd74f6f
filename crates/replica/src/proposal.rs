//! What is proposed: requests with the numbers by which their proposers know the answers again, many to one entry of
//! the Raft log.
//!
//! ```text
//!   entry data = (id u64 · length u32 · request)*        (numbers little-endian)
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use mvcc::{
    Command,
    codec::{DecodeError, Reader, put_bytes, put_i64, put_u64},
};
use store_api::{Alarm, AlarmKind, Caller, Revision};

use crate::{
    notes::{put_revisions, revisions},
    shards::{ShardStep, Step},
};

/// Bytes before each request.
const HEAD: usize = 12;

/// What the state machine can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// On keys and leases. Nobody says that it is theirs: refused while authentication is on.
    Kv(Command),
    /// As [`Request::Kv`], of a caller, whose permission counts when it is applied.
    KvAs(Caller, Command),
    /// As [`Request::Kv`], of the cluster itself: a lease has ended, old revisions are compacted.
    Own(Command),
    /// On users and roles.
    Auth(auth::Command),
    AlarmRaise(Alarm),
    /// Member 0: whosever.
    AlarmDisarm(Alarm),
    /// A shard is on its way.
    Shard(ShardStep),
    /// Group 0: what the groups from 1 on had come to.
    Note(Vec<Revision>),
    /// A member says its name and where clients reach it.
    Attributes {
        member: u64,
        name: String,
        client_urls: Vec<String>,
    },
    /// A member will be reached at other addresses by its peers.
    PeerUrls {
        member: u64,
        urls: Vec<String>,
    },
}

impl From<Command> for Request {
    fn from(command: Command) -> Self {
        Request::Kv(command)
    }
}

impl Request {
    /// The request's bytes; the first says which it is, and those of a [`Command`] stand for themselves.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Request::Kv(command) => return command.encode(),
            Request::AlarmRaise(alarm) => put_alarm(&mut out, 128, alarm),
            Request::AlarmDisarm(alarm) => put_alarm(&mut out, 129, alarm),
            Request::Attributes { member, name, client_urls } => {
                out.push(130);
                put_u64(&mut out, *member);
                put_bytes(&mut out, name.as_bytes());
                put_strings(&mut out, client_urls);
            }
            Request::PeerUrls { member, urls } => {
                out.push(131);
                put_u64(&mut out, *member);
                put_strings(&mut out, urls);
            }
            Request::KvAs(caller, command) => {
                out.push(132);
                put_bytes(&mut out, caller.name.as_bytes());
                put_u64(&mut out, caller.revision);
                out.extend_from_slice(&command.encode());
            }
            Request::Own(command) => {
                out.push(133);
                out.extend_from_slice(&command.encode());
            }
            Request::Auth(command) => {
                out.push(134);
                command.encode(&mut out);
            }
            Request::Shard(step) => {
                out.push(135);
                step.encode(&mut out);
            }
            Request::Note(others) => {
                out.push(136);
                put_revisions(&mut out, others);
            }
        }
        out.into()
    }

    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.first().is_none_or(|tag| *tag < 128) {
            return Ok(Request::Kv(Command::decode(bytes)?));
        }
        let mut r = Reader::new(bytes);
        let request = match r.u8()? {
            128 => Request::AlarmRaise(alarm(&mut r)?),
            129 => Request::AlarmDisarm(alarm(&mut r)?),
            130 => Request::Attributes { member: r.u64()?, name: string(&mut r)?, client_urls: strings(&mut r)? },
            131 => Request::PeerUrls { member: r.u64()?, urls: strings(&mut r)? },
            132 => {
                let caller = Caller::new(string(&mut r)?, r.u64()?);
                return Ok(Request::KvAs(caller, Command::decode(r.rest())?));
            }
            133 => return Ok(Request::Own(Command::decode(r.rest())?)),
            134 => {
                let command = auth::Command::decode(&r.rest());
                return Ok(Request::Auth(command.map_err(|e| DecodeError(e.0))?));
            }
            135 => Request::Shard(ShardStep::decode(&mut r)?),
            136 => Request::Note(revisions(&mut r)?),
            _ => return Err(DecodeError("unknown request")),
        };
        if r.is_empty() { Ok(request) } else { Err(DecodeError("bytes after the request")) }
    }

    /// Whether the request can only give space back, or must be taken when there is none.
    pub fn frees_space(&self) -> bool {
        match self {
            Request::Kv(command) | Request::KvAs(_, command) | Request::Own(command) => command.frees_space(),
            Request::Shard(ShardStep { step: Step::Keys(..), .. }) => false,
            // To delete anything, one must be able to say who one is.
            _ => true,
        }
    }
}

fn put_alarm(out: &mut Vec<u8>, tag: u8, alarm: &Alarm) {
    out.push(tag);
    put_u64(out, alarm.member);
    out.push(alarm_code(alarm.kind));
}

fn alarm(r: &mut Reader) -> Result<Alarm, DecodeError> {
    let member = r.u64()?;
    Ok(Alarm { member, kind: alarm_kind(r.u8()?)? })
}

pub(crate) fn alarm_code(kind: AlarmKind) -> u8 {
    match kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    }
}

pub(crate) fn alarm_kind(code: u8) -> Result<AlarmKind, DecodeError> {
    match code {
        1 => Ok(AlarmKind::NoSpace),
        2 => Ok(AlarmKind::Corrupt),
        _ => Err(DecodeError("unknown alarm")),
    }
}

pub(crate) fn put_strings(out: &mut Vec<u8>, strings: &[String]) {
    put_i64(out, i64::try_from(strings.len()).expect("it is a list in memory"));
    strings.iter().for_each(|s| put_bytes(out, s.as_bytes()));
}

pub(crate) fn strings(r: &mut Reader) -> Result<Vec<String>, DecodeError> {
    let count = r.count()?;
    (0..count).map(|_| string(r)).collect()
}

pub(crate) fn string(r: &mut Reader) -> Result<String, DecodeError> {
    String::from_utf8(r.bytes()?.to_vec()).map_err(|_| DecodeError("text is not UTF-8"))
}

/// Requests on their way into one entry.
#[derive(Debug, Default)]
pub struct Batch(BytesMut);

impl Batch {
    pub fn push(&mut self, id: u64, request: &[u8]) {
        self.0.reserve(HEAD + request.len());
        self.0.put_u64_le(id);
        self.0.put_u32_le(u32::try_from(request.len()).expect("requests are bounded far below 4 GiB"));
        self.0.put_slice(request);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry's data; the batch is empty afterwards.
    pub fn take(&mut self) -> Bytes {
        self.0.split().freeze()
    }

    /// The requests of an entry, each with its number.
    pub fn read(mut data: Bytes) -> impl Iterator<Item = Result<(u64, Bytes), DecodeError>> {
        std::iter::from_fn(move || {
            if data.is_empty() {
                return None;
            }
            if data.len() < HEAD {
                data.clear();
                return Some(Err(DecodeError("unexpected end")));
            }
            let head = data.split_to(HEAD);
            let id = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
            let length = u32::from_le_bytes(head[8..].try_into().expect("four bytes")) as usize;
            if length > data.len() {
                data.clear();
                return Some(Err(DecodeError("unexpected end")));
            }
            Some(Ok((id, data.split_to(length))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shards::Ticket;
    use proptest::prelude::*;
    use store_api::{AuthChange, KeyValue, PutRequest};

    #[test]
    fn requests_come_back_as_they_went() {
        let check = |request: Request| assert_eq!(Request::decode(request.encode()), Ok(request));
        check(Request::Kv(Command::Compact(7)));
        check(Request::Own(Command::LeaseRevoke { id: 9 }));
        check(Request::Own(Command::LeaseCheckpoint(vec![(9, 400), (-7, 0)])));
        let put = Command::Put(PutRequest { key: "a".into(), value: "b".into(), ..Default::default() });
        check(Request::KvAs(Caller::new("alice", 7), put));
        let change = AuthChange::UserAdd { name: "bob".into(), hash: "x".into(), no_password: false };
        check(Request::Auth(auth::Command::new(Some(Caller::new("root", 3)), change)));
        check(Request::Auth(auth::Command::authenticate("bob", "letters".into())));
        check(Request::AlarmRaise(Alarm { member: 5, kind: AlarmKind::NoSpace }));
        check(Request::AlarmDisarm(Alarm { member: 0, kind: AlarmKind::Corrupt }));
        let (name, client_urls) = ("a".to_owned(), vec!["http://a:1".to_owned(), "unix:b".to_owned()]);
        check(Request::Attributes { member: 9, name, client_urls: client_urls.clone() });
        check(Request::PeerUrls { member: 9, urls: client_urls });
        check(Request::Note(vec![7, 1 << 40]));
        let ticket = Ticket { plan: 7, attempt: u64::MAX };
        let kv = KeyValue {
            key: "/a/b".into(),
            value: "c".into(),
            create_revision: 3,
            version: 2,
            lease: -9,
            ..Default::default()
        };
        for step in [
            Step::Plan { to: 3 },
            Step::Route { plan: 300 },
            Step::Done { plan: 1 },
            Step::Freeze { plan: 9 },
            Step::Release(ticket, 2),
            Step::Sweep(ticket),
            Step::Receive(ticket, 1 << 40),
            Step::Keys(ticket, 5, vec![(-9, 60)], vec![kv]),
            Step::Open(ticket, 1 << 41),
        ] {
            check(Request::Shard(ShardStep { prefix: "/a/".into(), step }));
        }
    }

    proptest! {
        #[test]
        fn batches_keep_their_requests(requests: Vec<(u64, Vec<u8>)>) {
            let mut batch = Batch::default();
            requests.iter().for_each(|(id, bytes)| batch.push(*id, bytes));
            let read: Result<Vec<_>, _> = Batch::read(batch.take()).collect();
            let read: Vec<_> = read.unwrap().into_iter().map(|(id, bytes)| (id, bytes.to_vec())).collect();
            prop_assert_eq!(read, requests);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            Batch::read(bytes.clone().into()).for_each(drop);
            drop(Request::decode(bytes.into()));
        }
    }
}
