//! The rows that one member of each gives while both run: they take turns, and who waits is held still, so that what
//! disturbs the machine hits both and what one does in the background does not hit the other.

use std::time::Duration;

use super::{
    Row, Run,
    drive::{self, Load, Outcome, Span},
    fanout,
    loads::{Order, Puts, Random, Reads, Swaps},
    pool::{Pool, connections_for},
    server::Cluster,
};
use crate::report::{Goal, Goal::*, Side};

/// Keys that are written at random, read and listed.
const KEYS: u32 = 100_000;
const KEYS_PREFIX: &[u8; 4] = b"keys";
const LIST_KEYS: u32 = 1_000;
const LIST_CLIENTS: usize = 16;
const WATCHERS: usize = 1_000;
/// Each server's turns; the second pair goes the other way round.
const TURNS: usize = 2;
pub const WARM_UP: Duration = Duration::from_millis(300);

const QUARTER: Goal = RatioAtMost(0.25);
const THIRD: Goal = RatioAtMost(1.0 / 3.0);

/// One server with its name in the report.
struct Contender {
    side: Side,
    cluster: Cluster,
    /// Ended with the value, after the server.
    _dir: tempfile::TempDir,
}

pub fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let rows = [Row::Puts, Row::Gets, Row::Txn, Row::Lists, Row::Watch];
    if !rows.iter().any(|row| run.wants(*row)) {
        return Ok(());
    }
    let mut contenders = Vec::new();
    for (side, program) in run.programs() {
        let dir = run.folder()?;
        let cluster = Cluster::start(&program, dir.path(), 1)?;
        let mut keys = Puts::new(KEYS_PREFIX, KEYS, 1_000, Order::Rounds(u64::from(KEYS)));
        fill(&cluster, &mut keys)?;
        keys.verify(&mut cluster.control()?)?;
        cluster.pause()?;
        contenders.push(Contender { side, cluster, _dir: dir });
    }
    for row in rows {
        run.row(row, |run| match row {
            Row::Puts => puts(run, &contenders),
            Row::Gets => gets(run, &contenders),
            Row::Txn => swaps(run, &contenders),
            Row::Lists => lists(run, &contenders),
            _ => watch(run, &contenders),
        });
    }
    Ok(())
}

/// Carries out a load that ends by itself, by a thousand clients.
pub fn fill(cluster: &Cluster, puts: &mut Puts) -> anyhow::Result<Outcome> {
    let mut pool = Pool::open(&cluster.addresses(), connections_for(1_000))?;
    drive::run(&mut pool, puts, 1_000, Span::ALL, &|| cluster.cpu())
}

fn puts(run: &mut Run<'_>, contenders: &[Contender]) -> anyhow::Result<()> {
    for (clients, goals) in [
        (1, [RatioAtLeast(1.3), Open, Open]),
        (64, [RatioAtLeast(2.0), QUARTER, RatioAtMost(0.5)]),
        (1_000, [RatioAtLeast(2.0), QUARTER, RatioAtMost(0.5)]),
    ] {
        let mut loads: Vec<Puts> =
            contenders.iter().map(|_| Puts::new(b"puts", KEYS, clients, Order::Random)).collect();
        let outcomes = turns(run, contenders, |who, cluster, span| {
            let outcome = one(cluster, &mut loads[who], clients, span)?;
            loads[who].verify(&mut cluster.control()?)?;
            Ok(outcome)
        })?;
        let what = if clients == 1 { "puts, 1 client".to_owned() } else { format!("puts, {clients} clients") };
        tell(run, &what, "put", contenders, &outcomes, goals);
    }
    Ok(())
}

fn gets(run: &mut Run<'_>, contenders: &[Contender]) -> anyhow::Result<()> {
    for (what, serializable) in [("linearizable gets, 64 clients", false), ("serializable gets, 64 clients", true)] {
        let mut load = Reads { prefix: *KEYS_PREFIX, keys: KEYS, each: 1, serializable, random: Random::new(1) };
        let outcomes = turns(run, contenders, |_, cluster, span| one(cluster, &mut load, 64, span))?;
        tell(run, what, "get", contenders, &outcomes, [RatioAtLeast(2.0), THIRD, Open]);
    }
    Ok(())
}

fn swaps(run: &mut Run<'_>, contenders: &[Contender]) -> anyhow::Result<()> {
    let mut loads: Vec<Swaps> = contenders.iter().map(|_| Swaps::new(b"swap", KEYS, 64)).collect();
    let outcomes = turns(run, contenders, |who, cluster, span| one(cluster, &mut loads[who], 64, span))?;
    let goals = [RatioAtLeast(2.0), QUARTER, Open];
    tell(run, "compare-and-put transactions, 64 clients", "transaction", contenders, &outcomes, goals);
    Ok(())
}

fn lists(run: &mut Run<'_>, contenders: &[Contender]) -> anyhow::Result<()> {
    let mut load =
        Reads { prefix: *KEYS_PREFIX, keys: KEYS, each: LIST_KEYS, serializable: false, random: Random::new(2) };
    let outcomes = turns(run, contenders, |_, cluster, span| one(cluster, &mut load, LIST_CLIENTS, span))?;
    let goals = [RatioAtLeast(4.0), RatioAtMost(0.2), Open];
    tell(run, "lists of 1,000 keys, 16 clients", "list", contenders, &outcomes, goals);
    Ok(())
}

fn watch(run: &mut Run<'_>, contenders: &[Contender]) -> anyhow::Result<()> {
    let outcomes = turns(run, contenders, |_, cluster, span| {
        fanout::run(&cluster.addresses(), WATCHERS, span, &|| cluster.cpu())
    })?;
    for (contender, outcome) in contenders.iter().zip(&outcomes) {
        let side = contender.side;
        let what = "watch fan-out to 1,000 watchers";
        run.report.set(side, &format!("{what}: events"), outcome.per_second(), "/s", RatioAtLeast(2.0));
        run.report.set(side, "  server CPU per event", outcome.cpu_each(), "µs", QUARTER);
    }
    Ok(())
}

/// One load on one server, over as many connections as its clients deserve.
pub fn one(cluster: &Cluster, load: &mut impl Load, clients: usize, span: Span<'_>) -> anyhow::Result<Outcome> {
    let mut pool = Pool::open(&cluster.addresses(), connections_for(clients))?;
    drive::run(&mut pool, load, clients, span, &|| cluster.cpu())
}

/// Lets the servers take turns; returns what each has reached in all of its own.
fn turns(
    run: &Run<'_>,
    contenders: &[Contender],
    mut measure: impl FnMut(usize, &Cluster, Span<'_>) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Vec<Outcome>> {
    let span = Span { warm_up: WARM_UP, measured: run.options.length() / TURNS as u32, until: None };
    let mut outcomes: Vec<Outcome> = contenders.iter().map(|_| Outcome::default()).collect();
    for turn in 0..TURNS {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for who in order {
            let cluster = &contenders[who].cluster;
            cluster.resume()?;
            let outcome = measure(who, cluster, span);
            cluster.pause()?;
            outcomes[who].add(&outcome?);
        }
    }
    Ok(outcomes)
}

/// The four figures of a load: calls per second, two quantiles, and the server's processor time for each.
fn tell(
    run: &mut Run<'_>,
    what: &str,
    operation: &str,
    contenders: &[Contender],
    outcomes: &[Outcome],
    goals: [Goal; 3],
) {
    for (contender, outcome) in contenders.iter().zip(outcomes) {
        figures(run, contender.side, what, operation, outcome, goals);
    }
}

pub fn figures(run: &mut Run<'_>, side: Side, what: &str, operation: &str, outcome: &Outcome, goals: [Goal; 3]) {
    let [rate, cpu, p99] = goals;
    // The rows below are told apart by what they belong to.
    let of = |figure: &str| format!("  {figure} ({what})");
    run.report.set(side, what, outcome.per_second(), "/s", rate);
    run.report.set(side, &of("p50"), outcome.latency.quantile(0.5), "ms", Open);
    run.report.set(side, &of("p99"), outcome.latency.quantile(0.99), "ms", p99);
    run.report.set(side, &of(&format!("server CPU per {operation}")), outcome.cpu_each(), "µs", cpu);
}
