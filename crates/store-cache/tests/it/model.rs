//! Writes, cuts and compactions in a drawn order, while every read is compared with the store's own answer.

use std::sync::Arc;

use runtime::Tasks;
use store_api::{DeleteRangeRequest, RangeRequest, Revision, Store, StoreError, prefix_end};
use store_cache::{Cache, Options};

use crate::{backends::put, cut::Cuttable};

const STEPS: usize = 1500;

/// A generator of drawn numbers: the same seed, the same test.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

pub async fn check(store: Arc<dyn Store>, tasks: &Tasks, seed: u64) {
    let cuttable = Cuttable::new(store.clone());
    let cache = Cache::start(Options::new(cuttable.clone(), tasks.child("cache"), "m/"));
    cache.ready().await.unwrap();
    let mut draw = Draw(seed);
    let (mut compared, mut last) = (0, 0);
    for step in 0..STEPS {
        let written = write(&*store, &mut draw, step).await;
        match draw.below(40) {
            0 => cuttable.cut(),
            1 => {
                // While the watch is down, history goes away.
                cuttable.close();
                store.compact(written, true).await.or_else(already).unwrap();
                cuttable.open();
            }
            2..10 => assert!(cache.linearizable().await.unwrap() >= written, "step {step}"),
            10..15 => assert!(cache.at_least(written).await.unwrap() >= written, "step {step}"),
            _ => {}
        }
        let read = cache.prefix(b"m/").unwrap();
        assert!(read.revision >= last, "step {step}: reads went back from {last} to {}", read.revision);
        last = read.revision;
        let said = store.range(RangeRequest { revision: read.revision, ..RangeRequest::prefix("m/") }).await;
        match said {
            Ok(said) => assert_eq!(read.value.kvs, said.kvs, "step {step}, revision {}", read.revision),
            // The cache may lag behind a compaction; then nobody can say any more.
            Err(StoreError::Compacted { .. }) => continue,
            Err(error) => panic!("{error}"),
        }
        compared += 1;
    }
    assert!(compared > STEPS / 2, "{compared} of {STEPS} reads were compared");
    assert!(cuttable.watches() > 20, "{} watches", cuttable.watches());
}

async fn write(store: &dyn Store, draw: &mut Draw, step: usize) -> Revision {
    let key = format!("m/{:02}", draw.below(60));
    let delete = |key: String, range_end| DeleteRangeRequest { key: key.into(), range_end, ..Default::default() };
    match draw.below(10) {
        0 | 1 => store.delete_range(delete(key, Default::default())).await.unwrap().revision,
        2 => {
            let prefix = format!("m/{}", draw.below(6));
            let end = prefix_end(prefix.as_bytes());
            store.delete_range(delete(prefix, end)).await.unwrap().revision
        }
        3 => put(store, "outside", &step.to_string()).await,
        _ => put(store, &key, &step.to_string()).await,
    }
}

/// Compacting where it was compacted is no failure of the test's.
fn already(error: StoreError) -> Result<Revision, StoreError> {
    if matches!(error, StoreError::Compacted { .. }) { Ok(0) } else { Err(error) }
}
