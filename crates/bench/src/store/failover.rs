//! The leader is killed while others write: how long nothing is acknowledged.
//!
//! Writes go to the two members that stay, one every few milliseconds whether the last ones were answered or not: a
//! write that was lost with the leader must not hold up the measurement. Those that fail are not counted.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    control::Control,
    h2::{Connection, Sink},
    loads::{Random, Values, key},
    server::Cluster,
    wire,
};
use crate::interrupt;

/// Between two writes to one member.
const PACE: Duration = Duration::from_millis(5);
/// Writes go well so long before the leader is killed, and again until the measurement ends.
const CALM: Duration = Duration::from_millis(1500);
/// Nothing is waited for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kills the leader of three, measures, and brings it back.
pub fn longest_gap(cluster: &mut Cluster) -> anyhow::Result<Duration> {
    let leader = leader(cluster)?;
    let addresses = cluster.addresses();
    let others = addresses.iter().enumerate().filter(|(index, _)| *index != leader).map(|(_, address)| *address);
    let mut writers = others.map(Writer::open).collect::<anyhow::Result<Vec<_>>>()?;
    let mut acknowledged = vec![Instant::now()];
    write(&mut writers, &mut acknowledged, CALM)?;
    ensure!(acknowledged.len() > 100, "writes were not acknowledged before the leader was killed");
    cluster.kill(leader)?;
    let killed = Instant::now();
    loop {
        write(&mut writers, &mut acknowledged, CALM / 10)?;
        // It is over when the last stretch has had no gap worth the name, for as long as it was calm before.
        let calm = acknowledged.iter().rev().take_while(|at| at.elapsed() < CALM).count();
        let back = acknowledged.last().is_some_and(|last| *last > killed + CALM);
        if back && calm as u128 > CALM.as_millis() / PACE.as_millis() {
            break;
        }
        ensure!(killed.elapsed() < PATIENCE, "no writes are acknowledged {PATIENCE:?} after the leader was killed");
    }
    let gap = acknowledged.windows(2).map(|pair| pair[1] - pair[0]).max().context("no writes")?;
    cluster.start_again(leader)?;
    Ok(gap)
}

/// Which member leads, once all agree.
fn leader(cluster: &Cluster) -> anyhow::Result<usize> {
    let began = Instant::now();
    loop {
        interrupt::check()?;
        let mut statuses = Vec::new();
        for address in cluster.addresses() {
            let status = Control::open(address, Duration::from_secs(2)).and_then(|mut control| control.status());
            statuses.extend(status.ok());
        }
        let ids: Vec<u64> = statuses.iter().filter_map(|s| Some(s.header.as_ref()?.member_id)).collect();
        let leaders: Vec<u64> = statuses.iter().map(|status| status.leader).collect();
        let agreed = ids.len() == cluster.addresses().len() && leaders.iter().all(|leader| *leader == leaders[0]);
        if let Some(index) = ids.iter().position(|id| agreed && *id == leaders[0]) {
            return Ok(index);
        }
        ensure!(began.elapsed() < PATIENCE, "the members do not agree on a leader");
        std::thread::sleep(PACE);
    }
}

/// Writes at the pace for so long, and notes each acknowledgement.
fn write(writers: &mut [Writer], acknowledged: &mut Vec<Instant>, length: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < length {
        interrupt::check()?;
        for writer in &mut *writers {
            let count = writer.step()?;
            acknowledged.extend((0..count).map(|_| Instant::now()));
        }
        std::thread::sleep(PACE / 5);
    }
    Ok(())
}

struct Writer {
    connection: Connection,
    answers: Answers,
    values: Values,
    random: Random,
    next: Instant,
}

impl Writer {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let connection = Connection::open(address, None)?;
        let (values, random) = (Values::new(), Random::new(u64::from(address.port())));
        Ok(Writer { connection, answers: Answers::default(), values, random, next: Instant::now() })
    }

    /// Sends if it is time, reads what is there, and says how many writes were acknowledged.
    fn step(&mut self) -> anyhow::Result<usize> {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + PACE;
            let mut message = Vec::new();
            let offset = self.values.any(&mut self.random);
            wire::put(&key(b"gap1", self.random.below(1000)), self.values.at(offset), &mut message);
            self.connection.begin(wire::PUT, &message, true)?;
        }
        self.connection.flush()?;
        self.connection.read(&mut self.answers)?;
        Ok(std::mem::take(&mut self.answers.acknowledged))
    }
}

#[derive(Default)]
struct Answers {
    acknowledged: usize,
}

impl Sink for Answers {
    fn data(&mut self, _stream: u32, _bytes: &[u8]) -> anyhow::Result<()> {
        Ok(())
    }

    fn succeeded(&mut self, _stream: u32) -> anyhow::Result<()> {
        self.acknowledged += 1;
        Ok(())
    }

    fn failed(&mut self, _stream: u32, _why: String) -> anyhow::Result<()> {
        Ok(())
    }
}
