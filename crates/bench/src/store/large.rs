//! A million keys and a million old revisions: memory, the time until a restarted server serves, and what compaction
//! does to writes. Each server is alone here, on a fresh folder.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    Run,
    drive::Span,
    loads::{Order, Puts},
    server::{Cluster, Program},
    single::{WARM_UP, fill, one},
};
use crate::report::{Goal::*, Side};

const CLIENTS: usize = 64;
/// Revisions of each key, for compaction.
const ROUNDS: u32 = 10;
/// Writes are watched at least so long after compaction was asked for, because it may be over at once.
const AT_LEAST: Duration = Duration::from_secs(2);

pub fn million(run: &mut Run<'_>) -> anyhow::Result<()> {
    for (side, program) in run.programs() {
        memory(run, side, &program)?;
    }
    Ok(())
}

fn memory(run: &mut Run<'_>, side: Side, program: &Program) -> anyhow::Result<()> {
    let (dir, keys) = (run.folder()?, run.options.many());
    let mut cluster = Cluster::start(program, dir.path(), 1)?;
    let mut puts = Puts::new(b"many", keys, 1_000, Order::Rounds(u64::from(keys)));
    fill(&cluster, &mut puts)?;
    let loaded = cluster.resident()?;
    ensure!(cluster.control()?.count()? == i64::from(keys), "not all keys are there");
    cluster.stop(0)?;
    let took = cluster.start_again(0)?;
    let mut control = cluster.control()?;
    ensure!(control.count()? == i64::from(keys), "not all keys are there after the restart");
    puts.verify(&mut control)?;
    let what = run.options.many_in_words();
    run.report.set(side, &format!("{what} keys: memory after load"), loaded, "MB", RatioAtMost(0.5));
    run.report.set(side, "  memory after restart", cluster.resident()?, "MB", RatioAtMost(0.5));
    run.report.set(side, "  restart to serving", took.as_secs_f64(), "s", RatioAtMost(1.0 / 3.0));
    Ok(())
}

pub fn compaction(run: &mut Run<'_>) -> anyhow::Result<()> {
    for (side, program) in run.programs() {
        compact(run, side, &program)?;
    }
    Ok(())
}

fn compact(run: &mut Run<'_>, side: Side, program: &Program) -> anyhow::Result<()> {
    let (dir, revisions) = (run.folder()?, run.options.many());
    let cluster = Cluster::start(program, dir.path(), 1)?;
    let mut old = Puts::new(b"olds", revisions / ROUNDS, 1_000, Order::Rounds(u64::from(revisions)));
    fill(&cluster, &mut old)?;
    let mut load = Puts::new(b"news", 100_000, CLIENTS, Order::Random);
    let span = Span { warm_up: WARM_UP, measured: run.options.rest(), until: None };
    let rest = one(&cluster, &mut load, CLIENTS, span)?;

    let done = AtomicBool::new(false);
    let (busy, took) = std::thread::scope(|scope| {
        let compaction = scope.spawn(|| {
            let began = Instant::now();
            let outcome = cluster.control().and_then(|mut control| control.compact());
            done.store(true, Ordering::Release);
            outcome.map(|()| began.elapsed())
        });
        let span = Span { warm_up: Duration::ZERO, measured: AT_LEAST, until: Some(&done) };
        let busy = one(&cluster, &mut load, CLIENTS, span)?;
        anyhow::Ok((busy, compaction.join().ok().context("the compacting thread has panicked")??))
    })?;
    let mut control = cluster.control()?;
    load.verify(&mut control)?;
    old.verify(&mut control)?;
    let (rest, busy) = (rest.latency.quantile(0.99), busy.latency.quantile(0.99));
    let what = format!("put p99 while {} revisions are compacted, over p99 at rest", run.options.many_in_words());
    run.report.set(side, &what, busy / rest, "×", AtMost(1.5));
    run.report.set(side, "  p99 at rest (64 clients)", rest, "ms", Open);
    run.report.set(side, "  p99 while compacting", busy, "ms", Open);
    run.report.set(side, "  compaction took", took.as_secs_f64(), "s", Open);
    Ok(())
}
