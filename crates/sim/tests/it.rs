//! Seeds that must pass, the same seed twice, and deliberate bugs that must be found.

use sim::{Mutation, Plan, Verdict, members_of, run};

/// Seeds in which each mutation must be found, at most.
const PATIENCE: u64 = 150;

fn plan(seed: u64, mutation: Option<Mutation>) -> Plan {
    Plan { seed, members: members_of(seed), mutation, whole_trace: false }
}

/// Runs seeds; the failing one is told with the command that replays it.
fn check(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let Verdict { plan, violations, trace, .. } = run(plan(seed, None));
        if !violations.is_empty() {
            let lines: Vec<&str> = trace.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            let members = plan.members;
            panic!("{last}\n{violations:#?}\nreplay: cargo run -p sim -- --seed {seed} --members {members} --trace");
        }
    }
}

#[test]
fn seeds_0_to_49() {
    check(0..50);
}

#[test]
fn seeds_50_to_99() {
    check(50..100);
}

#[test]
fn seeds_100_to_149() {
    check(100..150);
}

#[test]
fn seeds_150_to_199() {
    check(150..200);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..8 {
        let whole = || run(Plan { whole_trace: true, ..plan(seed, None) });
        let (one, other) = (whole(), whole());
        assert!(one.trace.lines().eq(other.trace.lines()), "seed {seed}");
        assert_eq!(one.trace.fingerprint(), other.trace.fingerprint());
        assert_ne!(one.trace.fingerprint(), run(plan(seed + 1000, None)).trace.fingerprint());
    }
}

/// A deliberate bug is found, by what it is about.
fn caught(mutation: Mutation, by: &[&str]) {
    let found = (0..PATIENCE).find_map(|seed| run(plan(seed, Some(mutation))).violations.into_iter().next());
    let found = found.unwrap_or_else(|| panic!("{mutation:?} was not found in {PATIENCE} seeds"));
    assert!(by.iter().any(|word| found.contains(word)), "{mutation:?} was found by: {found}");
}
