//! What callers may do with keys and leases.

use bytes::Bytes;
use store_api::{
    AuthError, Caller, Compare, DeleteRangeRequest, Demand, LeaseId, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::{GUARDED, Result, after, caller};

/// Leases with keys: 1 none, 2 that alice may write, 3 that she may read, 4 of both kinds.
fn lease_keys(id: LeaseId) -> Vec<Bytes> {
    let keys: &[&str] = match id {
        2 => &["w1", "b"],
        3 => &["r1"],
        4 => &["w1", "r1"],
        _ => &[],
    };
    keys.iter().map(|key| Bytes::from(*key)).collect()
}

fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() }
}

fn put(key: &str, lease: LeaseId, prev_kv: bool) -> PutRequest {
    PutRequest { key: key.to_owned().into(), lease, prev_kv, ..Default::default() }
}

fn delete(key: &str, end: &str, prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), prev_kv }
}

fn txn(compare: &str, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: vec![Compare::mod_revision(compare.to_owned(), 0)], success, failure }
}

const DENIED: Result = Err(AuthError::PermissionDenied);

#[test]
fn keys() {
    let auth = after(&GUARDED);
    let alice = caller(&auth, "alice");
    let permit = auth.permit(Some(&alice));
    assert_eq!(permit.range(&range("r1", "")), Ok(()));
    assert_eq!(permit.range(&range("r", "s")), Ok(()));
    assert_eq!(permit.range(&range("r", "t")), DENIED);
    assert_eq!(permit.range(&range("w1", "")), DENIED);
    assert_eq!(permit.watch(b"r1", b"r2"), Ok(()));
    assert_eq!(permit.delete_range(&delete("w", "x", false)), Ok(()));
    assert_eq!(permit.delete_range(&delete("w", "x", true)), DENIED);
    assert_eq!(permit.delete_range(&delete("b", "", true)), Ok(()));
    for (put, expected) in [
        (put("w1", 0, false), Ok(())),
        (put("w1", 0, true), DENIED),
        (put("r1", 0, false), DENIED),
        (put("b", 0, true), Ok(())),
        (put("w1", 1, false), Ok(())),
        (put("w1", 2, false), Ok(())),
        (put("w1", 3, false), DENIED),
        (put("w1", 4, false), DENIED),
    ] {
        assert_eq!(permit.put(&put, lease_keys), expected, "{put:?}");
        let nested = txn("r1", vec![RequestOp::Txn(txn("b", vec![], vec![RequestOp::Put(put.clone())]))], vec![]);
        assert_eq!(permit.txn(&nested, lease_keys), expected, "{put:?} in a transaction");
    }
    assert_eq!(permit.txn(&txn("w1", vec![], vec![]), lease_keys), DENIED);
    assert_eq!(permit.txn(&txn("r1", vec![RequestOp::Range(range("w1", ""))], vec![]), lease_keys), DENIED);
    assert_eq!(permit.txn(&txn("r1", vec![RequestOp::DeleteRange(delete("w", "", true))], vec![]), lease_keys), DENIED);
}

#[test]
fn leases() {
    let auth = after(&GUARDED);
    let check = |name: &str, of: fn(&auth::Permit<'_>) -> Result, expected: Result| {
        let caller = (!name.is_empty()).then(|| caller(&auth, name));
        assert_eq!(of(&auth.permit(caller.as_ref())), expected, "{name:?}");
    };
    check("", |p| p.lease_grant(), Err(AuthError::UserEmpty));
    check("bob", |p| p.lease_grant(), Ok(()));
    check("alice", |p| p.lease_revoke(2, lease_keys), Ok(()));
    check("alice", |p| p.lease_revoke(4, lease_keys), DENIED);
    check("root", |p| p.lease_revoke(4, lease_keys), Ok(()));
    check("", |p| p.lease_revoke(1, lease_keys), Err(AuthError::UserEmpty));
    check("alice", |p| p.lease_keep_alive(4, lease_keys), DENIED);
    check("alice", |p| p.lease_time_to_live(3, true, lease_keys), Ok(()));
    check("alice", |p| p.lease_time_to_live(4, true, lease_keys), DENIED);
    check("alice", |p| p.lease_time_to_live(4, false, lease_keys), Ok(()));
    check("alice", |p| p.leases([1, 3].into_iter(), lease_keys), Ok(()));
    check("alice", |p| p.leases([1, 4].into_iter(), lease_keys), DENIED);
    check("root", |p| p.leases([1, 4].into_iter(), lease_keys), Ok(()));
}

#[test]
fn callers() {
    let auth = after(&GUARDED);
    let check = |caller: Option<Caller>, keys: Result, admin: Result, known: Result| {
        let permit = auth.permit(caller.as_ref());
        let found = (permit.range(&range("r1", "")), permit.demand(Demand::Admin), permit.demand(Demand::Caller));
        assert_eq!(found, (keys, admin, known), "{caller:?}");
        assert_eq!(permit.compact(), admin);
        // Nothing is asked of whoever touches nothing.
        assert_eq!(permit.txn(&TxnRequest::default(), lease_keys), Ok(()));
    };
    let (empty, denied) = (Err(AuthError::UserEmpty), Err(AuthError::PermissionDenied));
    let (revision, of) = (auth.revision(), |name: &str, revision| Some(Caller::new(name, revision)));
    check(None, empty, empty, empty);
    check(of("root", revision), Ok(()), Ok(()), Ok(()));
    check(of("alice", revision), Ok(()), denied, Ok(()));
    check(of("alice", revision - 1), Err(AuthError::OldRevision), denied, Ok(()));
    check(of("root", revision - 1), Err(AuthError::OldRevision), Ok(()), Ok(()));
    check(of("alice", 0), empty, denied, Ok(()));
    check(of("bob", revision), denied, denied, Ok(()));
    check(of("nobody", revision), denied, Err(AuthError::UserNotFound), Ok(()));
    let off = after(&[&GUARDED[..], &["disable"]].concat());
    assert_eq!(off.permit(None).range(&range("z", "")), Ok(()));
    assert_eq!(off.permit(None).demand(Demand::Admin), Ok(()));
}

#[test]
fn what_was_found_out_before_a_change_does_not_outlive_it() {
    let mut auth = after(&GUARDED);
    let mut check = |line: &str, key: &str, expected: Result| {
        if !line.is_empty() {
            crate::run(&mut auth, line).response.unwrap();
        }
        let alice = caller(&auth, "alice");
        assert_eq!(auth.permit(Some(&alice)).range(&range(key, "")), expected, "{line}");
    };
    check("", "z", DENIED);
    check("allow some r z", "z", Ok(()));
    check("forbid some z", "z", DENIED);
    check("role more", "z", DENIED);
    check("allow more r z", "z", DENIED);
    check("grant alice more", "z", Ok(()));
    check("revoke alice more", "z", DENIED);
    check("role- some", "r1", DENIED);
    check("grant alice root", "z", Ok(()));
}
