//! A replicated store on the real kernel: three members of the real program in network namespaces, clients that put, read,
//! watch and hold leases, one fault after another, and the checker's verdict over everything that the clients saw.
//!
//! Needs root, and the machine for itself: tools/test.sh starts it last. One scenario:
//! `cargo nextest run -p robustness --ignore-default-filter -E 'test(kill_the_leader)' --no-capture`.
//! program.rs says which program is tested. A longer run of random faults:
//! `ROBUSTNESS_SEED=7 ROBUSTNESS_SECONDS=600 cargo test -p robustness --test robustness seeded -- --nocapture`.
//! What a failing run saw is kept in target/robustness; the test prints the folder.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a helper of a test fails the test")]

mod client;
mod cluster;
mod failpoints;
mod fault;
mod member;
mod network;
mod program;
mod record;
mod scenario;
mod watcher;
mod workload;

use std::time::Duration;

use fault::{Fault, Target};
use scenario::{Options, run};
use workload::Dice;

/// A list of faults, one after another on one cluster.
fn faults(name: &'static str, faults: impl IntoIterator<Item = Fault> + Send + 'static) {
    run(Options::new(name), async move |cluster| {
        for fault in faults {
            fault.run(cluster).await;
        }
    });
}

#[test]
fn nothing_happens() {
    faults("nothing_happens", []);
}

/// The test itself is tested: clients that pass a cut-off member's old reads for new ones are found out.
#[test]
fn old_reads_are_found() {
    let options = Options { cheats: true, ..Options::new("old_reads_are_found") };
    run(options, async |cluster| Fault::CutFromPeers(Target::Follower).run(cluster).await);
}

#[test]
fn kill_the_leader() {
    faults("kill_the_leader", [Fault::Kill(Target::Leader)]);
}

#[test]
fn kill_a_follower() {
    faults("kill_a_follower", [Fault::Kill(Target::Follower)]);
}

#[test]
fn pause_the_leader() {
    faults("pause_the_leader", [Fault::Pause(Target::Leader)]);
}

#[test]
fn pause_a_follower() {
    faults("pause_a_follower", [Fault::Pause(Target::Follower)]);
}

#[test]
fn cut_the_leader_off() {
    faults("cut_the_leader_off", [Fault::CutOff(Target::Leader), Fault::CutFromPeers(Target::Leader)]);
}

#[test]
fn cut_a_follower_off() {
    faults("cut_a_follower_off", [Fault::CutOff(Target::Follower), Fault::CutFromPeers(Target::Follower)]);
}

#[test]
fn cut_one_direction_of_the_leader() {
    faults("cut_one_direction_of_the_leader", [Fault::Mute(Target::Leader), Fault::Deafen(Target::Leader)]);
}

#[test]
fn cut_one_direction_of_a_follower() {
    faults("cut_one_direction_of_a_follower", [Fault::Mute(Target::Follower), Fault::Deafen(Target::Follower)]);
}

#[test]
fn fill_the_disk_of_the_leader() {
    let options = Options { small_disks: true, ..Options::new("fill_the_disk_of_the_leader") };
    run(options, async |cluster| fault::fill_disk(cluster, Target::Leader).await);
}

#[test]
fn fill_the_disk_of_a_follower() {
    let options = Options { small_disks: true, ..Options::new("fill_the_disk_of_a_follower") };
    run(options, async |cluster| fault::fill_disk(cluster, Target::Follower).await);
}

#[test]
fn erase_the_leader() {
    faults("erase_the_leader", [Fault::Erase(Target::Leader)]);
}

#[test]
fn erase_a_follower() {
    faults("erase_a_follower", [Fault::Erase(Target::Follower)]);
}

/// Faults that a seed chooses, for as long as is wished.
#[test]
fn seeded_schedule() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
    };
    let (seed, seconds) = (number("ROBUSTNESS_SEED", 1), number("ROBUSTNESS_SECONDS", 6));
    println!("ROBUSTNESS_SEED={seed} ROBUSTNESS_SECONDS={seconds}");
    let options = Options { seed, ..Options::new("seeded_schedule") };
    run(options, async move |cluster| {
        let mut dice = Dice(seed);
        let end = cluster.recorder.now() + Duration::from_secs(seconds).as_micros() as u64;
        while cluster.recorder.now() < end {
            let fault = Fault::ALL[dice.below(Fault::ALL.len() as u64) as usize];
            tokio::time::sleep(Duration::from_millis(dice.below(1000))).await;
            fault.run(cluster).await;
        }
    });
}

/// Every failpoint of the library's list, in a program that has them; of one part of the list if
/// `ROBUSTNESS_FAILPOINTS=compact` names it.
#[test]
fn failpoints() {
    if program::is_etcd() {
        // Released programs have none, among them the real etcd of Debian: there is nothing to arm.
        println!("the real etcd has no failpoints, none was armed");
        return;
    }
    let part = std::env::var("ROBUSTNESS_FAILPOINTS").unwrap_or_default();
    let options = Options { environment: failpoints::environment(), ..Options::new("failpoints") };
    run(options, async move |cluster| failpoints::run(cluster, &part).await);
}
