//! Keeps a fixed number of unary calls in flight: each client sends its next request when the last one is answered.
//!
//! One thread does it all, because the server wants the other core. A call that fails ends the measurement.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};

use super::{
    h2::{Connection, Sink},
    histogram::Histogram,
    pool::Pool,
};
use crate::interrupt;

/// First bytes of each answer that a load gets to see.
pub const HEAD_BYTES: usize = 96;
/// What is in flight at the end of a measurement must be answered within this.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// A measurement that waits for something else than time ends after this.
const LONGEST: Duration = Duration::from_secs(300);

/// What the clients ask for.
pub trait Load {
    /// The method's path.
    fn path(&self) -> &'static str;
    /// Writes the client's next request; `false`: it has none any more.
    fn request(&mut self, client: usize, message: &mut Vec<u8>) -> bool;
    /// Checks an answer.
    fn answered(&mut self, client: usize, answer: &Answer) -> anyhow::Result<()>;
}

/// As much as is kept of an answer that succeeded.
pub struct Answer {
    head: [u8; HEAD_BYTES],
    kept: usize,
    length: usize,
}

impl Answer {
    /// The message's first bytes.
    pub fn message(&self) -> &[u8] {
        self.head[..self.kept].get(5..).unwrap_or_default()
    }

    /// Bytes of the message.
    pub fn length(&self) -> usize {
        self.length.saturating_sub(5)
    }
}

/// How long is measured.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    /// Goes before the measurement.
    pub warm_up: Duration,
    pub measured: Duration,
    /// Measuring goes on at least until this is set.
    pub until: Option<&'a AtomicBool>,
}

impl Span<'_> {
    /// Until the load has no more requests.
    pub const ALL: Span<'static> = Span { warm_up: Duration::ZERO, measured: LONGEST, until: None };

    fn over(&self, measured: Duration) -> bool {
        let awaited = self.until.is_some_and(|flag| !flag.load(Ordering::Acquire));
        (measured >= self.measured && !awaited) || measured >= LONGEST
    }
}

/// What was measured.
#[derive(Default)]
pub struct Outcome {
    pub operations: u64,
    pub seconds: f64,
    /// Microseconds of the server's processor time.
    pub cpu: u64,
    pub latency: Histogram,
}

impl Outcome {
    pub fn add(&mut self, other: &Outcome) {
        self.operations += other.operations;
        self.seconds += other.seconds;
        self.cpu += other.cpu;
        self.latency.add(&other.latency);
    }

    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    pub fn cpu_each(&self) -> f64 {
        self.cpu as f64 / self.operations as f64
    }
}

/// Runs the load; `cpu` reads the server's processor time so far, in microseconds.
pub fn run(
    pool: &mut Pool,
    load: &mut impl Load,
    clients: usize,
    span: Span<'_>,
    cpu: &dyn Fn() -> anyhow::Result<u64>,
) -> anyhow::Result<Outcome> {
    let mut clock = Stopwatch::new(span, cpu);
    clock.tick(clock.created)?;
    let mut slots: Vec<Slots> = pool.connections.iter().map(|_| Slots::default()).collect();
    let count = slots.len();
    (0..clients).for_each(|client| slots[client % count].idle.push(client));
    for (connection, slots) in pool.connections.iter_mut().zip(&mut slots) {
        slots.send(connection, load)?;
    }
    while slots.iter().any(Slots::is_busy) {
        interrupt::check()?;
        pool.wait()?;
        let ready = std::mem::take(&mut pool.ready);
        for index in &ready {
            let (connection, slots) = (&mut pool.connections[*index], &mut slots[*index]);
            connection.read(slots)?;
            let now = Instant::now();
            for call in slots.finished.drain(..) {
                load.answered(call.client, &call.answer)?;
                clock.answered(now - call.began);
                slots.idle.push(call.client);
            }
            if clock.open {
                slots.send(connection, load)?;
            }
        }
        pool.ready = ready;
        clock.tick(Instant::now())?;
        if !clock.open {
            slots.iter_mut().for_each(Slots::close);
        }
    }
    clock.finish()
}

/// Decides what counts: what is answered after the warm-up and before the end.
struct Stopwatch<'a> {
    span: Span<'a>,
    cpu: &'a dyn Fn() -> anyhow::Result<u64>,
    created: Instant,
    /// When measuring began, and the processor time then.
    began: Option<(Instant, u64)>,
    ended: Option<Instant>,
    /// Requests are still sent.
    open: bool,
    outcome: Outcome,
}

impl<'a> Stopwatch<'a> {
    fn new(span: Span<'a>, cpu: &'a dyn Fn() -> anyhow::Result<u64>) -> Self {
        let (created, outcome) = (Instant::now(), Outcome::default());
        Stopwatch { span, cpu, created, began: None, ended: None, open: true, outcome }
    }

    fn answered(&mut self, took: Duration) {
        if self.open && self.began.is_some() {
            self.outcome.operations += 1;
            self.outcome.latency.record(took);
        }
    }

    fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        match (self.began, self.ended) {
            (None, _) if now - self.created >= self.span.warm_up => self.began = Some((now, (self.cpu)()?)),
            (Some((began, _)), None) if self.span.over(now - began) => self.end(now)?,
            (_, Some(ended)) if now - ended > DRAIN_LIMIT => bail!("requests were not answered within 30 s"),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, now: Instant) -> anyhow::Result<()> {
        if let Some((began, cpu)) = self.began {
            (self.open, self.ended) = (false, Some(now));
            (self.outcome.seconds, self.outcome.cpu) = ((now - began).as_secs_f64(), (self.cpu)()? - cpu);
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Outcome> {
        if self.ended.is_none() {
            self.end(Instant::now())?;
        }
        ensure!(self.outcome.operations > 0, "nothing was answered while it was measured");
        Ok(self.outcome)
    }
}

/// One connection's clients.
#[derive(Default)]
struct Slots {
    idle: Vec<usize>,
    /// The client whose message waits for room in the server's window.
    stalled: Option<usize>,
    flying: Vec<Call>,
    finished: Vec<Call>,
    message: Vec<u8>,
}

struct Call {
    stream: u32,
    client: usize,
    began: Instant,
    answer: Answer,
}

impl Slots {
    /// Sends for every client that is idle, as far as the server's window goes.
    fn send(&mut self, connection: &mut Connection, load: &mut impl Load) -> anyhow::Result<()> {
        let now = Instant::now();
        while let Some((client, stalled)) = self.next() {
            if !stalled {
                self.message.clear();
                if !load.request(client, &mut self.message) {
                    continue;
                }
            }
            let Some(stream) = connection.begin(load.path(), &self.message, true)? else {
                self.stalled = Some(client);
                return Ok(());
            };
            let answer = Answer { head: [0; HEAD_BYTES], kept: 0, length: 0 };
            self.flying.push(Call { stream, client, began: now, answer });
        }
        Ok(())
    }

    fn next(&mut self) -> Option<(usize, bool)> {
        let stalled = self.stalled.take().map(|client| (client, true));
        stalled.or_else(|| self.idle.pop().map(|client| (client, false)))
    }

    fn is_busy(&self) -> bool {
        !self.flying.is_empty() || !self.idle.is_empty() || self.stalled.is_some()
    }

    /// Nothing more is sent.
    fn close(&mut self) {
        self.idle.clear();
        self.stalled = None;
    }
}

impl Sink for Slots {
    fn data(&mut self, stream: u32, bytes: &[u8]) -> anyhow::Result<()> {
        if let Some(call) = self.flying.iter_mut().find(|call| call.stream == stream) {
            let answer = &mut call.answer;
            let more = bytes.len().min(HEAD_BYTES - answer.kept);
            answer.head[answer.kept..answer.kept + more].copy_from_slice(&bytes[..more]);
            answer.kept += more;
            answer.length += bytes.len();
        }
        Ok(())
    }

    fn succeeded(&mut self, stream: u32) -> anyhow::Result<()> {
        if let Some(index) = self.flying.iter().position(|call| call.stream == stream) {
            self.finished.push(self.flying.remove(index));
        }
        Ok(())
    }
}
