//! Who made which revision: the order of all writes, with what each changed.
//!
//! etcd gives every write that changes something the next revision, and tells it in the answer. That turns the search
//! for a linear order, which is exponential in general, into a walk: an acknowledged write stands at its own revision.
//! Only revisions that nobody acknowledges are open, and only two things can have made one: an operation without an
//! answer, or the end of a lease. Such a filler must
//! - have been invoked before any operation that stands later had returned (`floor` below: no returned operation that it
//!   must follow may stand at or after its revision),
//! - change something when it is run there, and
//! - change everything that anybody saw change at that revision; values that are written once settle this at once.
//!
//! Where several fillers remain, they are tried one after the other, those that were asked for last first; what follows
//! decides. The walk first takes all that watches say for true. Only when no order agrees with that, it goes again
//! without: then a watch is wrong, or the store is. This is the search of Wing and Gong with Lowe's memory of failed states: a state is the revision, the
//! keys and the set of fillers used. At each revision the answers of everything that stands there are compared with the
//! state: writes at their own revision; reads, which do not change the state and therefore commute, after the revision
//! in their header. A read of an old revision is compared there. Serializable reads stand there, too: they may be late,
//! but what they show must be the store at the revision that they name.
//!
//! When no filler leads on, the furthest failure is a finding, the revision is taken as it was seen, and the walk goes on
//! behind it, so that the other invariants have something to compare with.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hasher as _},
};

use crate::{
    Finding, History,
    describe::list,
    evidence::{Conflict, Evidence, Witness},
    history::{Event, Operation, Request, Response, Revision},
    linearizability::floors,
    model::State,
    report::Findings,
};

/// Steps that may lead nowhere before the search gives up and says so; each revision has one for free.
pub const MAX_TRIES: usize = 100_000;

/// All revisions after the first, in order.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    first: Revision,
    pub changes: Vec<Change>,
    /// There were so many findings that the rest is not looked at.
    pub is_cut: bool,
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub cause: Cause,
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The operation at this place of the history's list.
    Operation(usize),
    LeaseEnd(i64),
    /// Nothing explains it. That was a finding; what the events say is what was seen.
    Unexplained,
}

impl Timeline {
    pub fn at(&self, revision: Revision) -> Option<&Change> {
        self.changes.get(usize::try_from(revision - self.first - 1).ok()?)
    }

    pub fn last(&self) -> Revision {
        self.first + self.changes.len() as Revision
    }
}

/// Finds the order; what no order explains are findings.
pub(crate) fn build(history: &History, evidence: &Evidence<'_>, all: &mut Vec<Finding>) -> Timeline {
    let mut findings = Findings::new("linearizability", all);
    for Conflict { one, other } in &evidence.conflicts {
        let operations = [one.0, other.0].iter().filter_map(Witness::operation).collect();
        let message = format!("{} saw {}, and {} saw {}: one revision, two values", one.0, one.1, other.0, other.1);
        findings.add(operations, message);
    }
    let search = Search::new(history, evidence);
    let mut timeline = Timeline { first: history.settings.first_revision, ..Timeline::default() };
    let mut state = State::default();
    let mut used = HashSet::new();
    if let Err(failure) = search.answers(&state, timeline.first, None) {
        findings.add(failure.operations, failure.message);
    }
    loop {
        let from = timeline.last();
        let (mut trusting, mut trusting_used) = (state.clone(), used.clone());
        let mut changes = Vec::new();
        if search.walk(&mut trusting, &mut trusting_used, &mut changes, from, true).is_none() {
            timeline.changes.append(&mut changes);
            return timeline;
        }
        let failure = search.walk(&mut state, &mut used, &mut timeline.changes, from, false);
        let Some(failure) = failure else { return timeline };
        findings.add(failure.operations, failure.message);
        let change = search.force(&mut state, timeline.last() + 1);
        timeline.changes.push(change);
        if findings.is_full() {
            timeline.is_cut = true;
            return timeline;
        }
    }
}

/// Why a revision cannot be as it was recorded.
#[derive(Clone)]
struct Failure {
    operations: Vec<u64>,
    message: String,
}

struct Search<'a> {
    history: &'a History,
    evidence: &'a Evidence<'a>,
    /// The acknowledged write of a revision.
    writers: BTreeMap<Revision, usize>,
    /// What else was answered from the state at a revision.
    readers: HashMap<Revision, Vec<usize>>,
    /// Writes without an answer, each with the position that it must come after.
    unknown: Vec<(usize, Revision)>,
}

/// One revision of the path that is being tried.
struct Frame {
    options: Vec<Cause>,
    next: usize,
    chosen: Option<Change>,
    /// What identifies everything that led here.
    memory: u64,
}

impl<'a> Search<'a> {
    fn new(history: &'a History, evidence: &'a Evidence<'a>) -> Self {
        let mut search =
            Search { history, evidence, writers: BTreeMap::new(), readers: HashMap::new(), unknown: Vec::new() };
        let floors = floors(history);
        for (index, operation) in history.operations.iter().enumerate() {
            match operation.response() {
                Some(response) if response.answer.writes() => {
                    search.writers.entry(response.revision).or_insert(index);
                }
                Some(response) if operation.is_kv() => {
                    search.readers.entry(read_at(operation, response)).or_default().push(index);
                }
                None if operation.is_unknown() && may_write(operation) => search.unknown.push((index, floors[index])),
                _ => {}
            }
        }
        search.unknown.sort_by_key(|(index, _)| std::cmp::Reverse(history.operations[*index].invoked));
        search
    }

    /// Goes on from `from` as far as the evidence goes, or to the furthest failure, and leaves the path there.
    fn walk(
        &self,
        state: &mut State,
        used: &mut HashSet<usize>,
        changes: &mut Vec<Change>,
        from: Revision,
        trust: bool,
    ) -> Option<Failure> {
        let mut path: Vec<Frame> = Vec::new();
        let mut dead: HashSet<u64> = HashSet::new();
        let mut furthest: Option<(Vec<Change>, Failure)> = None;
        let mut tries = 0;
        let enough = MAX_TRIES + usize::try_from(self.evidence.last - from).unwrap_or(0);
        let mut memory = 0;
        let mut fail = |path: &[Frame], failure: Failure| {
            if furthest.as_ref().is_none_or(|(best, _)| path.len() > best.len()) {
                furthest = Some((path.iter().filter_map(|frame| frame.chosen.clone()).collect(), failure));
            }
        };
        loop {
            let revision = from + path.len() as Revision + 1;
            if revision > self.evidence.last {
                changes.extend(path.into_iter().filter_map(|frame| frame.chosen));
                return None;
            }
            let options = self.options(state, used, revision, trust);
            if options.is_empty() {
                fail(&path, self.unexplained(revision));
            }
            path.push(Frame { options, next: 0, chosen: None, memory: key(revision, state, memory) });
            // Takes the next option that holds, of this revision or of one before.
            loop {
                let Some(mut frame) = path.pop() else {
                    let gave_up = tries >= enough;
                    return self.furthest(state, used, changes, furthest, gave_up);
                };
                if let Some(change) = frame.chosen.take() {
                    state.undo(&change.events);
                    memory ^= self.release(used, change.cause);
                }
                let alone = frame.options.len() == 1;
                if frame.next == frame.options.len() || tries >= enough || (!alone && dead.contains(&frame.memory)) {
                    dead.insert(frame.memory);
                    continue;
                }
                let cause = frame.options[frame.next];
                frame.next += 1;
                tries += 1;
                let revision = from + path.len() as Revision + 1;
                match self.take(state, revision, cause, trust) {
                    Ok(events) => {
                        memory ^= self.occupy(used, cause);
                        frame.chosen = Some(Change { revision, cause, events });
                        path.push(frame);
                        break;
                    }
                    Err(failure) => {
                        fail(&path, failure);
                        path.push(frame);
                    }
                }
            }
        }
    }

    /// Nothing leads on: puts the furthest path back.
    fn furthest(
        &self,
        state: &mut State,
        used: &mut HashSet<usize>,
        changes: &mut Vec<Change>,
        furthest: Option<(Vec<Change>, Failure)>,
        gave_up: bool,
    ) -> Option<Failure> {
        let (path, mut failure) = furthest?;
        if gave_up {
            failure.message.push_str(&format!(
                " (not everything was tried: the search ended after {MAX_TRIES} steps that led nowhere)"
            ));
        }
        for change in &path {
            state.redo(&change.events);
            self.occupy(used, change.cause);
        }
        changes.extend(path);
        Some(failure)
    }

    /// Who can have made a revision, the likeliest first.
    fn options(&self, state: &mut State, used: &HashSet<usize>, revision: Revision, trust: bool) -> Vec<Cause> {
        if let Some(writer) = self.writers.get(&revision) {
            return vec![Cause::Operation(*writer)];
        }
        let free = self.unknown.iter().filter(|(index, floor)| *floor < 2 * revision && !used.contains(index));
        let leases: Vec<i64> = state.leases().collect();
        let causes = free.map(|(index, _)| Cause::Operation(*index)).chain(leases.into_iter().map(Cause::LeaseEnd));
        let mut options: Vec<Cause> = causes.collect();
        options.retain(|cause| {
            if self.contradicted(revision, *cause) {
                return false;
            }
            let events = self.run(state, revision, *cause);
            state.undo(&events);
            let seen = self.evidence.allows(revision, &events) && (!trust || self.evidence.fits(revision, &events));
            !events.is_empty() && seen
        });
        options
    }

    /// A quick look: a put that was seen at this revision is none of the operation's.
    fn contradicted(&self, revision: Revision, cause: Cause) -> bool {
        let Some(seen) = self.evidence.seen(revision) else { return false };
        let Cause::Operation(index) = cause else { return !seen.puts.is_empty() };
        let puts = self.history.operations[index].puts();
        !seen.puts.values().all(|(_, kv)| puts.iter().any(|put| put.key == kv.key && put.value == kv.value))
    }

    fn run(&self, state: &mut State, revision: Revision, cause: Cause) -> Vec<Event> {
        match cause {
            Cause::Operation(index) => state.apply(&self.history.operations[index].request, revision).1,
            Cause::LeaseEnd(lease) => state.end_lease(lease, revision),
            Cause::Unexplained => Vec::new(),
        }
    }

    /// Makes a revision and compares everything that was answered from it. The state is as before when that fails.
    fn take(&self, state: &mut State, revision: Revision, cause: Cause, trust: bool) -> Result<Vec<Event>, Failure> {
        let events = match cause {
            Cause::Operation(index) => {
                let operation = &self.history.operations[index];
                let (answer, events) = state.apply(&operation.request, revision);
                if let Some(response) = operation.response()
                    && response.answer != answer
                {
                    state.undo(&events);
                    let message = format!("{operation}, but in the order of revisions its answer is: {answer}");
                    return Err(Failure { operations: vec![operation.id], message });
                }
                events
            }
            other => self.run(state, revision, other),
        };
        if trust && !self.evidence.allows(revision, &events) {
            state.undo(&events);
            return Err(Failure { operations: Vec::new(), message: format!("revision {revision} was seen otherwise") });
        }
        let checked = self.answers(state, revision, Some((cause, &events)));
        checked.inspect_err(|_| state.undo(&events)).map(|()| events)
    }

    /// Compares what was read at a revision with the state there.
    fn answers(&self, state: &State, revision: Revision, change: Option<(Cause, &[Event])>) -> Result<(), Failure> {
        for index in self.readers.get(&revision).into_iter().flatten() {
            let operation = &self.history.operations[*index];
            let Some(response) = operation.response() else { continue };
            let (answer, _) = reading(state, &operation.request, revision);
            if answer != response.answer {
                let mut operations = vec![operation.id];
                let latest = change.map(|(cause, events)| self.name(cause, events, &mut operations));
                let latest = latest.map_or(String::new(), |latest| format!("; revision {revision} is {latest}"));
                let message = format!("{operation}, but the store at revision {revision} answers: {answer}{latest}");
                return Err(Failure { operations, message });
            }
        }
        Ok(())
    }

    fn name(&self, cause: Cause, events: &[Event], operations: &mut Vec<u64>) -> String {
        match cause {
            Cause::Operation(index) => {
                operations.push(self.history.operations[index].id);
                self.history.operations[index].to_string()
            }
            Cause::LeaseEnd(lease) => format!("the end of lease {lease}: {}", list(events, ", ")),
            Cause::Unexplained => list(events, ", "),
        }
    }

    /// The finding that nobody can have made a revision.
    fn unexplained(&self, revision: Revision) -> Failure {
        let events = self.seen_events(revision);
        let puts = self.evidence.seen(revision).map(|seen| seen.puts.values()).into_iter().flatten();
        let witnesses: BTreeSet<Witness> = puts.map(|(witness, _)| *witness).collect();
        let mut operations: Vec<u64> = witnesses.iter().filter_map(Witness::operation).collect();
        let wrote = |operation: &&Operation| {
            let mut puts = events.iter().filter(|event| !event.deleted);
            puts.any(|event| operation.puts().iter().any(|p| p.key == event.kv.key && p.value == event.kv.value))
        };
        let authors: Vec<&Operation> = self.history.operations.iter().filter(wrote).collect();
        operations.extend(authors.iter().map(|operation| operation.id));
        let witnesses: Vec<&Witness> = witnesses.iter().collect();
        let by = if witnesses.is_empty() { String::new() } else { format!(" by {}", list(&witnesses, " and ")) };
        let compare = if authors.is_empty() { String::new() } else { format!("; compare {}", list(&authors, " and ")) };
        let message = format!(
            "no acknowledged write has revision {revision}, and no write without an answer and no end of a lease explains \
             it; seen at it: {}{by}{compare}",
            list(&events, ", ")
        );
        Failure { operations, message }
    }

    fn seen_events(&self, revision: Revision) -> Vec<Event> {
        let Some(seen) = self.evidence.seen(revision) else { return Vec::new() };
        let puts = seen.puts.values().map(|(_, kv)| Event { kv: kv.clone(), deleted: false, prev: None });
        let gone =
            |key: &String| crate::history::KeyValue { key: key.clone(), mod_revision: revision, ..Default::default() };
        puts.chain(seen.deletes.iter().map(|key| Event { kv: gone(key), deleted: true, prev: None })).collect()
    }

    /// Takes a revision as it was recorded, wrong or not.
    fn force(&self, state: &mut State, revision: Revision) -> Change {
        if let Some(writer) = self.writers.get(&revision) {
            let cause = Cause::Operation(*writer);
            let events = self.run(state, revision, cause);
            return Change { revision, cause, events };
        }
        let mut events = self.seen_events(revision);
        events.iter_mut().for_each(|event| event.prev = state.get(&event.kv.key).cloned());
        state.redo(&events);
        Change { revision, cause: Cause::Unexplained, events }
    }

    fn occupy(&self, used: &mut HashSet<usize>, cause: Cause) -> u64 {
        let Cause::Operation(index) = cause else { return 0 };
        if !self.history.operations[index].is_unknown() {
            return 0;
        }
        used.insert(index);
        digest(&index)
    }

    fn release(&self, used: &mut HashSet<usize>, cause: Cause) -> u64 {
        let Cause::Operation(index) = cause else { return 0 };
        if used.remove(&index) { digest(&index) } else { 0 }
    }
}

/// Runs a request that changed nothing, on a copy if it might.
fn reading(state: &State, request: &Request, revision: Revision) -> (crate::history::Answer, Vec<Event>) {
    match request {
        Request::Range(range) => (state.range(range), Vec::new()),
        other => state.clone().apply(other, revision + 1),
    }
}

/// The revision at whose state an answer that wrote nothing was made.
fn read_at(operation: &Operation, response: &Response) -> Revision {
    match &operation.request {
        Request::Range(range) if range.revision > 0 => range.revision,
        _ => response.revision,
    }
}

fn may_write(operation: &Operation) -> bool {
    match &operation.request {
        Request::Put(_) | Request::Delete(_) => true,
        Request::Txn(txn) => {
            let writes = |step: &crate::history::Step| !matches!(step, crate::history::Step::Range(_));
            txn.success.iter().chain(&txn.failure).any(writes)
        }
        _ => false,
    }
}

fn key(revision: Revision, state: &State, used: u64) -> u64 {
    digest(&(revision, state.digest(), used))
}

fn digest(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
