//! `sim`: runs seeds one after the other; prints a failing one with the command that replays it.

use std::process::ExitCode;

use clap::Parser;
use sim::{Plan, Verdict, run};

/// Lines of a failed run's trace that are printed.
const LAST: usize = 60;

/// Runs whole clusters from seeds.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Members of the cluster: 1, 3 or 5; by the seed if it is not given.
    #[arg(long, value_parser = ["1", "3", "5"])]
    members: Option<String>,
    /// Raft groups on each member's log; by the seed if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8))]
    groups: Option<u32>,
    /// Whether clients are users whose permissions come and go; by the seed if it is not said.
    #[arg(long)]
    users: Option<bool>,
    /// Whether shards move from group to group; by the seed if it is not said.
    #[arg(long)]
    moves: Option<bool>,
    /// Whether leaders answer reads by leases; by the seed if it is not said.
    #[arg(long)]
    lease_reads: Option<bool>,
    /// Print the whole trace.
    #[arg(long)]
    trace: bool,
    /// A deliberate bug, by its name in `mutation.rs`, to see how it is found.
    #[arg(long)]
    mutation: Option<String>,
    /// Go on after a failing seed.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mutation = match args.mutation.as_deref().map(|name| (name, sim::Mutation::named(name))) {
        Some((name, None)) => {
            eprintln!("there is no mutation {name}; there are {:?}", sim::MUTATIONS);
            return ExitCode::FAILURE;
        }
        found => found.and_then(|(_, mutation)| mutation),
    };
    let seeds = match args.seed {
        Some(seed) => seed..seed + 1,
        None => args.from..args.from + args.seeds,
    };
    let mut failed = 0;
    for seed in seeds.clone() {
        let members = args.members.as_ref().map_or(sim::members_of(seed), |m| m.parse().expect("clap has checked it"));
        let groups = args.groups.unwrap_or(sim::groups_of(seed));
        let users = args.users.unwrap_or(sim::users_of(seed, groups));
        let moves = groups > 1 && args.moves.unwrap_or(sim::moves_of(seed, groups));
        let lease_reads = args.lease_reads.unwrap_or(sim::lease_reads_of(seed));
        let verdict = run(Plan { seed, members, groups, users, moves, lease_reads, mutation, whole_trace: args.trace });
        let lines: Vec<&str> = verdict.trace.lines().collect();
        if args.trace {
            lines.iter().for_each(|line| println!("{line}"));
        }
        if args.seed.is_some() {
            let (sum, count) = verdict.trace.fingerprint();
            println!("seed {seed}: {}; trace {sum:016x} of {count} lines", verdict.summary);
        }
        if !verdict.violations.is_empty() {
            failed += 1;
            tell(&verdict, if args.trace { &[] } else { &lines[lines.len().saturating_sub(LAST)..] });
            if !args.all {
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{} seeds, {failed} failed", seeds.end - seeds.start);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(verdict: &Verdict, last: &[&str]) {
    last.iter().for_each(|line| println!("{line}"));
    let Plan { seed, members, groups, users, moves, lease_reads, mutation, .. } = verdict.plan;
    let with = mutation.map_or(String::new(), |m| format!(" --mutation {m:?}"));
    println!("seed {seed} with {members} members and {groups} groups failed:");
    verdict.violations.iter().for_each(|violation| println!("- {violation}"));
    println!(
        "replay: cargo run -p sim -- --seed {seed} --members {members} --groups {groups} --users {users} --moves {moves} \
         --lease-reads {lease_reads}{with} --trace"
    );
}
