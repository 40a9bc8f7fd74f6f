//! Durable puts per second by the number of clients: `cargo run -p store --example put_bench --release [folder]`.

use std::{path::PathBuf, time::Duration};

use runtime::{Clock, Tasks};
use store::{Options, Store};
use store_api::{PutRequest, Store as _};

const SECONDS: u64 = 2;
const VALUE_BYTES: usize = 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("plinth-put-bench-{}", std::process::id()));
    let (tasks, clock) = (Tasks::root(), Clock::system());
    let store = Store::open(Options::new(&dir, clock.clone(), tasks.child("store"))).await?;
    for clients in [1, 8, 32, 64, 256] {
        let (cpu, start) = (cpu_time(), clock.monotonic());
        let done = run(&store, &clock, clients).await;
        let (took, cpu) = (clock.monotonic() - start, cpu_time() - cpu);
        println!(
            "{clients:>4} clients: {:>7.0} puts/s, {:>6.0} us each, {:>5.1} us of CPU per put",
            done as f64 / took.as_secs_f64(),
            took.as_secs_f64() * 1e6 * clients as f64 / done as f64,
            cpu.as_secs_f64() * 1e6 / done as f64
        );
    }
    tasks.stop();
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

async fn run(store: &Store, clock: &Clock, clients: usize) -> u64 {
    let tasks = Tasks::root();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(clients);
    let until = clock.monotonic() + Duration::from_secs(SECONDS);
    for client in 0..clients {
        let (store, clock, sender) = (store.clone(), clock.clone(), sender.clone());
        tasks.spawn("client", async move {
            let value = bytes::Bytes::from(vec![b'v'; VALUE_BYTES]);
            let mut done = 0u64;
            while clock.monotonic() < until {
                let key = format!("/registry/configmaps/default/bench-{client}-{}", done % 1000).into();
                let put = PutRequest { key, value: value.clone(), ..Default::default() };
                match store.put(put).await {
                    Ok(_) => done += 1,
                    Err(error) => return eprintln!("put: {error}"),
                }
            }
            if sender.send(done).await.is_err() {
                eprintln!("client {client}: nobody waits for the result");
            }
        });
    }
    drop(sender);
    let mut all = 0;
    while let Some(done) = receiver.recv().await {
        all += done;
    }
    all
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(Duration::ZERO, |usage| {
        let micros = |t: nix::sys::time::TimeVal| (t.tv_sec() * 1_000_000 + t.tv_usec()).unsigned_abs();
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    })
}
