//! Random commands: whatever can be asked of the state is asked of the model too.

use bytes::Bytes;
use mvcc::{
    Command, Export, HashQuery, Import, KeyRange, Limits, Loader, Replay, SnapshotReader, State, check_command,
};
use proptest::prelude::*;
use store_api::*;

use crate::model::Model;

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "b", "ba", "c", "d", "e"]).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end = prop_oneof![3 => Just(Bytes::new()), 1 => Just(Bytes::from_static(&[0])), 2 => key()];
    (key(), end)
}

fn put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![3 => Just(0), 1 => 1..4i64];
    let value = prop::collection::vec(any::<u8>(), 0..3).prop_map(Bytes::from);
    (key(), value, lease, any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1)).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (range(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRangeRequest { key, range_end, prev_kv })
}

fn range_request() -> impl Strategy<Value = RangeRequest> {
    let orders = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let targets = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let bound = || prop_oneof![4 => Just(0), 1 => 1..30i64];
    let shape = (any::<bool>(), prop::bool::weighted(0.1), prop_oneof![Just(0), 1..4i64], orders, targets);
    (range(), bound(), shape, (bound(), bound(), bound(), bound())).prop_map(|((key, range_end), revision, s, b)| {
        RangeRequest {
            key,
            range_end,
            revision,
            keys_only: s.0,
            count_only: s.1,
            skip_count: false,
            limit: s.2,
            sort_order: s.3,
            sort_target: s.4,
            serializable: false,
            min_mod_revision: b.0,
            max_mod_revision: b.1,
            min_create_revision: b.2,
            max_create_revision: b.3,
        }
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0..4i64).prop_map(CompareTarget::Version),
        (0..20i64).prop_map(CompareTarget::CreateRevision),
        (0..20i64).prop_map(CompareTarget::ModRevision),
        prop::collection::vec(any::<u8>(), 0..2).prop_map(|v| CompareTarget::Value(v.into())),
        (0..4i64).prop_map(CompareTarget::Lease),
    ];
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Greater,
        CompareResult::Less,
    ]);
    (range(), result, target).prop_map(|((key, range_end), result, target)| Compare { key, range_end, result, target })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        put().prop_map(RequestOp::Put),
        delete().prop_map(RequestOp::DeleteRange),
        range_request().prop_map(RequestOp::Range)
    ];
    let op = leaf.prop_recursive(2, 8, 3, |inner| {
        let ops = || prop::collection::vec(inner.clone(), 0..3);
        (prop::collection::vec(compare(), 0..2), ops(), ops())
            .prop_map(|(compare, success, failure)| RequestOp::Txn(TxnRequest { compare, success, failure }))
    });
    let ops = prop::collection::vec(op, 0..4).boxed();
    (prop::collection::vec(compare(), 0..3), ops.clone(), ops).prop_map(|(compare, success, failure)| TxnRequest {
        compare,
        success,
        failure,
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => put().prop_map(Command::Put),
        4 => delete().prop_map(Command::DeleteRange),
        6 => txn().prop_map(Command::Txn),
        1 => (0..40i64).prop_map(Command::Compact),
        2 => (1..4i64, 1..100i64).prop_map(|(id, ttl)| Command::LeaseGrant { id, ttl }),
        1 => (1..4i64).prop_map(|id| Command::LeaseRevoke { id }),
        1 => prop::collection::vec((1..4i64, 0..100i64), 0..3).prop_map(Command::LeaseCheckpoint),
    ]
}

fn snapshot(state: &State, portion: usize) -> Vec<u8> {
    let mut reader = SnapshotReader::new(state.cut());
    let mut out = Vec::new();
    while reader.next(state, &mut out, usize::MAX, portion) {}
    reader.finish();
    out
}

#[test]
fn a_key_with_many_versions_is_written_in_portions() {
    let mut state = State::default();
    for i in 0..1000 {
        for key in ["a", "b"] {
            let put = PutRequest { key: key.into(), value: format!("{i}").into(), ..Default::default() };
            state.apply(Command::Put(put)).response.unwrap();
        }
    }
    let mut reader = SnapshotReader::new(state.cut());
    let mut loader = Loader::default();
    let (mut whole, mut portions) = (Vec::new(), 0);
    loop {
        let mut portion = Vec::new();
        let more = reader.next(&state, &mut portion, 1000, 100);
        assert!(portion.len() < 8000, "a record is at most 256 versions");
        portions += 1;
        whole.extend_from_slice(&portion);
        loader.feed(portion.into()).unwrap();
        if !more {
            break;
        }
    }
    assert!(portions >= 8);
    assert_eq!(whole, snapshot(&state, 100));
    let restored = loader.finish().unwrap();
    assert_eq!(snapshot(&restored, 1), whole);
    assert_eq!((hash(&restored, 700), restored.bytes()), (hash(&state, 700), state.bytes()));
}

fn hash(state: &State, revision: Revision) -> u32 {
    let mut query = HashQuery::new(state, revision).unwrap();
    while !query.step(state, 2).unwrap() {}
    query.finish().hash
}

/// The whole history in the order of its writes, built up again; `between` is called before each step.
fn carried(state: &mut State, mut between: impl FnMut(&mut State)) -> State {
    let mut export = Export::new(state, state.revision());
    let leases: Vec<_> = state.leases().collect();
    while !export.gather(state, 1) {
        between(state);
    }
    export.rewind();
    let mut import = Import::new(export.compacted(), leases).unwrap();
    while export.next(state, 2, usize::MAX, |write| import.write(&write)).unwrap() {
        between(state);
    }
    import.reached(export.revision());
    import.finish()
}

fn everything(revision: Revision) -> RangeRequest {
    RangeRequest { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), revision, ..Default::default() }
}

/// Asks the state everything that the model knows.
fn check_all(state: &State, model: &Model) {
    assert_eq!((state.revision(), state.compacted()), (model.revision(), model.compacted));
    assert_eq!(state.keys(), model.now().len() as u64);
    for revision in 1..=model.revision() {
        let answer = state.range(everything(revision));
        if !model.readable(revision) {
            assert!(matches!(answer, Err(StoreError::Compacted { .. })));
            continue;
        }
        let answer = answer.unwrap();
        let expected: Vec<_> = model.copies[revision as usize].values().cloned().collect();
        assert_eq!(answer.kvs, expected, "at revision {revision}");
        assert_eq!((answer.count, answer.revision), (expected.len() as i64, model.revision()));
        check_replay(state, model, revision);
    }
    for id in 1..4 {
        let expected: Vec<_> = model.now().values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
        assert_eq!(state.lease_keys(id), expected);
        assert_eq!(state.lease_ttl(id).is_some(), model.leases.contains(&id));
    }
}

fn check_replay(state: &State, model: &Model, start: Revision) {
    for (key, end) in [("a", "\0"), ("b", "d"), ("b", "")] {
        let range = KeyRange::new(&key.into(), &end.into());
        let mut replay = Replay::new(range.clone(), start);
        let mut events = Vec::new();
        while replay.next_revision() <= state.revision() {
            events.extend(replay.step(state, 2).unwrap());
        }
        let wanted = model.events.iter().filter(|e| e.kv.mod_revision >= start && range.contains(&e.kv.key));
        let mut expected: Vec<_> = wanted.cloned().collect();
        for event in &mut expected {
            event.prev_kv = event.prev_kv.take().filter(|_| event.kv.mod_revision > model.compacted);
        }
        assert_eq!(events, expected, "from revision {start} in {range:?}");
    }
}

/// etcd's order of steps: filter, sort, cut, strip.
fn check_range(state: &State, model: &Model, request: &RangeRequest) {
    let answer = state.range(request.clone());
    if request.revision > model.revision() {
        assert!(matches!(answer, Err(StoreError::FutureRevision { .. })));
        return;
    }
    if !model.readable(request.revision) {
        assert!(matches!(answer, Err(StoreError::Compacted { .. })));
        return;
    }
    let at = if request.revision == 0 { model.revision() } else { request.revision };
    let range = KeyRange::new(&request.key, &request.range_end);
    let mut kvs: Vec<_> = model.copies[at as usize].values().filter(|kv| range.contains(&kv.key)).cloned().collect();
    let count = kvs.len() as i64;
    let r = request;
    kvs.retain(|kv| r.min_mod_revision == 0 || kv.mod_revision >= r.min_mod_revision);
    kvs.retain(|kv| r.max_mod_revision == 0 || kv.mod_revision <= r.max_mod_revision);
    kvs.retain(|kv| r.min_create_revision == 0 || kv.create_revision >= r.min_create_revision);
    kvs.retain(|kv| r.max_create_revision == 0 || kv.create_revision <= r.max_create_revision);
    let filtered = [r.min_mod_revision, r.max_mod_revision, r.min_create_revision, r.max_create_revision] != [0; 4];
    let limit = if r.limit == 0 { usize::MAX } else { r.limit as usize };
    let mut more = false;
    if r.sort_order == SortOrder::None && !filtered {
        // Nothing asks for all keys, so only the first ones by key were looked at, and sorted.
        more = kvs.len() > limit;
        kvs.truncate(limit.saturating_add(1));
    }
    match r.sort_target {
        SortTarget::Key => kvs.sort_by(|a, b| a.key.cmp(&b.key)),
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    let answer = answer.unwrap();
    assert_eq!(answer.count, count);
    if r.count_only {
        assert!(answer.kvs.is_empty());
        return;
    }
    more |= kvs.len() > limit;
    if r.sort_order == SortOrder::Descend {
        // Equal keys of the sort may stand in either order: compare by what was sorted only.
        assert_eq!(answer.kvs.len(), kvs.len().min(limit));
    } else {
        kvs.truncate(limit);
        kvs.iter_mut().filter(|_| r.keys_only).for_each(|kv| kv.value = Bytes::new());
        assert_eq!(answer.kvs, kvs, "{request:?}");
    }
    assert_eq!(answer.more, more, "{request:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_what_the_model_is(
        commands in prop::collection::vec((command(), 0..6usize), 1..40),
        ranges in prop::collection::vec(range_request(), 8),
    ) {
        let (mut state, mut model) = (State::default(), Model::default());
        let limits = Limits::default();
        for (command, then) in commands {
            if check_command(&command, &limits).is_err() {
                continue;
            }
            let events = model.events.len();
            let encoded = command.encode();
            prop_assert!(encoded.len() <= command.size_hint() + 64);
            prop_assert_eq!(&Command::decode(encoded.clone()).unwrap(), &command);
            let done = model.apply(&command);
            let effects = state.apply(Command::decode(encoded).unwrap());
            prop_assert_eq!(effects.response.is_ok(), done, "{:?} gave {:?}", command, effects.response);
            prop_assert_eq!(&effects.events[..], &model.events[events..]);
            match then {
                // In portions of two, so that reads also happen while half is trimmed.
                0 => state.trim(2),
                1 => {
                    let bytes = snapshot(&state, 3);
                    prop_assert_eq!(&bytes, &snapshot(&state, 100));
                    let before = (hash(&state, 0), state.bytes());
                    let mut loader = Loader::default();
                    loader.feed(bytes.clone().into()).unwrap();
                    let restored = loader.finish().unwrap();
                    prop_assert_eq!(snapshot(&restored, 1), bytes);
                    while state.needs_trim() {
                        state.trim(1);
                    }
                    prop_assert_eq!(before.0, hash(&restored, 0));
                    prop_assert_eq!(state.bytes(), restored.bytes());
                    state = restored;
                }
                _ => {}
            }
        }
        check_all(&state, &model);
        ranges.iter().for_each(|request| check_range(&state, &model, request));
        while state.needs_trim() {
            state.trim(1);
        }
        check_all(&state, &model);
    }

    #[test]
    fn a_snapshot_shows_the_moment_of_its_cut(
        before in prop::collection::vec(command(), 1..30),
        after in prop::collection::vec(command(), 1..30),
    ) {
        let mut state = State::default();
        before.into_iter().for_each(|c| drop(state.apply(c)));
        let expected = snapshot(&state, 100);
        let mut reader = SnapshotReader::new(state.cut());
        let mut bytes = Vec::new();
        let mut after = after.into_iter();
        while reader.next(&state, &mut bytes, usize::MAX, 1) {
            if let Some(command) = after.next() {
                state.apply(command);
                state.trim(usize::MAX);
            }
        }
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn what_a_compaction_drops_is_hashed_as_it_was(commands in prop::collection::vec(command(), 1..60)) {
        let mut state = State::default();
        for command in commands {
            let before = state.compacted();
            let expected = match command {
                Command::Compact(revision) if revision > before && revision <= state.revision() => {
                    Some(hash(&state, revision))
                }
                _ => None,
            };
            state.apply(command);
            if state.compacted() > before {
                let mut query = HashQuery::of_compaction(&state, before);
                state.trim(usize::MAX);
                while !query.step(&state, 2).unwrap() {}
                let made = query.finish();
                prop_assert_eq!((Some(made.hash), made.compact_revision), (expected, before));
                prop_assert_eq!(made.hash_revision, state.compacted());
                state.trim(usize::MAX);
            }
        }
    }

    #[test]
    fn an_export_is_the_same_state_again(
        before in prop::collection::vec(command(), 1..40),
        after in prop::collection::vec(command(), 1..30),
        trimmed: bool,
    ) {
        let mut state = State::default();
        // What was noted of leases' time is not carried over.
        let kept = |c: &Command| !matches!(c, Command::LeaseCheckpoint(_));
        before.into_iter().filter(kept).for_each(|c| drop(state.apply(c)));
        if trimmed {
            state.trim(3);
        }
        let expected = (snapshot(&state, 100), hash(&state, 0));
        let mut after = after.into_iter();
        let again = carried(&mut state, |state| {
            after.next().into_iter().for_each(|c| drop(state.apply(c)));
            state.trim(usize::MAX);
        });
        prop_assert_eq!((snapshot(&again, 100), hash(&again, 0)), expected);
    }

    #[test]
    fn outside_bytes_do_not_panic(bytes: Vec<u8>, command in command(), at: prop::sample::Index, bit in 0..8u8) {
        drop(Command::decode(bytes.clone().into()));
        let mut loader = Loader::default();
        drop(loader.feed(bytes.into()).map(|()| loader.finish()));
        let mut flipped = command.encode().to_vec();
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        drop(Command::decode(flipped.into()));
    }
}
