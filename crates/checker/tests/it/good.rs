//! Right histories pass, whatever their seed; they survive being written down; many operations are checked quickly.

use checker::{check, history::Outcome, jsonl};
use proptest::prelude::*;

use crate::generate::{SMALL, Shape, history};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_a_right_store_did_passes(seed: u64) {
        let history = history(seed, SMALL);
        let report = check(&history);
        prop_assert!(report.is_good(), "seed {seed}: {report}\n{}", jsonl::write(&history));
    }

    #[test]
    fn a_history_survives_being_written_down(seed: u64) {
        let mut once = history(seed, Shape { operations: 40, ..SMALL });
        once.operations.sort_by_key(|operation| (operation.invoked, operation.id));
        once.watches.sort_by_key(|watch| watch.id);
        let mut again = jsonl::read(&jsonl::write(&once)).unwrap();
        again.operations.sort_by_key(|operation| (operation.invoked, operation.id));
        again.watches.sort_by_key(|watch| watch.id);
        prop_assert_eq!(again, once);
    }

    /// An answer that is not what the store gave is found, wherever it is.
    #[test]
    fn a_changed_answer_is_found(seed: u64, place: prop::sample::Index) {
        use checker::history::Answer;
        let mut history = history(seed, SMALL);
        let shows = |o: &&mut checker::history::Operation| matches!(
            o.response().map(|r| &r.answer),
            Some(Answer::Range { kvs, .. }) if !kvs.is_empty()
        );
        let mut reads: Vec<_> = history.operations.iter_mut().filter(shows).collect();
        prop_assume!(!reads.is_empty());
        let index = place.index(reads.len());
        let operation = &mut reads[index];
        let id = operation.id;
        if let Outcome::Done(response) = &mut operation.outcome
            && let Answer::Range { kvs, .. } = &mut response.answer
        {
            kvs[0].value.push('!');
        }
        let report = check(&history);
        let named = report.findings.iter().any(|finding| finding.operations.contains(&id));
        prop_assert!(named, "seed {seed}, operation {id}: {report}");
    }

    /// A watch that loses any one event is found, unless it was the last that it has seen, or it came of a write whose
    /// answer was lost too: of that one nobody else might know.
    #[test]
    fn a_lost_event_is_found(seed: u64, answers_are_lost: bool, place: prop::sample::Index) {
        let lost_answers = if answers_are_lost { SMALL.lost } else { 0 };
        let mut history = history(seed, Shape { lost: lost_answers, ..SMALL });
        let mut places: Vec<(usize, usize, usize)> = Vec::new();
        for (w, watch) in history.watches.iter().enumerate() {
            for (r, response) in watch.responses.iter().enumerate() {
                places.extend((0..response.events.len()).map(|e| (w, r, e)));
            }
        }
        prop_assume!(!places.is_empty());
        let (w, r, e) = places[place.index(places.len())];
        let lost = history.watches[w].responses[r].events.remove(e);
        prop_assume!(history.watches[w].passed() >= lost.kv.mod_revision);
        let told = history.operations.iter().any(|operation| operation.written() == Some(lost.kv.mod_revision));
        prop_assume!(told || !answers_are_lost);
        prop_assert!(!check(&history).is_good(), "seed {seed}: watch {w} lost {lost}");
    }
}

#[test]
fn twenty_thousand_operations_are_checked_in_seconds() {
    let shape = Shape { operations: 33_000, clients: 10, keys: 16, lost: 2, watches: 8, late_reads: false };
    let history = history(7, shape);
    #[expect(clippy::disallowed_methods, reason = "a measurement of this test's own")]
    let began = std::time::Instant::now();
    let report = check(&history);
    let took = began.elapsed();
    println!("{report} in {took:?}");
    assert!(report.is_good(), "{report}");
    assert!(report.operations >= 20_000, "{report}");
    // A debug build on a machine that others use as well; see the crate's documentation for the aim.
    assert!(took.as_secs() < 20, "{took:?}");
}
