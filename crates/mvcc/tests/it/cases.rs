//! Transcripts of the rules that a reader would look up.

use mvcc::{Command, KeyRange, Replay, Response, State};
use store_api::*;

fn put(key: &'static str, value: &'static str) -> Command {
    Command::Put(PutRequest { key: key.into(), value: value.into(), ..Default::default() })
}

fn delete(key: &'static str) -> Command {
    Command::DeleteRange(DeleteRangeRequest { key: key.into(), ..Default::default() })
}

fn run(state: &mut State, command: Command) -> Response {
    state.apply(command).response.unwrap()
}

#[test]
fn revisions_count_commands_that_write() {
    let mut state = State::default();
    assert_eq!(state.revision(), 1);
    run(&mut state, put("a", "1"));
    assert_eq!(state.revision(), 2);
    run(&mut state, delete("missing"));
    assert_eq!(state.revision(), 2, "a deletion of nothing is no write");
    let both = TxnRequest {
        success: vec![
            RequestOp::Put(PutRequest { key: "b".into(), ..Default::default() }),
            RequestOp::Put(PutRequest { key: "c".into(), ..Default::default() }),
            RequestOp::Range(RangeRequest::key("b")),
        ],
        ..Default::default()
    };
    let Response::Txn(txn) = run(&mut state, Command::Txn(both)) else { panic!("not a transaction's answer") };
    assert_eq!((txn.revision, txn.succeeded, state.revision()), (3, true, 3));
    let Some(ResponseOp::Range(range)) = txn.responses.last() else { panic!("no range") };
    assert_eq!(range.kvs[0].mod_revision, 3, "a transaction reads its own writes");
}

#[test]
fn a_failing_transaction_leaves_nothing() {
    let mut state = State::default();
    let txn = TxnRequest {
        success: vec![
            RequestOp::Put(PutRequest { key: "a".into(), ..Default::default() }),
            RequestOp::Put(PutRequest { key: "b".into(), lease: 7, ..Default::default() }),
        ],
        ..Default::default()
    };
    let effects = state.apply(Command::Txn(txn));
    assert_eq!(effects.response, Err(StoreError::LeaseNotFound(7)));
    assert_eq!((state.revision(), state.keys(), effects.events.len()), (1, 0, 0));
}

#[test]
fn a_revoked_lease_takes_its_keys_at_one_revision() {
    let mut state = State::default();
    run(&mut state, Command::LeaseGrant { id: 7, ttl: 10 });
    for key in ["b", "a", "c"] {
        let put = PutRequest { key: key.into(), lease: 7, ..Default::default() };
        run(&mut state, Command::Put(put));
    }
    run(&mut state, put("c", "freed from the lease"));
    assert_eq!(state.lease_keys(7), ["a", "b"]);
    let effects = state.apply(Command::LeaseRevoke { id: 7 });
    assert_eq!(effects.response, Ok(Response::LeaseRevoked(6)));
    assert_eq!(effects.events.iter().map(|e| &e.kv.key[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(state.apply(Command::LeaseRevoke { id: 7 }).response.unwrap_err(), StoreError::LeaseNotFound(7));
}

#[test]
fn compaction_keeps_what_its_revision_shows() {
    let mut state = State::default();
    for command in [put("a", "1"), put("a", "2"), delete("a"), put("b", "1"), put("b", "2")] {
        run(&mut state, command);
    }
    assert_eq!(
        state.apply(Command::Compact(9)).response.unwrap_err(),
        StoreError::FutureRevision { requested: 9, current: 6 }
    );
    run(&mut state, Command::Compact(4));
    state.trim(usize::MAX);
    assert_eq!(
        state.apply(Command::Compact(4)).response.unwrap_err(),
        StoreError::Compacted { requested: 4, compacted: 4 }
    );
    let mut replay = Replay::new(KeyRange::new(&"a".into(), &"\0".into()), 4);
    let events = replay.step(&state, usize::MAX).unwrap();
    let told: Vec<_> = events.iter().map(|e| (e.kind, e.kv.mod_revision, e.prev_kv.is_some())).collect();
    let expected = [(EventKind::Delete, 4, false), (EventKind::Put, 5, false), (EventKind::Put, 6, true)];
    assert_eq!(told, expected, "a watcher may still start at the compact revision and sees the deletion there");
    run(&mut state, Command::Compact(6));
    state.trim(usize::MAX);
    assert_eq!(state.keys(), 1);
    assert!(Replay::new(KeyRange::new(&"a".into(), &"\0".into()), 5).step(&state, 1).is_err());
}

#[test]
fn a_pin_holds_trimming_back() {
    let mut state = State::default();
    run(&mut state, put("a", "1"));
    run(&mut state, put("a", "2"));
    let pin = state.pin();
    run(&mut state, Command::Compact(3));
    state.trim(usize::MAX);
    assert!(state.needs_trim());
    drop(pin);
    state.trim(usize::MAX);
    assert!(!state.needs_trim());
}

#[test]
fn nothing_keeps_the_logs_buffer_alive() {
    let buffer = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let mut state = State::default();
    let mut kept = Vec::new();
    for len in [10, 4096, 4097, 100_000] {
        let put = PutRequest { key: buffer.slice(..20), value: buffer.slice(100..100 + len), ..Default::default() };
        kept.push(state.apply(Command::Put(put)));
        let delete = DeleteRangeRequest { key: buffer.slice(..20), prev_kv: true, ..Default::default() };
        kept.push(state.apply(Command::DeleteRange(delete)));
    }
    assert!(buffer.is_unique(), "the state, its answers and its events hold copies");
}

#[test]
fn a_large_value_is_one_for_all() {
    let mut state = State::default();
    let value: bytes::Bytes = vec![7; 1 << 20].into();
    let put = PutRequest { key: "large".into(), value, ..Default::default() };
    let event = state.apply(Command::Put(put)).events.remove(0);
    let read = || state.range(RangeRequest::key("large")).unwrap().kvs.remove(0).value;
    assert_eq!((read().as_ptr(), read().as_ptr()), (event.kv.value.as_ptr(), event.kv.value.as_ptr()));
}
