//! No revision is used twice, and what one client does one after the other has revisions that do not go back.
//!
//! Both follow from linearizability as well; said by themselves they name the fault and not its consequences. A client's
//! serializable reads are held to it as long as it asks one member, since a member's own store does not go back (a member
//! whose data were erased is a new one, with another number).

use std::collections::BTreeMap;

use crate::{
    Finding, History,
    history::{Operation, Revision},
    report::Findings,
};

pub(crate) fn check(history: &History, all: &mut Vec<Finding>) {
    let mut findings = Findings::new("revisions", all);
    unique(history, &mut findings);
    growing(history, &mut findings);
}

fn unique(history: &History, findings: &mut Findings<'_>) {
    let mut writers: BTreeMap<Revision, &Operation> = BTreeMap::new();
    for operation in &history.operations {
        let Some(revision) = operation.written() else { continue };
        if let Some(other) = writers.insert(revision, operation) {
            let message = format!("revision {revision} was given twice: to {other} and to {operation}");
            findings.add(vec![other.id, operation.id], message);
        }
    }
}

fn growing(history: &History, findings: &mut Findings<'_>) {
    let mut clients: BTreeMap<u32, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|o| o.is_kv() && o.response().is_some()) {
        clients.entry(operation.client).or_default().push(operation);
    }
    for operations in clients.values_mut() {
        operations.sort_by_key(|operation| operation.invoked);
        // By the member for what may be late, and over all members (0) for what may not.
        let mut newest: BTreeMap<u64, &Operation> = BTreeMap::new();
        for operation in operations.iter() {
            let seen = |of: &Operation| of.response().map_or(0, |response| response.revision);
            let scopes = [Some(operation.member), (!operation.is_serializable()).then_some(0)];
            for scope in scopes.into_iter().flatten() {
                let before = newest.entry(scope).or_insert(operation);
                if seen(before) > seen(operation) && before.returned < operation.invoked {
                    let message = format!("client {} went back: {before}, then {operation}", operation.client);
                    findings.add(vec![before.id, operation.id], message);
                } else if seen(operation) >= seen(before) {
                    *before = operation;
                }
            }
        }
    }
}
