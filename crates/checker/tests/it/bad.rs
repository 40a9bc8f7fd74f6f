//! Each way of being wrong, as small as it gets, is found by its own invariant and named. The same history without the
//! fault passes, so that the fault is what is found.

use checker::{
    History, check,
    history::{
        Answer, Compare, Delete, Event, Hash, Is, KeyValue, Keys, Operation, Outcome, Put, Range, Request, Response,
        Revision, Step, Target, Txn, Watch, WatchResponse,
    },
};

/// Builds a history: operation n runs from 10 n to 10 n + 5 ms unless it is said otherwise, by client 1.
#[derive(Default)]
struct Story(History);

impl Story {
    fn with(mut self, request: Request, outcome: Outcome) -> Self {
        let id = self.0.operations.len() as u64 + 1;
        let (invoked, returned) = (id * 10_000, id * 10_000 + 5_000);
        self.0.operations.push(Operation { id, client: 1, member: 1, invoked, returned, request, outcome });
        self
    }

    fn put(self, key: &str, value: &str, revision: Revision) -> Self {
        self.with(put(key, value, 0), done(revision, Answer::Put { prev: None }))
    }

    fn get(self, key: &str, revision: Revision, kvs: &[KeyValue]) -> Self {
        self.with(get(Keys::one(key)), done(revision, shown(kvs)))
    }

    fn delete(self, key: &str, revision: Revision) -> Self {
        let request = Request::Delete(Delete { keys: Keys::one(key), prev_kv: false });
        self.with(request, done(revision, Answer::Delete { deleted: 1, prev: vec![] }))
    }

    /// The latest operation is another client's.
    fn by(mut self, client: u32) -> Self {
        self.0.operations.last_mut().unwrap().client = client;
        self
    }

    fn during(mut self, from_ms: u64, to_ms: u64) -> Self {
        let last = self.0.operations.last_mut().unwrap();
        (last.invoked, last.returned) = (from_ms * 1000, to_ms * 1000);
        self
    }

    fn watch(mut self, responses: Vec<WatchResponse>) -> Self {
        let created = WatchResponse { created: true, revision: 1, ..WatchResponse::default() };
        let id = self.0.watches.len() as u64 + 1;
        self.0.watches.push(Watch {
            id,
            client: 9,
            member: 1,
            keys: Keys::all(),
            start: 2,
            prev_kv: false,
            fragment: false,
            no_put: false,
            no_delete: false,
            responses: [vec![created], responses].concat(),
        });
        self
    }

    fn watch_with(self, change: impl FnOnce(&mut Watch), responses: Vec<WatchResponse>) -> Self {
        let mut story = self.watch(responses);
        change(story.0.watches.last_mut().unwrap());
        story
    }
}

fn put(key: &str, value: &str, lease: i64) -> Request {
    Request::Put(Put { key: key.into(), value: value.into(), lease, prev_kv: false })
}

fn get(keys: Keys) -> Request {
    Request::Range(Range { keys, revision: 0, serializable: false, limit: 0 })
}

fn done(revision: Revision, answer: Answer) -> Outcome {
    Outcome::Done(Response { revision, answer })
}

fn lost() -> Outcome {
    Outcome::Unknown("timeout".into())
}

fn shown(kvs: &[KeyValue]) -> Answer {
    Answer::Range { kvs: kvs.to_vec(), count: kvs.len() as i64 }
}

/// A key with its creation, its newest revision and its version.
fn kv(key: &str, value: &str, create_revision: Revision, mod_revision: Revision, version: i64) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, version, lease: 0 }
}

fn came(revision: Revision, events: &[Event]) -> WatchResponse {
    WatchResponse { revision, events: events.to_vec(), ..WatchResponse::default() }
}

fn happened(kv: KeyValue) -> Event {
    Event { kv, deleted: false, prev: None }
}

fn gone(key: &str, revision: Revision) -> Event {
    Event { kv: KeyValue { key: key.into(), mod_revision: revision, ..KeyValue::default() }, deleted: true, prev: None }
}

fn story() -> Story {
    Story::default()
}

#[track_caller]
fn good(story: Story) {
    let report = check(&story.0);
    assert!(report.is_good(), "{report}");
}

/// The invariant finds it, and its message has these words and names these operations.
#[track_caller]
fn bad(story: Story, invariant: &str, words: &[&str], operations: &[u64]) {
    let report = check(&story.0);
    let fits = |f: &&checker::Finding| f.invariant == invariant && words.iter().all(|word| f.message.contains(word));
    let finding = report.findings.iter().find(fits);
    let finding = finding.unwrap_or_else(|| panic!("{invariant} should say {words:?}: {report}"));
    assert!(operations.iter().all(|id| finding.operations.contains(id)), "{finding:?} should name {operations:?}");
}

#[test]
fn linearizability() {
    let a = || kv("a", "1", 2, 2, 1);
    let b = || kv("a", "2", 2, 3, 2);
    good(story().put("a", "1", 2).get("a", 2, &[a()]).put("a", "2", 3).get("a", 3, &[b()]));
    // A read that is too old for when it was asked.
    bad(
        story().put("a", "1", 2).put("a", "2", 3).get("a", 2, &[a()]).by(2),
        "linearizability",
        &["#3", "is older than #2"],
        &[3, 2],
    );
    // The same while the write was under way is right.
    good(story().put("a", "1", 2).put("a", "2", 3).get("a", 2, &[a()]).by(2).during(21, 24));
    // An answer that is not the state.
    bad(story().put("a", "1", 2).get("a", 2, &[]), "linearizability", &["#2", "answers: a=1"], &[2]);
    bad(story().put("a", "1", 2).get("b", 2, &[kv("b", "x", 2, 2, 1)]), "linearizability", &["#2", "nothing"], &[2]);
    // A version that does not count.
    bad(
        story().put("a", "1", 2).put("a", "2", 3).get("a", 3, &[kv("a", "2", 2, 3, 1)]),
        "linearizability",
        &["#3"],
        &[3],
    );
    // Writes against the order of time.
    bad(story().put("a", "1", 3).put("b", "1", 2), "linearizability", &["#2", "is older than #1"], &[1, 2]);
    // A serializable read may be late, but not wrong.
    let late = |kvs: &[KeyValue]| {
        let request = Request::Range(Range { keys: Keys::one("a"), revision: 0, serializable: true, limit: 0 });
        story().put("a", "1", 2).put("a", "2", 3).with(request, done(2, shown(kvs))).by(2)
    };
    good(late(&[a()]));
    bad(late(&[b()]), "linearizability", &["#3", "serializable"], &[3]);
    // A read of an old revision.
    let old = |kvs: &[KeyValue]| {
        let request = Request::Range(Range { keys: Keys::one("a"), revision: 2, serializable: false, limit: 0 });
        story().put("a", "1", 2).put("a", "2", 3).with(request, done(3, shown(kvs)))
    };
    good(old(&[a()]));
    bad(old(&[b()]), "linearizability", &["#3", "as of 2"], &[3]);
}

#[test]
fn compare_and_put() {
    let txn = |expected| {
        Request::Txn(Txn {
            compare: vec![Compare { key: "a".into(), is: Is::Equal, target: Target::ModRevision(expected) }],
            success: vec![Step::Put(Put { key: "a".into(), value: "x".into(), lease: 0, prev_kv: false })],
            failure: vec![],
        })
    };
    let won = |revision| done(revision, Answer::Txn { succeeded: true, steps: vec![Answer::Put { prev: None }] });
    let failed = |revision| done(revision, Answer::Txn { succeeded: false, steps: vec![] });
    good(story().put("a", "1", 2).with(txn(2), won(3)).with(txn(2), failed(3)));
    // Two win with one expectation.
    bad(story().put("a", "1", 2).with(txn(2), won(3)).with(txn(2), won(4)), "linearizability", &["#3", "false"], &[3]);
    bad(story().put("a", "1", 2).with(txn(2), failed(2)), "linearizability", &["#2", "true"], &[2]);
}

#[test]
fn without_an_answer() {
    let one = || kv("a", "1", 2, 2, 1);
    // It happened, it did not, it happened late.
    good(story().with(put("a", "1", 0), lost()).get("a", 2, &[one()]));
    good(story().with(put("a", "1", 0), lost()).get("a", 1, &[]));
    good(story().with(put("a", "1", 0), lost()).get("a", 1, &[]).get("a", 2, &[one()]));
    // Not before it was asked for.
    bad(
        story().get("a", 2, &[one()]).with(put("a", "1", 0), lost()).by(2),
        "linearizability",
        &["revision 2", "a=1", "compare #2"],
        &[2],
    );
    // Not twice.
    let twice = story().with(put("a", "1", 0), lost()).get("a", 2, &[one()]).get("a", 3, &[kv("a", "1", 2, 3, 2)]);
    bad(twice, "linearizability", &["revision 3", "#1"], &[1]);
    // Not when it was refused.
    let refused = Outcome::Refused("etcdserver: too many requests".into());
    bad(
        story().with(put("a", "1", 0), refused).get("a", 2, &[one()]),
        "linearizability",
        &["revision 2", "refused"],
        &[1],
    );
    // A gap that nobody can have made.
    bad(story().put("a", "1", 2).put("a", "2", 4), "linearizability", &["revision 3"], &[]);
    // Which of two it was shows only later.
    let delete = Request::Delete(Delete { keys: Keys::one("a"), prev_kv: false });
    let two = story().put("a", "1", 2).with(delete, lost()).by(2).with(put("a", "2", 0), lost()).by(3);
    good(two.put("b", "1", 4).get("a", 4, &[kv("a", "2", 2, 3, 2)]));
}

#[test]
fn revisions() {
    bad(story().put("a", "1", 2).put("b", "1", 2), "revisions", &["revision 2 was given twice", "#1", "#2"], &[1, 2]);
    bad(story().put("a", "1", 3).put("b", "1", 2), "revisions", &["client 1 went back", "#1", "#2"], &[1, 2]);
    let late = |member: u64| {
        let request = Request::Range(Range { keys: Keys::one("a"), revision: 0, serializable: true, limit: 0 });
        let mut story = story().put("a", "1", 2).with(request, done(1, shown(&[])));
        story.0.operations[1].member = member;
        story
    };
    good(late(2));
    bad(late(1), "revisions", &["client 1 went back"], &[1, 2]);
}

#[test]
fn durability() {
    let delete = Request::Delete(Delete { keys: Keys::one("a"), prev_kv: false });
    good(story().put("a", "1", 2).with(delete, lost()).put("b", "1", 4).get("a", 4, &[]));
    bad(
        story().put("a", "1", 2).put("b", "1", 3).get("a", 3, &[]),
        "durability",
        &["#1", "put a=1", "is lost", "#3"],
        &[1, 3],
    );
    bad(
        story().put("a", "1", 2).put("a", "2", 3).put("b", "1", 4).get("a", 4, &[kv("a", "1", 2, 2, 1)]),
        "durability",
        &["#2", "is lost", "#4"],
        &[2, 4],
    );
}

#[test]
fn watch() {
    let base = || story().put("a", "1", 2).put("b", "1", 3).delete("a", 4);
    let a = || happened(kv("a", "1", 2, 2, 1));
    let b = || happened(kv("b", "1", 3, 3, 1));
    let end = || gone("a", 4);
    let check = |responses: Vec<WatchResponse>, words: &[&str]| bad(base().watch(responses), "watch", words, &[]);
    good(base().watch(vec![came(2, &[a()]), came(4, &[b(), end()]), came(4, &[])]));
    check(vec![came(3, &[b()]), came(3, &[a()])], &["watch 1", "after an event of revision 3"]);
    check(vec![came(2, &[a()]), came(3, &[a(), b()])], &["came twice"]);
    check(vec![came(2, &[a()]), came(4, &[end()])], &["put of b=1", "never came"]);
    check(vec![came(2, &[a()]), came(4, &[])], &["put of b=1", "never came", "at 4"]);
    check(vec![came(2, &[happened(kv("a", "2", 2, 2, 1))])], &["a=2", "did not happen"]);
    let invented = vec![came(9, &[happened(kv("z", "2", 9, 9, 1))])];
    bad(base().watch(invented), "linearizability", &["revision 9", "z=2", "by watch 1"], &[]);
    check(vec![came(3, &[]), came(3, &[a(), b()])], &["after bookmark 3"]);
    check(vec![came(4, &[a(), b(), end()]), came(3, &[])], &["bookmark 3", "revision 4 was passed"]);
    check(vec![came(1, &[a()])], &["header says revision 1"]);
    // It begins where it is asked to.
    good(base().watch_with(|watch| watch.start = 3, vec![came(3, &[b()])]));
    bad(base().watch_with(|watch| watch.start = 3, vec![came(3, &[a(), b()])]), "watch", &["before revision 3"], &[]);
    bad(base().watch_with(|watch| watch.start = 3, vec![came(4, &[end()])]), "watch", &["b=1", "never came"], &[]);
    // Filters.
    good(base().watch_with(|watch| watch.no_put = true, vec![came(4, &[end()])]));
    bad(
        base().watch_with(|watch| watch.no_delete = true, vec![came(3, &[a(), b()]), came(4, &[end()])]),
        "watch",
        &[],
        &[],
    );
}

#[test]
fn watch_previous_values() {
    let base = || story().put("a", "1", 2).put("a", "2", 3);
    let before = |value: &str| Event { prev: Some(kv("a", value, 2, 2, 1)), ..happened(kv("a", "2", 2, 3, 2)) };
    let first = || came(2, &[happened(kv("a", "1", 2, 2, 1))]);
    let with = |watch: &mut Watch| watch.prev_kv = true;
    good(base().watch_with(with, vec![first(), came(3, &[before("1")])]));
    bad(base().watch_with(with, vec![first(), came(3, &[before("0")])]), "watch", &["a=0", "not a=1"], &[]);
    let none = || vec![first(), came(3, &[happened(kv("a", "2", 2, 3, 2))])];
    bad(base().watch_with(with, none()), "watch", &["came with nothing before it, not a=1"], &[]);
    // What is compacted is not told, and that is right.
    let compact = |story: Story| story.with(Request::Compact { revision: 3 }, done(3, Answer::Done));
    good(compact(base()).watch_with(with, none()));
    // A cancelled watch of what nobody compacted.
    let cancelled = WatchResponse { canceled: true, compact_revision: 3, revision: 3, ..WatchResponse::default() };
    good(compact(base()).watch(vec![cancelled.clone()]));
    bad(base().watch(vec![cancelled]), "watch", &["3 is compacted, and nobody compacted it"], &[]);
}

#[test]
fn watch_atomicity() {
    let steps = ["a", "b"].map(|key| Step::Put(Put { key: key.into(), value: "1".into(), lease: 0, prev_kv: false }));
    let both = Request::Txn(Txn { compare: vec![], success: steps.to_vec(), failure: vec![] });
    let answer = Answer::Txn { succeeded: true, steps: vec![Answer::Put { prev: None }, Answer::Put { prev: None }] };
    let base = || story().with(both.clone(), done(2, answer.clone()));
    let a = came(2, &[happened(kv("a", "1", 2, 2, 1))]);
    let b = came(2, &[happened(kv("b", "1", 2, 2, 1))]);
    bad(base().watch(vec![a.clone(), b.clone()]), "watch", &["put of b=1", "apart from the rest of its revision"], &[]);
    bad(base().watch(vec![a.clone()]), "watch", &["put of b=1", "never came"], &[]);
    let part = WatchResponse { fragment: true, ..a };
    good(base().watch_with(|watch| watch.fragment = true, vec![part.clone(), b.clone()]));
    bad(base().watch(vec![part, b]), "watch", &["none was allowed"], &[]);
}

#[test]
fn lease() {
    let lease = |ttl| Answer::Lease { ttl };
    let grant = || story().with(Request::LeaseGrant { lease: 7, ttl: 1 }, done(1, lease(1)));
    let leased = || KeyValue { lease: 7, ..kv("a", "1", 2, 2, 1) };
    let attached = || grant().with(put("a", "1", 7), done(2, Answer::Put { prev: None }));
    let gone_at = |ms: u64| {
        attached()
            .watch(vec![came(2, &[happened(leased())]), WatchResponse { at: ms * 1000, ..came(3, &[gone("a", 3)]) }])
    };
    good(gone_at(1010));
    bad(gone_at(500), "lease", &["lease 7 ended 510 ms early", "#1"], &[1]);
    let alive = |story: Story| story.with(Request::LeaseKeepAlive { lease: 7 }, done(2, lease(1))).during(900, 905);
    good(alive(gone_at(1901)));
    bad(alive(gone_at(1500)), "lease", &["400 ms early", "keep lease 7 alive"], &[3]);
    // A deposed leader renews what it knows of an old store.
    let stale = |count| {
        let mut story = gone_at(1500).put("b", "1", 4).during(1510, 1520);
        story = story.with(Request::LeaseKeepAlive { lease: 7 }, done(1, lease(1))).during(1200, 1210);
        story.0.settings.stale_renewals_count = count;
        story
    };
    bad(stale(true), "lease", &["700 ms early"], &[4]);
    good(stale(false));
    // Revoked is not early.
    good(gone_at(500).with(Request::LeaseRevoke { lease: 7 }, done(3, Answer::Done)).during(400, 450));
    // It is gone when it has to be.
    let read = |ms| attached().get("a", 2, &[leased()]).during(ms, ms + 1);
    good(read(10_000));
    bad(read(12_000), "lease", &["#3", "must have ended by"], &[3]);
    let revoked = attached().with(Request::LeaseRevoke { lease: 7 }, done(3, Answer::Done)).get("a", 2, &[leased()]);
    bad(revoked, "lease", &["#4", "must have ended"], &[4]);
    // After its end nothing has it.
    bad(
        gone_at(1010).with(put("b", "1", 7), done(4, Answer::Put { prev: None })).during(2000, 2001),
        "lease",
        &["#3", "had ended at revision 3"],
        &[3],
    );
    bad(
        gone_at(1010).with(Request::LeaseKeepAlive { lease: 7 }, done(3, lease(1))).during(2000, 2001),
        "lease",
        &["#3", "had ended"],
        &[3],
    );
}

#[test]
fn replicas() {
    let hash = |member, revision, compact_revision, hash| Hash { at: 0, member, revision, compact_revision, hash };
    let check = |hashes: Vec<Hash>, expected: bool| {
        let report = check(&History { hashes, ..History::default() });
        assert_eq!(report.is_good(), expected, "{report}");
    };
    check(vec![hash(1, 5, 0, 9), hash(2, 5, 0, 9), hash(3, 6, 0, 8)], true);
    check(vec![hash(1, 5, 0, 9), hash(2, 5, 3, 8)], true);
    check(vec![hash(1, 5, 0, 9), hash(2, 5, 0, 8)], false);
}
