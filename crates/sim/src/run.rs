//! One run from its seed: things go wrong for a while, then everything is well again, the cluster must come to rest within
//! a bound, and all that was seen is judged.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use checker::history::Hash;
use replica::GroupId;

use crate::{
    member::Micros,
    trace::Trace,
    world::{Plan, World},
};

/// After all is well, the cluster is at rest within this.
const REST: Micros = 60_000_000;
/// Clients go on for so long after all is well.
const GO_ON: Micros = 2_000_000;
/// Leases that nobody renews are gone after this: the longest time to live, an election, and what is lost on the way.
const LEASES_GO: Micros = 20_000_000;
/// Nothing that ends takes more steps.
const MAX_STEPS: u64 = 3_000_000;

thread_local! {
    /// Where the last panic was, and its words.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics are findings here: they are noted, not printed.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|panic| PANIC.with_borrow_mut(|last| *last = panic.to_string()))));
}

/// What came of a run.
pub struct Verdict {
    pub plan: Plan,
    pub violations: Vec<String>,
    pub trace: Trace,
    /// In words: what happened.
    pub summary: String,
}

/// Runs a plan; a panic is a violation too.
pub fn run(plan: Plan) -> Verdict {
    note_panics();
    let mut world = World::new(plan.clone());
    let ran = catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    let mut violations: Vec<String> = world.violations().cloned().collect();
    let summary = match ran {
        Ok(summary) => summary,
        Err(_) => {
            violations.push(PANIC.with_borrow(|panic| format!("panic: {panic}")));
            "it panicked".to_owned()
        }
    };
    Verdict { plan, violations, trace: world.trace, summary }
}

fn live(world: &mut World) -> String {
    // The first violation is what matters; what follows from it is not looked at.
    let good = |world: &World| world.violations().next().is_none();
    if !until(world, "things went wrong", Micros::MAX, |w| w.chaos.over || !good(w)) || !good(world) {
        return "stopped early".to_owned();
    }
    let healed = world.now;
    if !until(world, "clients went on", Micros::MAX, |w| w.now > healed + GO_ON || !good(w)) || !good(world) {
        return "stopped early".to_owned();
    }
    world.clients_stop = true;
    world.clients.iter_mut().for_each(crate::client::Client::let_go);
    if !until(world, "the cluster came to rest", healed + REST, |w| at_rest(w) || !good(w)) || !good(world) {
        return "stopped early".to_owned();
    }
    let rested = world.now;
    until(world, "leases ended", rested + LEASES_GO, |w| no_leases(w) || !good(w));
    for client in 0..world.clients.len() {
        let look = match world.plan.moves {
            true => crate::nomads::list(client as u32),
            false => world.clients[client].last_look(),
        };
        world.ask(client as u32, look);
    }
    let looked = world.now;
    until(world, "clients looked once more", looked + REST, |w| w.clients.iter().all(|c| c.busy.is_none()) || !good(w));
    until(world, "the cluster came to rest again", looked + REST, |w| at_rest(w) || !good(w));
    finish(world)
}

/// Goes on until something holds; where it does not in time, that is a violation.
fn until(world: &mut World, what: &str, deadline: Micros, holds: impl Fn(&World) -> bool) -> bool {
    for _ in 0..MAX_STEPS {
        if holds(world) {
            return true;
        }
        if world.now > deadline {
            break;
        }
        world.step();
    }
    let state: Vec<String> = world
        .nodes
        .iter()
        .filter(|(_, n)| !n.retired)
        .map(|(id, n)| match &n.running {
            Some(r) => {
                let parts = r.parts.iter().map(|part| format!("{:?} applied {}", part.standing, part.machine.index));
                format!("{id}: {}", parts.collect::<Vec<_>>().join(" and "))
            }
            None => format!("{id}: down"),
        })
        .collect();
    let busy: Vec<u32> = world.clients.iter().filter(|c| c.busy.is_some()).map(|c| c.id).collect();
    let text = format!("progress: it did not come to pass that {what}; {}; clients wait: {busy:?}", state.join(", "));
    world.violated(text);
    false
}

/// Every member runs, has applied the same, and nobody waits.
fn at_rest(world: &World) -> bool {
    (0..world.plan.groups).all(|group| group_rests(world, group))
        && world.operator.content
        && world.latest(0).is_some_and(|m| m.shards.plans().next().is_none())
        && world.clients.iter().all(|c| c.busy.is_none())
}

fn group_rests(world: &World, group: GroupId) -> bool {
    let Some(leader) = world.leader(group) else { return false };
    let leader = world.nodes[&leader].running.as_ref().expect("it leads");
    let group = group as usize;
    let commit = leader.core.groups()[group].raft.brief().3;
    let members = leader.parts[group].machine.members.iter().count();
    let running: Vec<_> = world.nodes.values().filter(|n| !n.retired).collect();
    running.len() == members
        && running.iter().all(|n| n.running.as_ref().is_some_and(|r| r.parts[group].machine.index == commit))
}

fn no_leases(world: &World) -> bool {
    let none = |group| world.latest(group).is_some_and(|m| m.kv.leases().count() == 0);
    at_rest(world) && (0..world.plan.groups).all(none)
}

fn finish(world: &mut World) -> String {
    for client in 0..world.clients.len() {
        if let Some(watching) = world.clients[client].watch.take() {
            if world.plan.moves {
                let told = world.clients[client].told.as_ref().filter(|_| watching.last_at < world.now);
                let verdict = told.map_or(Ok(()), |told| world.nomads.ended(&watching.record.keys, told));
                world.hold("watch of moving keys", verdict.map_err(|what| format!("client {client}: {what}")));
                continue;
            }
            let group = client % world.plan.groups as usize;
            world.histories[group].watches.push(watching.record);
        }
    }
    let reports: Vec<String> = (0..world.plan.groups).map(|group| judge(world, group)).collect();
    let written: u64 = world.clients.iter().map(|c| c.written).sum();
    let starts: u64 = world.nodes.values().map(|n| n.incarnation).sum();
    let nodes = world.nodes.len();
    format!("{}; {written} writes by clients, {starts} starts of {nodes} members", reports.join("; "))
}

/// What is said of one group at the end.
fn judge(world: &mut World, group: GroupId) -> String {
    let place = group as usize;
    let ids: Vec<u64> = world.nodes.iter().filter(|(_, n)| !n.retired).map(|(id, _)| *id).collect();
    let mut hashes = Vec::new();
    for id in ids {
        let Some(running) = world.nodes[&id].running.as_ref() else { continue };
        let machine = &running.parts[place].machine;
        world.invariants[place].finished(id, machine.index);
        let Ok(mut query) = mvcc::HashQuery::new(&machine.kv, 0) else { continue };
        while !query.step(&machine.kv, usize::MAX).expect("nothing replaces the state meanwhile") {}
        let hash = query.finish();
        hashes.push((hash.revision, hash.hash, id));
        world.histories[place].hashes.push(Hash {
            at: world.now,
            member: id,
            revision: hash.hash_revision,
            compact_revision: hash.compact_revision,
            hash: hash.hash,
        });
    }
    if let Some(first) = hashes.first()
        && let Some(other) = hashes.iter().find(|h| (h.0, h.1) != (first.0, first.1))
    {
        world.violated(format!("replicas: hashes differ at the end: {first:?} and {other:?}"));
    }
    world.histories[place].settings.lease_late = 3_600_000_000;
    let report = checker::check(&world.histories[place]);
    for finding in &report.findings {
        world.violated(format!("{}: {}", finding.invariant, finding.message));
    }
    report.to_string()
}
