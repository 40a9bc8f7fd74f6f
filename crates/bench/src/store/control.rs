//! Single calls with the generated types, for what is not timed: reading back, status, compaction.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use etcd_proto::etcdserverpb as pb;
use prost::Message;

use super::{
    h2::{Connection, Sink},
    wire,
};
use crate::interrupt;

/// How long one read waits before the call looks whether it may go on.
const TICK: Duration = Duration::from_millis(50);

pub struct Control {
    connection: Connection,
    patience: Duration,
}

impl Control {
    /// Calls of this connection fail when they are not answered within `patience`.
    pub fn open(address: SocketAddr, patience: Duration) -> anyhow::Result<Self> {
        Ok(Control { connection: Connection::open(address, Some(TICK.min(patience)))?, patience })
    }

    pub fn call<R: Message + Default>(&mut self, path: &'static str, request: &impl Message) -> anyhow::Result<R> {
        let stream = self.connection.begin(path, &request.encode_to_vec(), true)?.context("no room for a request")?;
        let mut answer = Whole { stream, bytes: Vec::new(), outcome: None };
        let began = Instant::now();
        while answer.outcome.is_none() {
            interrupt::check()?;
            self.connection.flush()?;
            self.connection.read(&mut answer)?;
            if began.elapsed() > self.patience {
                bail!("{path} was not answered within {:?}", self.patience);
            }
        }
        match answer.outcome {
            Some(Err(why)) => bail!("{path}: {why}"),
            _ => Ok(R::decode(answer.bytes.get(5..).context("an answer without a message")?)?),
        }
    }

    /// The value of a key, read linearizably.
    pub fn get(&mut self, key: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let request = pb::RangeRequest { key: key.to_vec().into(), ..Default::default() };
        let response: pb::RangeResponse = self.call(wire::RANGE, &request)?;
        Ok(response.kvs.first().map(|kv| kv.value.to_vec()))
    }

    /// How many keys there are.
    pub fn count(&mut self) -> anyhow::Result<i64> {
        let (key, range_end) = (vec![0].into(), vec![0].into());
        let request = pb::RangeRequest { key, range_end, count_only: true, ..Default::default() };
        Ok(self.call::<pb::RangeResponse>(wire::RANGE, &request)?.count)
    }

    pub fn status(&mut self) -> anyhow::Result<pb::StatusResponse> {
        self.call(wire::STATUS, &pb::StatusRequest {})
    }

    /// Forgets what is older than the newest revision; answered when it is done.
    pub fn compact(&mut self) -> anyhow::Result<()> {
        let revision = self.status()?.header.context("a status without a header")?.revision;
        let request = pb::CompactionRequest { revision, physical: true };
        self.call::<pb::CompactionResponse>(wire::COMPACT, &request).map(|_| ())
    }
}

/// Takes in the whole answer to one call.
struct Whole {
    stream: u32,
    bytes: Vec<u8>,
    outcome: Option<Result<(), String>>,
}

impl Sink for Whole {
    fn data(&mut self, stream: u32, bytes: &[u8]) -> anyhow::Result<()> {
        if stream == self.stream {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn succeeded(&mut self, stream: u32) -> anyhow::Result<()> {
        if stream == self.stream {
            self.outcome = Some(Ok(()));
        }
        Ok(())
    }

    fn failed(&mut self, stream: u32, why: String) -> anyhow::Result<()> {
        if stream == self.stream {
            self.outcome = Some(Err(why));
        }
        Ok(())
    }
}
