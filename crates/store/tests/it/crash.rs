//! kill -9 under load, a hundred times: every acknowledged write is there, whole.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use runtime::Tasks;
use store_api::*;

use crate::support::Running;

const ROUNDS: usize = 100;
const CLIENTS: usize = 8;
/// Acknowledgements before the kill, different for each round.
const LEAST: usize = 20;
const FOLDER: &str = "PLINTH_STORE_CRASH_TEST_FOLDER";

/// The process that is killed: this test, started again with a folder to write to. Does nothing otherwise.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&folder)).await;
        let tasks = Tasks::root();
        let store = std::sync::Arc::new(store);
        for client in 0..CLIENTS {
            let store = store.clone();
            tasks.spawn_critical("client", async move { write(&store, client).await });
        }
        panic!("a client ended: {}", tasks.failure().await);
    });
}

/// Counts on; each step writes the counter and a key of its own in one transaction, and says so when acknowledged.
async fn write(store: &Running, client: usize) -> Result<(), StoreError> {
    let counter = format!("counter-{client}");
    let mut n: u64 = store.get(&counter).await.map_or(0, |v| v.parse().unwrap());
    loop {
        n += 1;
        let put = |key: String, value: String| {
            RequestOp::Put(PutRequest { key: key.into(), value: value.into(), ..Default::default() })
        };
        let step = put(format!("step-{client}-{}", n % 64), format!("{n} {}", "x".repeat(300)));
        let success = vec![put(counter.clone(), n.to_string()), step];
        let revision = store.store.txn(TxnRequest { success, ..Default::default() }).await?.revision;
        writeln!(std::io::stdout(), "acknowledged {client} {n}").expect("the parent reads until the end");
        if n.is_multiple_of(200) {
            drop(store.store.compact(revision, false).await);
        }
    }
}

async fn open(folder: &Path) -> Running {
    Running::with(folder, |o| o.snapshot_bytes = 300 * 1024).await.unwrap()
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts the child, lets it acknowledge `count` writes, kills it. Notes the last one of each client.
fn round(folder: &Path, count: usize, acknowledged: &mut HashMap<usize, u64>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::child", "--exact", "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    let mut child = KillOnDrop(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut output = BufReader::new(child.0.stdout.take().unwrap());
    let mut note = |line: &str| {
        // The harness's own words may stand before the first one on its line.
        let words: Vec<_> = line.split_whitespace().rev().take(3).collect();
        let [n, client, "acknowledged"] = words[..] else { return false };
        acknowledged.insert(client.parse().unwrap(), n.parse().unwrap());
        true
    };
    let mut seen = 0;
    while seen < count {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
        seen += usize::from(note(&line));
    }
    child.0.kill().unwrap();
    // What is in the pipe was acknowledged too; only its last line may be cut, and then has no end.
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    rest.split_inclusive('\n').filter(|line| line.ends_with('\n')).for_each(|line| {
        note(line);
    });
}

#[test]
fn every_acknowledged_write_survives_a_hundred_kills() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut acknowledged = HashMap::new();
    for i in 0..ROUNDS {
        round(dir.path(), LEAST + i * 37 % 200, &mut acknowledged);
        runtime.block_on(async {
            let store = open(dir.path()).await;
            for (client, n) in &acknowledged {
                let counter: u64 = store.get(&format!("counter-{client}")).await.unwrap().parse().unwrap();
                assert!(counter == *n || counter == n + 1, "round {i}: client {client} had {n}, found {counter}");
                let step = store.get(&format!("step-{client}-{}", counter % 64)).await.unwrap();
                assert!(step.starts_with(&format!("{counter} ")), "round {i}: half a transaction");
            }
            store.stop().await;
        });
    }
    assert!(acknowledged.values().sum::<u64>() >= (ROUNDS * LEAST) as u64);
}
