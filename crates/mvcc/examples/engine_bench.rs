//! What the engine costs at a million keys: `cargo run -p mvcc --release --example engine_bench [keys] [parts]`.
//! The parts are write, read, restart, compact and watch; all of them if none is named.
//!
//! Prints memory (the whole process, as the kernel counts it), the time of a write, a read, a range and a restart,
//! and the longest time that one step of trimming or of a snapshot would hold a lock. Knows no disk and no network:
//! the figures are the engine's own. Times are those of the processor in this thread, so that what else runs on the
//! machine does not count, except by the caches that it takes.

use std::{hint::black_box, time::Duration};

use bytes::{Bytes, BytesMut};
use mvcc::{Command, HashQuery, KeyRange, Loader, Replay, SnapshotReader, State, WatchIndex};
use nix::time::{ClockId, clock_gettime};
use store_api::{DeleteRangeRequest, PutRequest, RangeRequest};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 256;
/// Commands whose bytes share one buffer, as the log's entries do.
const BATCH: u64 = 1000;
/// Bytes and keys of a snapshot's portion.
const PORTION: (usize, usize) = (64 << 10, 512);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let keys: u64 = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let parts: Vec<_> = arguments.collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    println!("{:<44} {:>8.1} MB resident", "memory at the start", resident() as f64 / 1e6);
    let mut state = fill(keys);
    if wanted("read") {
        read(&state, keys);
    }
    if wanted("write") {
        write(&mut state, keys);
        state = fill(keys);
    }
    if wanted("restart") {
        state = restart(state, keys);
    }
    if wanted("compact") {
        compact(&mut state, keys);
    }
    drop(state);
    if wanted("watch") {
        match_watchers();
    }
}

/// The output function of splitmix64: the same numbers in every run.
fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 26 bytes, in no order.
fn key(n: u64) -> String {
    format!("/registry/items/{:010x}", scramble(n) >> 24)
}

fn put(batch: &mut BytesMut, n: u64, salt: u64) -> Command {
    batch.extend_from_slice(key(n).as_bytes());
    let key = batch.split().freeze();
    for i in 0..VALUE_BYTES as u64 / 8 {
        batch.extend_from_slice(&scramble(salt.wrapping_add(n * 64 + i)).to_le_bytes());
    }
    Command::Put(PutRequest { key, value: batch.split().freeze(), ..Default::default() })
}

/// Applies puts of the numbered keys; returns the time in it, and the longest single one.
fn puts(state: &mut State, numbers: impl Iterator<Item = u64>, salt: u64) -> (Duration, u64) {
    let (mut took, mut count, mut numbers) = (Duration::ZERO, 0, numbers.peekable());
    while numbers.peek().is_some() {
        let mut buffer = BytesMut::with_capacity(BATCH as usize * (VALUE_BYTES + 32));
        let batch: Vec<_> = numbers.by_ref().take(BATCH as usize).map(|n| put(&mut buffer, n, salt)).collect();
        count += batch.len() as u64;
        let start = now();
        for command in batch {
            drop(black_box(state.apply(command)));
        }
        took += now() - start;
    }
    (took, count)
}

fn told(what: &str, took: Duration, count: u64) {
    println!("{what:<44} {:>8.3} us each", took.as_secs_f64() * 1e6 / count as f64);
}

/// Processor time of this thread.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock").into()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn memory(what: &str, state: &State, keys: u64) {
    let resident = resident();
    println!(
        "{what:<44} {:>8.1} MB resident, {:.0} bytes a key, {:.1} MB counted, {:.1} MB held",
        resident as f64 / 1e6,
        resident as f64 / keys as f64,
        state.bytes() as f64 / 1e6,
        state.held_bytes() as f64 / 1e6
    );
}

fn fill(keys: u64) -> State {
    let mut state = State::default();
    let (took, count) = puts(&mut state, 0..keys, 1);
    told("put, new keys, while the store grows", took, count);
    memory("memory with one revision a key", &state, keys);
    state
}

fn write(state: &mut State, keys: u64) {
    let some = keys / 5;
    let (took, count) = puts(state, keys..keys + some, 1);
    told("put, new keys, full store", took, count);
    let (took, count) = puts(state, (0..some).map(|n| scramble(n) % keys), 2);
    told("put, keys that are there, full store", took, count);
    let deletes: Vec<_> = (0..some).map(|n| DeleteRangeRequest { key: key(n).into(), ..Default::default() }).collect();
    let start = now();
    for delete in deletes {
        drop(black_box(state.apply(Command::DeleteRange(delete))));
    }
    told("delete", now() - start, some);
}

fn read(state: &State, keys: u64) {
    let some = keys / 2;
    let requests: Vec<_> = (0..some).map(|n| RangeRequest::key(key(scramble(n) % keys))).collect();
    let start = now();
    for request in requests {
        assert_eq!(black_box(state.range(request)).map(|r| r.kvs.len()), Ok(1));
    }
    told("get", now() - start, some);
    let mut sorted: Vec<_> = (0..keys).map(key).collect();
    sorted.sort_unstable();
    let starts = (0..1000).map(|n| scramble(n) as usize % (sorted.len() - 1000));
    let requests: Vec<_> = starts
        .map(|n| RangeRequest {
            key: sorted[n].clone().into(),
            range_end: sorted[n + 1000].clone().into(),
            ..Default::default()
        })
        .collect();
    let start = now();
    for request in requests {
        assert_eq!(black_box(state.range(request)).map(|r| r.kvs.len()), Ok(1000));
    }
    told("range of 1,000 keys", now() - start, 1000);
    let page = RangeRequest { limit: 500, ..everything() };
    let start = now();
    for _ in 0..10 {
        assert_eq!(black_box(state.range(page.clone())).map(|r| r.count), Ok(keys as i64));
    }
    told("first 500 of all keys, with their count", now() - start, 10);
}

fn everything() -> RangeRequest {
    RangeRequest { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), ..Default::default() }
}

/// Writes a snapshot and builds the state anew from it.
fn restart(state: State, keys: u64) -> State {
    let mut portions: Vec<Bytes> = Vec::new();
    let mut reader = SnapshotReader::new(state.cut());
    let mut steps = Steps::default();
    loop {
        let mut out = Vec::with_capacity(PORTION.0 + PORTION.0 / 4);
        let more = steps.time(|| reader.next(&state, &mut out, PORTION.0, PORTION.1));
        portions.push(out.into());
        if !more {
            break;
        }
    }
    reader.finish();
    steps.print(&format!("snapshot, portions of {} KiB", PORTION.0 >> 10));
    let mut query = HashQuery::new(&state, 0).expect("the newest revision can be read");
    let mut steps = Steps::default();
    while !steps.time(|| query.step(&state, PORTION.1)) {}
    steps.print(&format!("hash, {} keys a step", PORTION.1));
    let mut replay = Replay::new(KeyRange::new(&Bytes::from_static(&[0]), &Bytes::from_static(&[0])), 2);
    let mut steps = Steps::default();
    while replay.next_revision() <= state.revision() {
        drop(steps.time(|| replay.step(&state, PORTION.1)));
    }
    steps.print(&format!("replay of all, {} writes a step", PORTION.1));
    let hash = query.finish().hash;
    drop(state);
    let start = now();
    let mut loader = Loader::default();
    for portion in portions.drain(..) {
        loader.feed(portion).expect("it was written just now");
    }
    let state = loader.finish().expect("it was written just now");
    println!("{:<44} {:>8.3} s", "restart from the snapshot", (now() - start).as_secs_f64());
    drop(portions);
    memory("memory after the restart", &state, keys);
    let mut query = HashQuery::new(&state, 0).expect("the newest revision can be read");
    while !query.step(&state, 4096) {}
    assert_eq!(query.finish().hash, hash);
    state
}

/// Writes every key anew, compacts, and trims in steps of several sizes while puts go on.
fn compact(state: &mut State, keys: u64) {
    for (salt, step) in (3..).zip([32, 64, 128, 256]) {
        puts(state, (0..keys).map(|n| scramble(n ^ salt) % keys), salt);
        memory("memory before compaction", state, keys);
        let now = state.revision();
        state.apply(Command::Compact(now)).response.expect("the revision is there and newer");
        let (mut steps, mut writes, mut n) = (Steps::default(), Steps::default(), 0);
        while state.needs_trim() {
            steps.time(|| state.trim(step));
            let mut buffer = BytesMut::with_capacity(VALUE_BYTES + 32);
            let command = put(&mut buffer, scramble(n) % keys, salt + 100);
            writes.time(|| drop(black_box(state.apply(command))));
            n += 1;
        }
        steps.print(&format!("trim, {step} writes a step"));
        writes.print("put in between");
        memory("memory after compaction", state, keys);
        let mut steps = Steps::default();
        while steps.time(|| state.tidy(step)) {}
        steps.print(&format!("tidy, {step} records a step"));
        memory("memory after tidying", state, keys);
    }
}

/// The durations of many steps.
#[derive(Default)]
struct Steps(Vec<Duration>);

impl Steps {
    fn time<T>(&mut self, step: impl FnOnce() -> T) -> T {
        let start = now();
        let out = step();
        self.0.push(now() - start);
        out
    }

    fn print(mut self, what: &str) {
        self.0.sort_unstable();
        let at = |part: usize| self.0.get(self.0.len() * part / 1000).map_or(0.0, |d| d.as_secs_f64() * 1e6);
        let last = self.0.last().map_or(0.0, |d| d.as_secs_f64() * 1e6);
        let total: Duration = self.0.iter().sum();
        println!(
            "{what:<44} {:>8} steps, p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, longest {last:.1} us, all {:.3} s",
            self.0.len(),
            at(500),
            at(990),
            at(999),
            total.as_secs_f64()
        );
    }
}

/// The key and range end of a numbered watcher.
type Shape<'a> = &'a dyn Fn(u64) -> (Bytes, Bytes);

/// The cost of finding the watchers of a key.
fn match_watchers() {
    for count in [1000u64, 100_000] {
        let one = |n: u64| (Bytes::from(key(n)), Bytes::new());
        let prefix = |_| (Bytes::from_static(b"/registry/items/"), Bytes::from_static(b"/registry/items0"));
        let part = |n: u64| (Bytes::from(key(n)), Bytes::from(format!("{}~", key(n))));
        let same = |_| one(7);
        let shapes: [(&str, Shape<'_>); 4] =
            [("of one key", &same), ("of one prefix", &prefix), ("of a key each", &one), ("of a range each", &part)];
        for (what, shape) in shapes {
            let mut index = WatchIndex::default();
            let start = now();
            for n in 0..count {
                let (start, end) = shape(n);
                index.insert(&KeyRange::new(&start, &end), n);
            }
            let added = now() - start;
            let keys: Vec<_> = (0..1000).map(|n| if what == "of one key" { key(7) } else { key(n) }).collect();
            let (mut found, start) = (0u64, now());
            keys.iter().for_each(|key| index.matching(key.as_bytes(), |n| found += 1 + (n >> 63)));
            let took = now() - start;
            let start = now();
            for n in 0..count.min(10_000) {
                let (start, end) = shape(n);
                index.remove(&KeyRange::new(&start, &end), n);
            }
            let removed = now() - start;
            println!(
                "{count:>7} watchers {what:<28} {:>8.3} us a key, {:.4} us a match, {:.2} us to add, {:.2} us to remove",
                took.as_secs_f64() * 1e6 / keys.len() as f64,
                took.as_secs_f64() * 1e6 / found.max(1) as f64,
                added.as_secs_f64() * 1e6 / count as f64,
                removed.as_secs_f64() * 1e6 / count.min(10_000) as f64
            );
        }
    }
}
