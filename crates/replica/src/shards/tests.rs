//! Movers that are replaced at any moment, steps that come late or twice, and clients that write meanwhile.

use bytes::Bytes;
use mvcc::{Command, State};
use proptest::prelude::*;
use store_api::{PutRequest, RangeRequest, StoreError, prefix_end};

use super::{Claim, Held, Plan, ShardStep, Shards, Step, Stepped, Ticket, Told};

const GROUPS: usize = 3;
const KEYS: [&str; 3] = ["/s/a", "/s/b", "/s/c/d"];
const PREFIXES: [&str; 3] = ["/s/", "/s/c/", ""];

struct Group {
    shards: Shards,
    kv: State,
    index: u64,
}

/// Where a mover stands; what it does next follows from what it has heard.
#[derive(Clone, Debug)]
enum Stage {
    Look,
    Frozen(Ticket),
    Receiving(Ticket),
    Copying(Ticket, u64),
    Released(Ticket),
    Open,
    Routed,
}

struct World {
    groups: Vec<Group>,
    /// Proposed steps, and whether the mover of now waits for the answer.
    flying: Vec<(usize, ShardStep, bool)>,
    mover: Option<(Bytes, Plan, Stage)>,
    waiting: bool,
    written: [i64; KEYS.len()],
    random: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let group = |id| Group { shards: Shards::founded(id, &[]), kv: State::default(), index: 1 };
        World {
            groups: (0..GROUPS as u32).map(group).collect(),
            flying: Vec::new(),
            mover: None,
            waiting: false,
            written: [0; KEYS.len()],
            random: seed | 1,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % n
    }

    fn held(&self, group: u32, prefix: &[u8]) -> Held {
        self.groups[group as usize].shards.held(prefix)
    }

    fn propose(&mut self, group: u32, prefix: &Bytes, step: Step) {
        self.flying.push((group as usize, ShardStep { prefix: prefix.clone(), step }, true));
        self.waiting = true;
    }

    /// The mover, which has nothing under way, does what `store` does.
    fn act(&mut self) {
        let Some((prefix, plan, stage)) = self.mover.clone() else {
            let found = self.groups[0].shards.plans().next().map(|(prefix, plan)| (prefix.clone(), *plan));
            self.mover = found.map(|(prefix, plan)| (prefix, plan, Stage::Look));
            return;
        };
        match stage {
            Stage::Look if plan.routed => self.stage(Stage::Routed),
            Stage::Look => {
                let (there, here) = (self.held(plan.to, &prefix), self.held(plan.from, &prefix));
                if matches!(there.claim, Claim::Here { .. }) && there.ticket.plan == plan.id {
                    return self.stage(Stage::Open);
                }
                if matches!(here.claim, Claim::There(_)) && here.ticket.plan == plan.id {
                    return self.stage(Stage::Released(here.ticket));
                }
                self.propose(plan.from, &prefix, Step::Freeze { plan: plan.id });
            }
            Stage::Frozen(ticket) => {
                let floor = self.groups[plan.from as usize].kv.revision();
                self.propose(plan.to, &prefix, Step::Receive(ticket, floor));
            }
            Stage::Receiving(ticket) => self.propose(plan.to, &prefix, Step::Sweep(ticket)),
            Stage::Copying(ticket, number) => {
                let source = &self.groups[plan.from as usize];
                if source.shards.held(&prefix).ticket != ticket {
                    self.mover = None;
                    return;
                }
                let key = if prefix.is_empty() { Bytes::from_static(&[0]) } else { prefix.clone() };
                let range = RangeRequest { key, range_end: prefix_end(&prefix), ..Default::default() };
                let keys = source.kv.range(range).unwrap().kvs;
                match keys.get(number as usize) {
                    Some(kv) => {
                        let step = Step::Keys(ticket, number, Vec::new(), vec![kv.clone()]);
                        self.propose(plan.to, &prefix, step);
                    }
                    None => self.propose(plan.from, &prefix, Step::Release(ticket, plan.to)),
                }
            }
            Stage::Released(ticket) => {
                let floor = self.groups[plan.from as usize].kv.revision();
                self.propose(plan.to, &prefix, Step::Open(ticket, floor));
            }
            Stage::Open => self.propose(0, &prefix, Step::Route { plan: plan.id }),
            Stage::Routed => {
                let ticket = self.held(plan.from, &prefix).ticket;
                self.propose(plan.from, &prefix, Step::Sweep(ticket));
            }
        }
    }

    fn stage(&mut self, next: Stage) {
        if let Some((_, _, stage)) = &mut self.mover {
            *stage = next;
        }
    }

    /// One of the proposed steps is applied.
    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.below(self.flying.len());
        let (group, step, heard) = self.flying[at].clone();
        if self.below(4) == 0 {
            // It comes once more, later.
            self.flying[at].2 = false;
        } else {
            self.flying.swap_remove(at);
        }
        let to = &mut self.groups[group];
        to.index += 1;
        let before = to.shards.clone();
        let answer = to.shards.step(step.clone(), &mut to.kv, to.index, &mut Told::default());
        assert!(answer.is_ok() || to.shards == before, "what is refused changes nothing: {step:?}");
        if heard {
            self.waiting = false;
            self.hear(&step.step, answer);
        }
    }

    fn hear(&mut self, step: &Step, answer: Result<Stepped, StoreError>) {
        let Some((prefix, plan, stage)) = self.mover.clone() else { return };
        let Ok(answer) = answer else {
            self.mover = None;
            return;
        };
        match (stage, step, answer) {
            (_, _, Stepped::Frozen(ticket, _)) => self.stage(Stage::Frozen(ticket)),
            (_, Step::Receive(ticket, _), _) => self.stage(Stage::Receiving(*ticket)),
            (Stage::Receiving(ticket), Step::Sweep(_), Stepped::Swept(false)) => self.stage(Stage::Copying(ticket, 0)),
            (_, Step::Keys(ticket, number, ..), _) => self.stage(Stage::Copying(*ticket, number + 1)),
            (_, Step::Release(ticket, _), _) => self.stage(Stage::Released(*ticket)),
            (_, Step::Open(..), _) => self.stage(Stage::Open),
            (_, Step::Route { .. }, _) => self.stage(Stage::Routed),
            (Stage::Routed, Step::Sweep(_), Stepped::Swept(false)) => {
                self.propose(0, &prefix, Step::Done { plan: plan.id });
            }
            (_, Step::Done { .. }, _) => self.mover = None,
            _ => {}
        }
    }

    /// A client writes, wherever it is let.
    fn write(&mut self) {
        let (group, key) = (self.below(GROUPS), self.below(KEYS.len()));
        let value = (self.written[key] + 1).to_string();
        let put = PutRequest { key: KEYS[key].into(), value: value.into(), ..Default::default() };
        let (command, to) = (Command::Put(put), &mut self.groups[group]);
        if to.shards.admit(&command).is_ok() {
            to.kv.apply(command).response.unwrap();
            self.written[key] += 1;
        }
    }

    fn check(&self) {
        for (key, count) in KEYS.iter().zip(self.written) {
            let serves = |g: &&Group| g.shards.served(key.as_bytes(), &[], true).is_ok();
            assert!(self.groups.iter().filter(serves).count() <= 1, "two groups take writes of {key}");
            for (id, group) in self.groups.iter().enumerate() {
                if group.shards.readable(key.as_bytes(), &[]).is_ok() {
                    let found = group.kv.range(RangeRequest::key(*key)).unwrap().kvs.pop();
                    let (value, version) = found.map_or((Bytes::new(), 0), |kv| (kv.value, kv.version));
                    let expected = if count == 0 { String::new() } else { count.to_string() };
                    assert_eq!((&value[..], version), (expected.as_bytes(), count), "{key} in group {id}");
                }
            }
        }
    }

    /// Everything that is planned comes to its end, with a mover that nobody disturbs.
    fn settle(&mut self) {
        for _ in 0..2000 {
            if self.flying.is_empty() && self.mover.is_none() && self.groups[0].shards.plans().next().is_none() {
                break;
            }
            if self.waiting {
                self.deliver()
            } else {
                self.act()
            }
            if !self.waiting {
                self.flying.clear();
            }
        }
        self.check();
        let plans: Vec<_> = self.groups[0].shards.plans().collect();
        let held: Vec<_> = self.groups.iter().map(|g| g.shards.held.iter().collect::<Vec<_>>()).collect();
        assert!(plans.is_empty(), "not carried out: {plans:?}; {held:?}; {:?} {:?}", self.mover, self.flying);
        for (key, count) in KEYS.iter().zip(self.written) {
            let keeper = self.groups[0].shards.route(key.as_bytes(), &[]).unwrap() as usize;
            assert!(self.groups[keeper].shards.served(key.as_bytes(), &[], true).is_ok(), "{key} is served by nobody");
            for (id, group) in self.groups.iter().enumerate() {
                let there = !group.kv.range(RangeRequest::key(*key)).unwrap().kvs.is_empty();
                assert_eq!(there, id == keeper && count > 0, "{key} in group {id}, kept by {keeper}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]
    #[test]
    fn one_group_at_a_time_serves_a_key_and_has_all_of_it(seed: u64) {
        let mut world = World::new(seed);
        for _ in 0..400 {
            match world.below(16) {
                0 => {
                    // Another mover takes over; what the one before has proposed may still come.
                    world.flying.iter_mut().for_each(|(_, _, heard)| *heard = false);
                    (world.mover, world.waiting) = (None, false);
                }
                1 => {
                    let (prefix, to) = (PREFIXES[world.below(PREFIXES.len())], world.below(GROUPS) as u32);
                    let step = ShardStep { prefix: prefix.into(), step: Step::Plan { to } };
                    world.flying.push((0, step, false));
                }
                2..6 => world.write(),
                6..10 => world.deliver(),
                _ if world.waiting => world.deliver(),
                _ => world.act(),
            }
            world.check();
        }
        world.settle();
    }
}

#[test]
fn an_attempt_that_was_given_up_cannot_begin_again() {
    let (mut source, mut target) = (Shards::founded(0, &[]), Shards::founded(1, &[]));
    let (mut from, mut to) = (State::default(), State::default());
    let put = PutRequest { key: "/s/a".into(), value: "v".into(), ..Default::default() };
    from.apply(Command::Put(put)).response.unwrap();
    let keys = from.range(RangeRequest::key("/s/a")).unwrap().kvs;
    let take = |shards: &mut Shards, kv: &mut State, index, step| {
        shards.step(ShardStep { prefix: "/s/".into(), step }, kv, index, &mut Told::default())
    };
    let late = || Err(StoreError::ShardMoving("/s/".to_owned()));
    let [first, second] = [5, 6].map(|attempt| Ticket { plan: 4, attempt });
    for (index, ticket) in [(5, first), (6, second)] {
        let frozen = take(&mut source, &mut from, index, Step::Freeze { plan: 4 });
        assert_eq!(frozen, Ok(Stepped::Frozen(ticket, 2)), "the place in the log is the attempt");
    }
    assert_eq!(take(&mut target, &mut to, 2, Step::Receive(second, 2)), Ok(Stepped::At(2)));
    assert_eq!(take(&mut target, &mut to, 3, Step::Keys(second, 0, Vec::new(), keys.clone())), Ok(Stepped::At(3)));
    // What was proposed for the first attempt comes now.
    for step in [
        Step::Receive(first, 2),
        Step::Receive(second, 2),
        Step::Sweep(first),
        Step::Keys(first, 0, Vec::new(), keys.clone()),
        Step::Keys(second, 0, Vec::new(), keys),
        Step::Open(first, 0),
    ] {
        assert_eq!(take(&mut target, &mut to, 4, step), late());
    }
    assert_eq!(take(&mut source, &mut from, 7, Step::Release(first, 1)), late());
    assert_eq!(take(&mut source, &mut from, 8, Step::Release(second, 1)), Ok(Stepped::At(2)));
    assert_eq!(take(&mut source, &mut from, 9, Step::Freeze { plan: 4 }), late());
    assert_eq!(take(&mut target, &mut to, 5, Step::Open(second, 0)), Ok(Stepped::At(4)));
    assert_eq!(target.readable(b"/s/a", &[]), Ok(4));
    assert_eq!(to.range(RangeRequest::key("/s/a")).unwrap().kvs.len(), 1);
}

#[test]
fn a_late_sweep_leaves_what_has_come_since() {
    let (mut shards, mut kv) = (Shards::founded(0, &[]), State::default());
    let mut take = |kv: &mut State, index, prefix: &'static str, step| {
        shards.step(ShardStep { prefix: prefix.into(), step }, kv, index, &mut Told::default())
    };
    let all = Ticket { plan: 4, attempt: 5 };
    assert!(take(&mut kv, 5, "/s/", Step::Freeze { plan: 4 }).is_ok());
    assert!(take(&mut kv, 6, "/s/", Step::Release(all, 1)).is_ok());
    assert_eq!(take(&mut kv, 7, "/s/", Step::Sweep(all)), Ok(Stepped::Swept(false)));
    // A part of it comes back.
    let part = Ticket { plan: 8, attempt: 1 };
    let key = store_api::KeyValue { key: "/s/c/d".into(), version: 1, create_revision: 2, ..Default::default() };
    assert!(take(&mut kv, 9, "/s/c/", Step::Receive(part, 1)).is_ok());
    assert!(take(&mut kv, 10, "/s/c/", Step::Keys(part, 0, Vec::new(), vec![key])).is_ok());
    assert!(take(&mut kv, 11, "/s/c/", Step::Open(part, 0)).is_ok());
    let late = Err(StoreError::ShardMoving("/s/".to_owned()));
    assert_eq!(take(&mut kv, 12, "/s/", Step::Sweep(all)), late);
    assert_eq!(kv.range(RangeRequest::key("/s/c/d")).unwrap().kvs.len(), 1);
}
