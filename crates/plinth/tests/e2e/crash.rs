//! kill -9 of the whole process under write load, round after round: every acknowledged write is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::cluster;

/// Rounds here go through the API and the whole process; a hundred rounds on the store alone are in its own tests.
const ROUNDS: usize = 5;

#[test]
fn every_acknowledged_write_survives_kill() {
    let mut cluster = cluster();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (kubectl, stop) = (cluster.kubectl.clone(), stop.clone());
                thread::spawn(move || {
                    let mut names = Vec::new();
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let name = format!("w-{round}-{writer}-{n}");
                        if kubectl.run(&format!("create configmap {name} --from-literal=a=b")).ok() {
                            names.push(name);
                        }
                    }
                    names
                })
            })
            .collect();
        // The moment differs from round to round.
        thread::sleep(Duration::from_millis(700 + 130 * round as u64));
        cluster.kill();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            acknowledged.extend(writer.join().unwrap());
        }
        cluster.up();
        let present = cluster.kubectl.ok("get configmaps -o name");
        let present: std::collections::BTreeSet<&str> =
            present.lines().filter_map(|l| l.strip_prefix("configmap/")).collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !present.contains(name.as_str())).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?} of {}", acknowledged.len());
    }
    assert!(acknowledged.len() > ROUNDS * 4, "the load was real: {}", acknowledged.len());
}
