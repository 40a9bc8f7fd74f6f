//! Applying, with the bugs that mutations put into it.

use bytes::Bytes;
use mvcc::Command;
use replica::{
    Applied, Base, Batch, Entry, Machine, Request, Response,
    shards::{ShardStep, Step},
    snapshot::Portions,
};

use crate::{member::Scene, mutation::Mutation};

/// So many of a thousand entries are applied wrongly.
const SOMETIMES: u64 = 20;
/// The member that does it.
const CULPRIT: u64 = 1;

/// Applies an entry as [`Machine::apply`] does, or as the mutation wants it.
pub fn apply(
    machine: &mut Machine,
    member: u64,
    entry: &Entry,
    out: &mut Applied,
    scene: &mut Scene<'_>,
) -> Result<(), String> {
    let culprit = member == CULPRIT && !entry.data.is_empty() && entry.context.is_empty();
    match scene.mutation {
        Some(Mutation::EntrySkipped) if culprit && scene.random.chance(SOMETIMES) => {
            (machine.index, machine.term) = (entry.index, entry.term);
            return Ok(());
        }
        Some(Mutation::AppliedTwice) if culprit && scene.random.chance(SOMETIMES) => {
            machine.apply(entry, &mut Applied::default())?;
            machine.index -= 1;
        }
        Some(Mutation::RevocationLost) if member == CULPRIT => {
            return machine.apply(
                &rewritten(entry, |command| match command {
                    Command::LeaseRevoke { .. } => Command::LeaseRevoke { id: -1 },
                    other => other,
                }),
                out,
            );
        }
        Some(Mutation::AttemptsAreNotNumbered) => {
            let renamed = renumbered(entry, machine);
            return machine.apply(&renamed, out);
        }
        Some(Mutation::PermissionsAreNotChecked) => return machine.apply(&anybodys(entry), out),
        Some(Mutation::ComparisonsIgnored) => {
            return machine.apply(
                &rewritten(entry, |command| match command {
                    Command::Txn(mut txn) => {
                        txn.compare.clear();
                        Command::Txn(txn)
                    }
                    other => other,
                }),
                out,
            );
        }
        _ => {}
    }
    machine.apply(entry, out)?;
    if scene.mutation == Some(Mutation::RevisionReused) {
        for (_, answer) in &mut out.answers {
            if let Ok(Response::Kv(mvcc::Response::Put(put))) = answer
                && scene.random.chance(SOMETIMES)
            {
                put.revision -= 1;
            }
        }
    }
    Ok(())
}

/// Commands as if they were the cluster's own.
fn anybodys(entry: &Entry) -> Entry {
    requests(entry, |request| match request {
        Request::KvAs(_, command) => Request::Own(command),
        other => other,
    })
}

/// Steps of moves as if they were those of the last attempt.
fn renumbered(entry: &Entry, machine: &Machine) -> Entry {
    requests(entry, |request| match request {
        Request::Shard(ShardStep { prefix, mut step }) => {
            if let Step::Release(ticket, _) | Step::Sweep(ticket) | Step::Keys(ticket, ..) | Step::Open(ticket, _) =
                &mut step
            {
                *ticket = machine.shards.held(&prefix).ticket;
            }
            Request::Shard(ShardStep { prefix, step })
        }
        other => other,
    })
}

fn rewritten(entry: &Entry, with: impl Fn(Command) -> Command) -> Entry {
    requests(entry, |request| match request {
        Request::Kv(command) => Request::Kv(with(command)),
        Request::Own(command) => Request::Own(with(command)),
        Request::KvAs(caller, command) => Request::KvAs(caller, with(command)),
        other => other,
    })
}

fn requests(entry: &Entry, with: impl Fn(Request) -> Request) -> Entry {
    let mut entry = entry.clone();
    if entry.data.is_empty() || !entry.context.is_empty() {
        return entry;
    }
    let mut batch = Batch::default();
    for (id, bytes) in Batch::read(entry.data.clone()).flatten() {
        let bytes = Request::decode(Bytes::copy_from_slice(&bytes)).map_or(bytes, |request| with(request).encode());
        batch.push(id, &bytes);
    }
    entry.data = batch.take();
    entry
}

/// The first portion of a snapshot, with nobody in it.
pub fn without_members(out: &mut Vec<u8>, base: &Base) {
    let nobody = Machine { index: base.index, term: base.term, ..Default::default() };
    out.clear();
    let mut portions = Portions::new(&nobody);
    portions.next(&nobody, out);
    portions.finish();
}
