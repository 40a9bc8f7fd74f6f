//! On tiny histories the checker agrees with a search that tries every order of the operations, every choice of those
//! without an answer, and knows nothing of what a revision means beyond the model's count.

use checker::{
    History, check,
    history::{Answer, Operation, Outcome, Request, Response, Revision},
    model::State,
};
use proptest::prelude::*;

use crate::generate::{Dice, Shape, history};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn the_verdict_is_that_of_trying_everything(seed: u64) {
        let shape = Shape { operations: 16, clients: 3, keys: 2, lost: 25, watches: 0, late_reads: false };
        let mut history = history(seed, shape);
        history.operations.retain(|operation| {
            operation.is_kv() && !operation.is_serializable() && !matches!(&operation.request, Request::Range(r) if r.revision > 0)
        });
        history.operations.sort_by_key(|operation| operation.invoked);
        history.operations.truncate(7);
        history.hashes.clear();
        // The end of a lease is a filler that the other search does not know.
        prop_assume!(history.operations.iter().all(|o| o.puts().iter().all(|put| put.lease == 0)));
        distort(&mut history, &mut Dice(seed ^ 1));
        let checked = check(&history);
        prop_assert_eq!(checked.is_good(), explained(&history), "seed {}: {}", seed, checked);
    }
}

/// Half of the histories stay right; the others are changed in one place, which may make them wrong.
fn distort(history: &mut History, dice: &mut Dice) {
    if history.operations.is_empty() || dice.chance(50) {
        return;
    }
    let index = dice.within(0, history.operations.len() as u64) as usize;
    let operation = &mut history.operations[index];
    match dice.within(0, 4) {
        0 => {
            let later = dice.within(0, 80_000);
            operation.invoked += later;
            operation.returned += later;
        }
        1 => operation.outcome = Outcome::Refused("not really".to_owned()),
        2 => {
            if let Outcome::Done(response) = &mut operation.outcome {
                response.revision += 1;
            }
        }
        _ => {
            if let Outcome::Done(Response { answer: Answer::Range { kvs, count }, .. }) = &mut operation.outcome {
                kvs.clear();
                *count = 0;
            }
        }
    }
}

fn explained(history: &History) -> bool {
    let left: Vec<&Operation> = history.operations.iter().collect();
    place(&left, &mut State::default(), 1)
}

/// Whether some order of what is left explains all its answers.
fn place(left: &[&Operation], state: &mut State, revision: Revision) -> bool {
    if left.iter().all(|operation| operation.response().is_none()) {
        return true;
    }
    for (index, operation) in left.iter().enumerate() {
        // Nothing that is left may have returned before this one was invoked: it would have to come first.
        let must_wait = |other: &&&Operation| other.response().is_some() && other.returned < operation.invoked;
        if matches!(operation.outcome, Outcome::Refused(_)) || left.iter().any(|other| must_wait(&other)) {
            continue;
        }
        let (answer, events) = state.apply(&operation.request, revision + 1);
        let after = if events.is_empty() { revision } else { revision + 1 };
        let holds = operation.response().is_none_or(|r| r.answer == answer && r.revision == after);
        let mut rest = left.to_vec();
        rest.remove(index);
        let explained = holds && place(&rest, state, after);
        state.undo(&events);
        if explained {
            return true;
        }
    }
    false
}
