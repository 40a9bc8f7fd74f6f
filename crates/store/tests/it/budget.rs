//! Many callers list much at once: what the budget has room for is answered, the rest is refused, and the memory that
//! all of them take together stays within it.

use std::sync::Arc;

use store_api::*;
use tempfile::tempdir;

use crate::support::Running;

const BUDGET: usize = 16 << 20;
const KEYS: usize = 4000;
const VALUE_BYTES: usize = 1000;
/// What the process may grow by beside what the budget counts: stacks, the allocator's own rooms, the test's lists.
const SLACK_BYTES: usize = 24 << 20;

/// Memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

async fn filled() -> (tempfile::TempDir, Running) {
    let dir = tempdir().unwrap();
    let running = Running::with(dir.path(), |options| options.range_bytes = BUDGET).await.unwrap();
    let (value, mut number) = ("v".repeat(VALUE_BYTES), 0);
    while number < KEYS {
        let puts = (number..number + 100).map(|n| {
            RequestOp::Put(PutRequest {
                key: format!("k/{n:06}").into(),
                value: value.clone().into(),
                ..Default::default()
            })
        });
        running.store.txn(TxnRequest { success: puts.collect(), ..Default::default() }).await.unwrap();
        number += 100;
    }
    (dir, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_stay_within_the_budget_and_the_rest_is_refused() {
    let (_dir, running) = filled().await;
    let before = resident();
    let store = Arc::new(running.store.clone());
    let lists = (0..64).map(|_| {
        let store = store.clone();
        async move { store.range(RangeRequest::prefix("k/")).await }
    });
    let (mut held, mut refused) = (Vec::new(), 0);
    // An answer that has come is held while others wait, as by a connection that is slow to take it.
    for list in futures::future::join_all(lists).await {
        match list {
            Ok(answer) => held.push(answer),
            Err(StoreError::RangeTooLarge { budget, .. }) => {
                assert_eq!(budget, BUDGET);
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(held.iter().all(|answer| answer.kvs.len() == KEYS && !answer.charge.is_empty()));
    let most = BUDGET / (KEYS * VALUE_BYTES);
    assert!((1..=most).contains(&held.len()), "{} lists of 4 MB were answered, {refused} were refused", held.len());
    assert!(grown < BUDGET + SLACK_BYTES, "{grown} bytes more are in memory");
    // Small reads and writes go on meanwhile, and so does everything once the lists are gone.
    assert_eq!(running.get("k/000007").await.map(|value| value.len()), Some(VALUE_BYTES));
    let page = RangeRequest { limit: 100, ..RangeRequest::prefix("k/") };
    assert_eq!(store.range(page).await.unwrap().kvs.len(), 100);
    running.put("other", "value").await.unwrap();
    drop(held);
    assert_eq!(store.range(RangeRequest::prefix("k/")).await.unwrap().kvs.len(), KEYS);
    running.stop().await;
}

#[tokio::test]
async fn what_no_budget_can_hold_is_refused_at_once_and_read_in_pages() {
    let (_dir, running) = filled().await;
    let ranges = (0..4).map(|_| RequestOp::Range(RangeRequest::prefix("k/"))).collect();
    let txn = TxnRequest { success: ranges, ..Default::default() };
    assert!(matches!(running.store.txn(txn).await, Err(StoreError::RangeTooLarge { .. })));
    let txn = TxnRequest { success: vec![RequestOp::Range(RangeRequest::prefix("k/"))], ..Default::default() };
    let answer = running.store.txn(txn).await.unwrap();
    assert!(!answer.charge.is_empty());
    let (mut from, mut seen) = ("k/".to_owned(), 0);
    loop {
        let page = RangeRequest { limit: 500, range_end: "k0".into(), skip_count: true, ..RangeRequest::key(from) };
        let page = running.store.range(page).await.unwrap();
        seen += page.kvs.len();
        match page.kvs.last() {
            Some(last) if page.more => from = format!("{}\0", std::str::from_utf8(&last.key).unwrap()),
            _ => break,
        }
    }
    assert_eq!(seen, KEYS);
    running.stop().await;
}
