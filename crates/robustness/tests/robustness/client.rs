//! A client of one member at a time, which records what it asks and what becomes of it.

use std::{error::Error, time::Duration};

use checker::history::{
    Answer, Compare, Delete, Is, KeyValue, Keys, Outcome, Put, Range, Request, Response, Step, Target, Txn,
};
use etcd_proto::{
    etcdserverpb::{
        self as pb, compare::TargetUnion, kv_client::KvClient, lease_client::LeaseClient, request_op, response_op,
    },
    mvccpb,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::record::Recorder;

/// After this time a client gives up on an answer, and on a connection.
const PATIENCE: Duration = Duration::from_millis(1500);
const CONNECT_PATIENCE: Duration = Duration::from_millis(500);
/// Between a refusal and the next attempt elsewhere.
const BACKOFF: Duration = Duration::from_millis(30);

/// What etcd says when a request certainly has changed nothing and will not.
const REFUSALS: [&str; 8] = [
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: too many requests",
    "etcdserver: key is not provided",
    "etcdserver: duplicate key given in txn request",
];

pub fn channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).unwrap().connect_timeout(CONNECT_PATIENCE).connect_lazy()
}

pub struct Client {
    pub id: u32,
    urls: Vec<String>,
    at: usize,
    channel: Channel,
    pub recorder: Recorder,
    /// Reads ask no majority, and are recorded as if they had: a store that is wrong, for the test of the test.
    pub cheats: bool,
}

impl Client {
    /// Begins with the member of its own number.
    pub fn new(id: u32, urls: &[String], recorder: &Recorder) -> Self {
        let at = id as usize % urls.len();
        Client { id, at, channel: channel(&urls[at]), urls: urls.to_vec(), recorder: recorder.clone(), cheats: false }
    }

    /// Asks, and records how it went.
    pub async fn ask(&mut self, request: Request) -> Outcome {
        let invoked = self.recorder.now();
        let sent = match request.clone() {
            Request::Range(range) => Request::Range(Range { serializable: range.serializable || self.cheats, ..range }),
            other => other,
        };
        let answered = tokio::time::timeout(PATIENCE, send(&self.channel, &sent)).await;
        let (member, outcome) = match answered {
            Ok(Ok((header, answer))) => {
                let header = header.unwrap_or_default();
                (header.member_id, Outcome::Done(Response { revision: header.revision, answer }))
            }
            Ok(Err(status)) => (self.at as u64, failure(&status)),
            Err(_) => (self.at as u64, Outcome::Unknown(format!("no answer within {PATIENCE:?}"))),
        };
        self.recorder.operation(self.id, member, invoked, request, outcome.clone());
        if !matches!(outcome, Outcome::Done(_)) {
            // A new connection, in case that the old one leads nowhere, and to another member.
            self.at = (self.at + 1) % self.urls.len();
            self.channel = channel(&self.urls[self.at]);
            tokio::time::sleep(BACKOFF).await;
        }
        outcome
    }
}

fn failure(status: &Status) -> Outcome {
    let mut reason = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        reason.push_str(&format!(": {error}"));
        source = error.source();
    }
    // Without a connection nothing was sent.
    let unsent = status.code() == Code::Unavailable && reason.contains("tcp connect error");
    let refused = REFUSALS.iter().any(|text| status.message() == *text);
    if unsent || refused { Outcome::Refused(reason) } else { Outcome::Unknown(reason) }
}

type Answered = Result<(Option<pb::ResponseHeader>, Answer), Status>;

async fn send(channel: &Channel, request: &Request) -> Answered {
    let mut kv = KvClient::new(channel.clone());
    match request {
        Request::Range(range) => {
            let response = kv.range(range_request(range)).await?.into_inner();
            Ok((response.header, range_answer(response)))
        }
        Request::Put(put) => {
            let response = kv.put(put_request(put)).await?.into_inner();
            Ok((response.header, put_answer(response)))
        }
        Request::Delete(delete) => {
            let response = kv.delete_range(delete_request(delete)).await?.into_inner();
            Ok((response.header, delete_answer(response)))
        }
        Request::Txn(txn) => {
            let response = kv.txn(txn_request(txn)).await?.into_inner();
            let steps = response.responses.into_iter().filter_map(|op| op.response).map(step_answer).collect();
            Ok((response.header, Answer::Txn { succeeded: response.succeeded, steps }))
        }
        Request::Compact { revision } => {
            let request = pb::CompactionRequest { revision: *revision, physical: false };
            Ok((kv.compact(request).await?.into_inner().header, Answer::Done))
        }
        lease => send_lease(channel, lease).await,
    }
}

async fn send_lease(channel: &Channel, request: &Request) -> Answered {
    let mut leases = LeaseClient::new(channel.clone());
    match request {
        Request::LeaseGrant { lease, ttl } => {
            let request = pb::LeaseGrantRequest { ttl: *ttl, id: *lease };
            let response = leases.lease_grant(request).await?.into_inner();
            Ok((response.header, Answer::Lease { ttl: response.ttl }))
        }
        Request::LeaseRevoke { lease } => {
            let response = leases.lease_revoke(pb::LeaseRevokeRequest { id: *lease }).await?.into_inner();
            Ok((response.header, Answer::Done))
        }
        Request::LeaseKeepAlive { lease } => {
            let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id: *lease });
            let mut answers = leases.lease_keep_alive(once).await?.into_inner();
            let response = answers.message().await?.ok_or_else(|| Status::unknown("the stream ended"))?;
            Ok((response.header, Answer::Lease { ttl: response.ttl }))
        }
        other => Err(Status::internal(format!("{other} has nothing to do with leases"))),
    }
}

fn range_request(range: &Range) -> pb::RangeRequest {
    let Range { keys, revision, serializable, limit } = range;
    let (key, range_end) = bytes(keys);
    let (revision, serializable, limit) = (*revision, *serializable, *limit);
    pb::RangeRequest { key, range_end, revision, serializable, limit, ..pb::RangeRequest::default() }
}

fn put_request(put: &Put) -> pb::PutRequest {
    let (key, value) = (put.key.clone().into(), put.value.clone().into());
    pb::PutRequest { key, value, lease: put.lease, prev_kv: put.prev_kv, ..pb::PutRequest::default() }
}

fn delete_request(delete: &Delete) -> pb::DeleteRangeRequest {
    let (key, range_end) = bytes(&delete.keys);
    pb::DeleteRangeRequest { key, range_end, prev_kv: delete.prev_kv }
}

fn txn_request(txn: &Txn) -> pb::TxnRequest {
    let step = |step: &Step| {
        let request = match step {
            Step::Range(range) => request_op::Request::RequestRange(range_request(range)),
            Step::Put(put) => request_op::Request::RequestPut(put_request(put)),
            Step::Delete(delete) => request_op::Request::RequestDeleteRange(delete_request(delete)),
        };
        pb::RequestOp { request: Some(request) }
    };
    pb::TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: txn.success.iter().map(step).collect(),
        failure: txn.failure.iter().map(step).collect(),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget};
    let result = match compare.is {
        Is::Equal => CompareResult::Equal,
        Is::Greater => CompareResult::Greater,
        Is::Less => CompareResult::Less,
        Is::NotEqual => CompareResult::NotEqual,
    };
    let (target, union) = match &compare.target {
        Target::Version(version) => (CompareTarget::Version, TargetUnion::Version(*version)),
        Target::CreateRevision(revision) => (CompareTarget::Create, TargetUnion::CreateRevision(*revision)),
        Target::ModRevision(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(*revision)),
        Target::Lease(lease) => (CompareTarget::Lease, TargetUnion::Lease(*lease)),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: compare.key.clone().into(),
        target_union: Some(union),
        ..pb::Compare::default()
    }
}

fn step_answer(response: response_op::Response) -> Answer {
    match response {
        response_op::Response::ResponseRange(range) => range_answer(range),
        response_op::Response::ResponsePut(put) => put_answer(put),
        response_op::Response::ResponseDeleteRange(delete) => delete_answer(delete),
        response_op::Response::ResponseTxn(_) => unreachable!("the workload nests no transactions"),
    }
}

fn range_answer(response: pb::RangeResponse) -> Answer {
    Answer::Range { kvs: response.kvs.into_iter().map(key_value).collect(), count: response.count }
}

fn put_answer(response: pb::PutResponse) -> Answer {
    Answer::Put { prev: response.prev_kv.map(key_value) }
}

fn delete_answer(response: pb::DeleteRangeResponse) -> Answer {
    Answer::Delete { deleted: response.deleted, prev: response.prev_kvs.into_iter().map(key_value).collect() }
}

pub fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    KeyValue {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// etcd's key and range end.
pub fn bytes<B: From<Vec<u8>>>(keys: &Keys) -> (B, B) {
    (keys.key.clone().into_bytes().into(), keys.end.clone().into_bytes().into())
}
