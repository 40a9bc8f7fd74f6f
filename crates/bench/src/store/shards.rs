//! Four shards of one member beside one: the same log, the same load. There is no peer for this.

use anyhow::Context;

use super::{
    Run,
    drive::{Outcome, Span},
    loads::{Order, Puts},
    server::Cluster,
    single::{WARM_UP, figures, one},
};
use crate::report::{Goal::Open, Side};

const KEYS: u32 = 100_000;
const GROUPS: u32 = 4;
/// Each member's turns.
const TURNS: u32 = 2;

pub fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let mut members = Vec::new();
    for (name, flags) in [("one shard", Vec::new()), ("four shards", divided())] {
        let dir = run.folder()?;
        let program = run.options.plinth.with(flags);
        members.push((name, Cluster::start(&program, dir.path(), 1)?, dir));
    }
    for clients in [64, 1_000] {
        let mut loads: Vec<Puts> = members.iter().map(|_| Puts::new(b"puts", KEYS, clients, Order::Random)).collect();
        let mut outcomes: Vec<Outcome> = members.iter().map(|_| Outcome::default()).collect();
        let span = Span { warm_up: WARM_UP, measured: run.options.length() / TURNS, until: None };
        for who in [0, 1, 1, 0] {
            let cluster = &members[who].1;
            outcomes[who].add(&one(cluster, &mut loads[who], clients, span).context(members[who].0)?);
            loads[who].verify(&mut cluster.control()?)?;
        }
        for ((name, ..), outcome) in members.iter().zip(&outcomes) {
            let what = format!("{name}: puts, {clients} clients");
            figures(run, Side::Plinth, &what, "put", outcome, [Open, Open, Open]);
        }
    }
    Ok(())
}

/// The keys that are written, divided by their second digit, about evenly.
fn divided() -> Vec<String> {
    let part = |digit: u32| format!("puts/plinth/bench/0{digit}={}", digit % GROUPS);
    let map: Vec<String> = (0..10).map(part).collect();
    vec![format!("--shards={GROUPS}"), format!("--shard-map={}", map.join(","))]
}
