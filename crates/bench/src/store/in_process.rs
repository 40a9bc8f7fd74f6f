//! The store without any wire, called as the API server calls it: through the trait, from many tasks.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use bytes::Bytes;
use runtime::{Clock, Tasks};
use store_api::{PutRequest, RangeRequest, Store};

use super::loads::{Random, Values, key};
use crate::{interrupt, process};

const TASKS: usize = 64;
const KEYS: u32 = 100_000;
const STOP_LIMIT: Duration = Duration::from_secs(10);

pub struct Rates {
    pub puts: f64,
    pub put_cpu: f64,
    pub gets: f64,
    pub get_cpu: f64,
}

/// Puts for so long, then gets for so long. The processor time is this process's, callers included.
pub async fn measure(dir: &Path, length: Duration) -> anyhow::Result<Rates> {
    let tasks = Tasks::root();
    let options = store::Options::new(dir.join("in-process"), Clock::system(), tasks.child("store"));
    let store: Arc<dyn Store> = Arc::new(store::Store::open(options).await?);
    let (puts, put_cpu) = rate(&store, length, put).await?;
    let (gets, get_cpu) = rate(&store, length, get).await?;
    tasks.stop();
    drop(store);
    ensure!(tasks.child("store").join(STOP_LIMIT).await, "the store did not stop");
    Ok(Rates { puts, put_cpu, gets, get_cpu })
}

/// One call for a task's own key.
async fn put(store: Arc<dyn Store>, key: Bytes, value: Bytes) -> anyhow::Result<()> {
    store.put(PutRequest { key, value, ..Default::default() }).await?;
    Ok(())
}

async fn get(store: Arc<dyn Store>, key: Bytes, _value: Bytes) -> anyhow::Result<()> {
    store.range(RangeRequest::key(key)).await?;
    Ok(())
}

/// Calls per second and microseconds of processor time for each.
async fn rate<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
    store: &Arc<dyn Store>,
    length: Duration,
    call: fn(Arc<dyn Store>, Bytes, Bytes) -> F,
) -> anyhow::Result<(f64, f64)> {
    let done = Arc::new(AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), process::cpu_micros(std::process::id())?);
    let mut running = Vec::new();
    for task in 0..TASKS {
        let (store, done) = (store.clone(), done.clone());
        running.push(tokio::spawn(async move {
            let (values, mut random) = (Values::new(), Random::new(task as u64 + 1));
            while began.elapsed() < length {
                interrupt::check()?;
                let key = Bytes::copy_from_slice(&key(b"inpr", random.below(KEYS)));
                let value = Bytes::copy_from_slice(values.at(values.any(&mut random)));
                call(store.clone(), key, value).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    for task in running {
        task.await??;
    }
    let (took, spent) = (began.elapsed().as_secs_f64(), process::cpu_micros(std::process::id())? - cpu);
    let done = done.load(Ordering::Relaxed) as f64;
    Ok((done / took, spent as f64 / done))
}
