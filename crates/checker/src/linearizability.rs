//! Operations take effect at one moment between their call and their answer, in one order for all clients.
//!
//! A linear order of all operations explains the history when (1) an operation that returned before another was invoked
//! comes before it, and (2) each answer is what the sequential store gives at that place. etcd's headers name the place:
//! a write stands at its revision r, position 2r; whatever changed nothing and answered with revision r stands after
//! that write and before the next, position 2r + 1. Operations of one such position do not change the state, so any
//! order among them will do, also the one in which they were invoked. Hence (1) is: no operation has a smaller position
//! than one that had returned before it was invoked; one sweep over time checks that, here. (2) is the walk in
//! `timeline`, which also finds places for operations without an answer. Those have no return: nothing must come after
//! them, and they must only come after what had returned before they were invoked, which [`floors`] tells the walk.
//!
//! Serializable reads are left out of (1), because they may be late, and not out of (2).

use crate::{
    Finding, History,
    history::{Operation, Revision},
    report::Findings,
};

pub(crate) fn check(history: &History, all: &mut Vec<Finding>) {
    let mut findings = Findings::new("linearizability", all);
    sweep(history, |before, index| {
        let operation = &history.operations[index];
        let (Some(before), Some(position)) = (before, position(operation)) else { return };
        if self::position(before).is_some_and(|earlier| earlier > position) {
            let message = format!("{operation} is older than {before}, which had returned before it was invoked");
            findings.add(vec![operation.id, before.id], message);
        }
    });
}

/// For each operation in the history's list the greatest position that anything has which returned before it was
/// invoked; 0 when there is none.
pub(crate) fn floors(history: &History) -> Vec<Revision> {
    let mut floors = vec![0; history.operations.len()];
    sweep(history, |before, index| floors[index] = before.and_then(position).unwrap_or(0));
    floors
}

/// Where an operation stands in the order of all, if its answer says so.
fn position(operation: &Operation) -> Option<Revision> {
    let response = operation.response()?;
    if !operation.is_kv() || operation.is_serializable() {
        return None;
    }
    Some(2 * response.revision + Revision::from(!response.answer.writes()))
}

/// Calls `visit` for each operation's place in the list in the order of invocation, with the operation of the greatest position among those
/// that had returned before. What returns at the very time of an invocation is concurrent with it.
fn sweep<'a>(history: &'a History, mut visit: impl FnMut(Option<&'a Operation>, usize)) {
    let mut invoked: Vec<usize> = (0..history.operations.len()).collect();
    invoked.sort_by_key(|index| history.operations[*index].invoked);
    let mut returned: Vec<&Operation> = history.operations.iter().filter(|o| position(o).is_some()).collect();
    returned.sort_by_key(|operation| operation.returned);
    let mut returned = returned.into_iter().peekable();
    let mut greatest: Option<&Operation> = None;
    for index in invoked {
        let now = history.operations[index].invoked;
        while let Some(earlier) = returned.next_if(|earlier| earlier.returned < now) {
            if greatest.is_none_or(|greatest| position(earlier) > position(greatest)) {
                greatest = Some(earlier);
            }
        }
        visit(greatest, index);
    }
}
