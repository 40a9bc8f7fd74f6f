//! What the state holds is what it says, and memory that compaction frees comes back.

use bytes::Bytes;
use mvcc::{Command, HashQuery, Loader, Replay, SnapshotReader, State};
use proptest::prelude::*;
use store_api::*;

/// Blocks, pages and nodes that are used in part: what a store holds at least, however little is in it.
const SPARE: u64 = 256 << 10;

/// Numbers that look random and are the same in every run.
fn scramble(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 20
}

fn put(state: &mut State, key: u64, value: usize, lease: LeaseId) {
    let key = format!("/registry/{}/{key:08x}", key % 7).into();
    let put = PutRequest { key, value: vec![key_byte(value); value].into(), lease, ..Default::default() };
    state.apply(Command::Put(put)).response.unwrap();
}

fn key_byte(value: usize) -> u8 {
    value as u8
}

fn snapshot(state: &State) -> Vec<u8> {
    let (mut reader, mut out) = (SnapshotReader::new(state.cut()), Vec::new());
    while reader.next(state, &mut out, usize::MAX, 1000) {}
    out
}

fn restored(state: &State) -> State {
    let mut loader = Loader::default();
    loader.feed(snapshot(state).into()).unwrap();
    loader.finish().unwrap()
}

fn hash(state: &State) -> u32 {
    let mut query = HashQuery::new(state, 0).unwrap();
    while !query.step(state, 1000) {}
    query.finish().hash
}

fn events(state: &State, start: Revision) -> Vec<Event> {
    let all = mvcc::KeyRange::new(&Bytes::from_static(b"/"), &Bytes::from_static(b"0"));
    let (mut replay, mut events) = (Replay::new(all, start), Vec::new());
    while replay.next_revision() <= state.revision() {
        events.extend(replay.step(state, 1000).unwrap());
    }
    events
}

/// That the count is within a tenth of what is held.
fn check_count(state: &State, what: &str) {
    let (counted, held) = (state.bytes(), state.held_bytes());
    let within = counted <= held + held / 10 && held <= counted + counted / 10 + SPARE;
    assert!(within, "{what}: {counted} bytes counted, {held} held");
}

#[test]
fn the_count_is_what_is_held() {
    for (what, value) in [("small", 20), ("usual", 256), ("large", 3000), ("kept beside", 20_000)] {
        let mut state = State::default();
        let keys = (4 << 20) / (value as u64 + 100);
        (0..keys).for_each(|n| put(&mut state, scramble(n), value + n as usize % 9, 0));
        check_count(&state, what);
        check_count(&restored(&state), what);
        (0..keys / 4).for_each(|n| put(&mut state, scramble(n), value, 0));
        check_count(&state, what);
        check_count(&restored(&state), what);
        assert_eq!(state.bytes(), restored(&state).bytes());
    }
}

#[test]
fn what_compaction_frees_is_given_back() {
    let mut state = State::default();
    for id in 1..4 {
        state.apply(Command::LeaseGrant { id, ttl: 9 }).response.unwrap();
    }
    let keys = 12_000;
    for round in 0..3u64 {
        (0..keys)
            .for_each(|n| put(&mut state, scramble(scramble(n + round) % keys), 256 + round as usize, (n % 4) as i64));
        let now = state.revision() - 100;
        state.apply(Command::Compact(now)).response.unwrap();
        while state.needs_trim() {
            state.trim(100);
        }
        let before = (snapshot(&state), hash(&state), events(&state, now), state.lease_keys(3));
        while state.tidy(50) {}
        assert!(
            before == (snapshot(&state), hash(&state), events(&state, now), state.lease_keys(3)),
            "moving changed something"
        );
        let (counted, held) = (state.bytes(), state.held_bytes());
        assert!(held < counted * 3 / 2 + (2 << 20), "round {round}: {counted} bytes counted, {held} held");
    }
    let all = DeleteRangeRequest { key: "/".into(), range_end: "0".into(), prev_kv: false };
    state.apply(Command::DeleteRange(all)).response.unwrap();
    put(&mut state, 1, 1, 0);
    state.apply(Command::Compact(state.revision())).response.unwrap();
    state.trim(usize::MAX);
    assert!(state.held_bytes() < SPARE, "{} bytes held for one key", state.held_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// However a compaction is cut into steps, and in whatever order they mix with compactions and writes.
    #[test]
    fn snapshots_do_not_tell_how_far_trimming_got(
        steps in prop::collection::vec((0..30u64, 0..5000usize, prop::option::weighted(0.1, 0..20i64), 0..9usize), 1..150),
    ) {
        let (mut lazy, mut eager, mut slow) = (State::default(), State::default(), State::default());
        for (key, value, compact, trim) in steps {
            for state in [&mut lazy, &mut eager, &mut slow] {
                if trim == 3 {
                    let key = format!("/registry/{}/{key:08x}", key % 7).into();
                    let delete = DeleteRangeRequest { key, ..Default::default() };
                    state.apply(Command::DeleteRange(delete)).response.unwrap();
                } else {
                    put(state, key, value, 0);
                }
                if let Some(back) = compact {
                    drop(state.apply(Command::Compact(state.revision() - back)));
                }
            }
            eager.trim(usize::MAX);
            slow.trim(trim);
        }
        let expected = snapshot(&lazy);
        prop_assert!(expected == snapshot(&eager) && expected == snapshot(&slow));
        prop_assert_eq!((hash(&lazy), hash(&lazy)), (hash(&eager), hash(&slow)));
        let from = lazy.compacted().max(1);
        prop_assert_eq!(events(&lazy, from), events(&eager, from));
        prop_assert_eq!(events(&lazy, from), events(&slow, from));
        let (copy, bytes) = (restored(&slow), eager.bytes());
        prop_assert_eq!((copy.bytes(), snapshot(&copy)), (bytes, expected));
        lazy.trim(usize::MAX);
        slow.trim(usize::MAX);
        prop_assert_eq!((lazy.bytes(), slow.bytes()), (bytes, bytes));
    }
}
