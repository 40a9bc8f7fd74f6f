//! Three members of each: writes, what they cost all three, and how long a killed leader stops them.

use anyhow::Context;

use super::{
    Run,
    drive::{Outcome, Span},
    failover,
    loads::{Order, Puts},
    server::Cluster,
    single::{WARM_UP, figures, one},
};
use crate::report::{Goal::*, Side, median};

const MEMBERS: usize = 3;
const KEYS: u32 = 100_000;
/// Elections begin at random times, so that one of them says little.
const KILLS: usize = 3;
/// Each cluster's turns.
const TURNS: u32 = 2;

struct Contender {
    side: Side,
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

pub fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let mut contenders = Vec::new();
    for (side, program) in run.programs() {
        let dir = run.folder()?;
        match Cluster::start(&program, dir.path(), MEMBERS) {
            Ok(cluster) => contenders.push(Contender { side, cluster, _dir: dir }),
            Err(error) => run.failed(&format!("three members: {side:?}"), &error),
        }
    }
    for clients in [64, 1_000] {
        let what = format!("three members: puts, {clients} clients");
        let mut loads: Vec<Puts> =
            contenders.iter().map(|_| Puts::new(b"puts", KEYS, clients, Order::Random)).collect();
        let mut outcomes: Vec<Outcome> = contenders.iter().map(|_| Outcome::default()).collect();
        let span = Span { warm_up: WARM_UP, measured: run.options.length() / TURNS, until: None };
        for who in [0, 1, 1, 0].into_iter().filter(|who| *who < contenders.len()) {
            let cluster = &contenders[who].cluster;
            outcomes[who].add(&one(cluster, &mut loads[who], clients, span).context(what.clone())?);
            loads[who].verify(&mut cluster.control()?)?;
        }
        for (contender, outcome) in contenders.iter().zip(&outcomes) {
            figures(run, contender.side, &what, "put", outcome, [RatioAtLeast(2.5), RatioAtMost(0.25), Open]);
        }
    }
    for contender in &mut contenders {
        let mut gaps = Vec::new();
        for _ in 0..run.options.kills(KILLS) {
            gaps.push(failover::longest_gap(&mut contender.cluster)?.as_secs_f64());
        }
        let what = "three members, leader killed: longest gap in acknowledged writes";
        run.report.set(contender.side, what, median(&mut gaps), "s", RatioAtMost(1.0 / 3.0));
    }
    Ok(())
}
