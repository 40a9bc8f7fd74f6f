//! Whole clusters of Plinth's store in one thread: virtual network, disks and clocks, all from one seed. The same seed
//! gives the same run, byte for byte.
//!
//! ```text
//!   seed ─▶ world ─▶ clients ─▶ members (replica::Core, Machine) ─▶ disk
//!             │ chaos, operator      └▶ network ─▶ members
//!             ▼
//!        invariants of Raft, all the time · the checker's, over what clients saw, at the end
//! ```
//!
//! Uses no thread, socket, file, clock or chance of the machine that it runs on. The mutations show that it finds what it
//! is there to find.

mod administrator;
mod chaos;
mod client;
mod disk;
mod history;
mod invariants;
mod lies;
mod member;
mod mutation;
mod network;
mod nomads;
mod operator;
mod pending;
mod random;
mod rewrite;
mod run;
mod tamper;
mod trace;
mod usurper;
mod watches;
mod world;

pub use mutation::{ALL as MUTATIONS, Mutation};
pub use run::{Verdict, run};
pub use trace::Trace;
pub use world::Plan;

/// The groups that a seed's members have where no number is asked for: most have one, as most stores.
pub fn groups_of(seed: u64) -> u32 {
    match seed % 6 {
        4 => 2,
        5 => 3,
        _ => 1,
    }
}

/// Whether a seed has users where it is not said: those of one group alone, as users are the first group's.
pub fn users_of(seed: u64, groups: u32) -> bool {
    groups == 1 && seed % 4 == 2
}

/// Whether shards move from group to group where it is not said; then all clients use keys that move.
pub fn moves_of(seed: u64, groups: u32) -> bool {
    groups > 1 && seed % 4 >= 2
}

/// Whether a seed has lease reads where it is not said: a third of them.
pub fn lease_reads_of(seed: u64) -> bool {
    (seed / 4) % 3 == 1
}

/// The size of the cluster that a seed has where none is asked for.
pub fn members_of(seed: u64) -> u64 {
    [3, 5, 3, 1][(seed % 4) as usize]
}
