//! One key, a thousand watchers: how many events per second reach them, and what one costs the server.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};

use super::{
    drive::{Outcome, Span},
    h2::Sink,
    loads::{Random, Values, key},
    pool::Pool,
    wire,
};
use crate::interrupt;

/// Connections, each with one stream that carries an equal share of the watches.
pub const CONNECTIONS: usize = 10;
/// Writes whose events are still on their way. With more, a server may fall behind and deliver in bundles.
const AHEAD: u64 = 16;
/// All that is outstanding must arrive within this.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(
    addresses: &[SocketAddr],
    watchers: usize,
    span: Span<'_>,
    cpu: &dyn Fn() -> anyhow::Result<u64>,
) -> anyhow::Result<Outcome> {
    let mut fan = Fan::open(addresses, watchers)?;
    let created = Instant::now();
    let (mut began, mut ended) = (None::<(Instant, u64, u64)>, None);
    let mut outcome = Outcome::default();
    loop {
        interrupt::check()?;
        if ended.is_none() {
            fan.write()?;
        }
        fan.read()?;
        let (now, events) = (Instant::now(), fan.events());
        match (began, ended) {
            (None, _) if now - created >= span.warm_up => began = Some((now, events, cpu()?)),
            (Some((start, before, spent)), None) if now - start >= span.measured => {
                ended = Some(now);
                outcome.operations = events - before;
                outcome.seconds = (now - start).as_secs_f64();
                outcome.cpu = cpu()? - spent;
            }
            (_, Some(ended)) => {
                if events == fan.written * watchers as u64 {
                    fan.verify(watchers)?;
                    return Ok(outcome);
                }
                ensure!(now - ended < PATIENCE, "only {events} events came for {} writes", fan.written);
            }
            _ => {}
        }
    }
}

struct Fan {
    /// The watchers' connections, and behind them the writer's.
    pool: Pool,
    watches: Vec<Watches>,
    writer: Writer,
    written: u64,
    values: Values,
    random: Random,
    message: Vec<u8>,
}

impl Fan {
    fn open(addresses: &[SocketAddr], watchers: usize) -> anyhow::Result<Self> {
        let mut fan = Fan {
            pool: Pool::open(addresses, CONNECTIONS + 1)?,
            watches: (0..CONNECTIONS).map(|_| Watches::default()).collect(),
            writer: Writer::default(),
            written: 0,
            values: Values::new(),
            random: Random::new(watchers as u64),
            message: Vec::new(),
        };
        wire::watch_create(&key(b"fan1", 0), &mut fan.message);
        for (index, connection) in fan.pool.connections[..CONNECTIONS].iter_mut().enumerate() {
            let share = watchers / CONNECTIONS + usize::from(index < watchers % CONNECTIONS);
            let stream = connection.begin(wire::WATCH, &fan.message, false)?;
            for _ in 1..share {
                connection.more(stream.unwrap_or_default(), &fan.message)?;
            }
        }
        let began = Instant::now();
        while fan.watches.iter().map(|watches| watches.created).sum::<usize>() < watchers {
            interrupt::check()?;
            fan.read()?;
            ensure!(began.elapsed() < PATIENCE, "the watches were not created");
        }
        Ok(fan)
    }

    fn events(&self) -> u64 {
        self.watches.iter().map(|watches| watches.total).sum()
    }

    /// Writes while not too many events are outstanding.
    fn write(&mut self) -> anyhow::Result<()> {
        let watchers: usize = self.watches.iter().map(|watches| watches.created).sum();
        while self.written < self.events() / watchers as u64 + AHEAD {
            let offset = self.values.any(&mut self.random);
            self.message.clear();
            wire::put(&key(b"fan1", 0), self.values.at(offset), &mut self.message);
            let connection = &mut self.pool.connections[CONNECTIONS];
            if connection.begin(wire::PUT, &self.message, true)?.is_none() {
                return Ok(());
            }
            self.written += 1;
        }
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<()> {
        self.pool.wait()?;
        for index in std::mem::take(&mut self.pool.ready) {
            let connection = &mut self.pool.connections[index];
            match self.watches.get_mut(index) {
                Some(watches) => connection.read(watches)?,
                None => connection.read(&mut self.writer)?,
            };
        }
        Ok(())
    }

    /// Each watcher has had each write, once.
    fn verify(&self, watchers: usize) -> anyhow::Result<()> {
        let counts: Vec<u64> = self.watches.iter().flat_map(|watches| watches.events.iter().copied()).collect();
        let wrong = counts.iter().filter(|count| **count != self.written).count();
        ensure!(counts.len() == watchers && wrong == 0, "{wrong} watchers have missed events or had one twice");
        Ok(())
    }
}

/// Counts the events of one stream's watches.
#[derive(Default)]
struct Watches {
    /// The part of a message that has come so far.
    pending: Vec<u8>,
    created: usize,
    events: Vec<u64>,
    total: u64,
}

impl Watches {
    /// Reads whole messages; returns how many bytes they took.
    fn messages(&mut self, bytes: &[u8]) -> anyhow::Result<usize> {
        let mut at = 0;
        while let Some(prefix) = bytes.get(at..at + 5) {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            let Some(message) = bytes.get(at + 5..at + 5 + length) else { break };
            at += 5 + length;
            let watched = wire::watched(message)?;
            ensure!(!watched.canceled, "a watch was cancelled");
            let id = watched.watch_id as usize;
            if watched.created {
                self.created += 1;
                ensure!(id < 1 << 20, "watch id {id}");
                self.events.resize(self.events.len().max(id + 1), 0);
            }
            match self.events.get_mut(id) {
                Some(count) => *count += watched.events,
                None => bail!("events for a watch that was not created"),
            }
            self.total += watched.events;
        }
        Ok(at)
    }
}

impl Sink for Watches {
    fn data(&mut self, _stream: u32, bytes: &[u8]) -> anyhow::Result<()> {
        if self.pending.is_empty() {
            let read = self.messages(bytes)?;
            self.pending.extend_from_slice(&bytes[read..]);
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let read = self.messages(&pending)?;
        pending.drain(..read);
        self.pending = pending;
        Ok(())
    }

    fn succeeded(&mut self, _stream: u32) -> anyhow::Result<()> {
        bail!("a watch stream has ended")
    }
}

/// The writer's answers only have to be good ones.
#[derive(Default)]
struct Writer {
    acknowledged: u64,
}

impl Sink for Writer {
    fn data(&mut self, _stream: u32, _bytes: &[u8]) -> anyhow::Result<()> {
        Ok(())
    }

    fn succeeded(&mut self, _stream: u32) -> anyhow::Result<()> {
        self.acknowledged += 1;
        Ok(())
    }
}
