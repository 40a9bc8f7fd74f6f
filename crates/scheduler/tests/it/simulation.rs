//! The scheduler against an API in memory that fails it, while nodes, pods and schedulers come and go: everything is drawn
//! from one seed, and the time is the simulation's own.
//!
//! ```text
//!   World ──nodes, pods, gangs──▶ Api ◀──lists, watches, bindings, evictions── scheduler, stopped and started again
//!                                  │ Faults: refused, late, lost, silent
//!                                  ▼
//!                                Judge ──▶ violations      Story ──▶ what a failing seed is understood by
//! ```
//!
//! `SCHEDULER_SIM_SEEDS=5000 cargo test -p scheduler simulation` runs more seeds, from `SCHEDULER_SIM_FROM` on;
//! `SCHEDULER_SIM_SEED=7` runs one and prints its whole story.

#[path = "simulation/api.rs"]
mod api;
#[path = "simulation/cases.rs"]
mod cases;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/judge.rs"]
mod judge;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/story.rs"]
mod story;
#[path = "simulation/world.rs"]
mod world;

use std::{future::Future, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use runtime::{Clock, Tasks};

use api::Api;
use faults::Faults;
use random::Random;
use world::World;

/// Seeds that each of the two tests runs that need not be told any.
const SEEDS: u64 = 50;
/// How far the clock moves at a time.
const TICK: Duration = Duration::from_millis(20);
const QUIET_TICK: Duration = Duration::from_millis(200);
/// A lease is free so long after its holder has stopped.
const TAKEOVER: Duration = Duration::from_secs(15);
/// Pods that no node takes are looked at again after five minutes; then there may be evictions, and pauses.
const QUIET: Duration = Duration::from_secs(7 * 60);

/// A scheduler, its API, and the time.
struct Simulation {
    api: Api,
    clock: Clock,
    root: Tasks,
    schedulers: u32,
    running: Option<Tasks>,
    seed: u64,
}

impl Simulation {
    fn new(seed: u64, faults: Faults, whole_story: bool) -> Self {
        let (clock, root) = (Clock::manual(Timestamp::UNIX_EPOCH), Tasks::root());
        let api = Api::new(faults, whole_story, clock.clone(), root.child("api"));
        let moved = api.clone();
        root.spawn("clock", async move {
            loop {
                let tick = if moved.lock().faults.on { TICK } else { QUIET_TICK };
                tokio::time::sleep(tick).await;
                moved.clock.advance(tick);
            }
        });
        world::collect_garbage(api.clone(), &root);
        Simulation { api, clock, root, schedulers: 0, running: None, seed }
    }

    fn start(&mut self) {
        self.schedulers += 1;
        let tasks = self.root.child("scheduler");
        let client = self.api.client(self.schedulers);
        let metrics = telemetry::Metrics::default();
        let options = scheduler::Options::new(client, self.clock.clone(), tasks.clone(), metrics);
        let options = scheduler::Options { seed: Some(self.seed), ..options };
        scheduler::start(options).unwrap().lead();
        self.running = Some(tasks);
        let number = self.schedulers;
        self.api.change(|state, now| state.story.say(now, format_args!("scheduler {number} starts")));
    }

    /// The scheduler is no more, wherever it was.
    fn stop(&mut self) {
        if let Some(tasks) = self.running.take() {
            tasks.stop();
            let number = self.schedulers;
            self.api.change(|state, now| {
                state.story.say(now, format_args!("scheduler {number} is stopped"));
                state.judge.scheduler_stops(&state.store);
            });
        }
    }

    /// From now on nothing goes wrong, and time passes.
    async fn calm_down(&mut self) {
        self.api.calm();
        if self.running.is_none() {
            self.start();
        }
        tokio::time::sleep(QUIET).await;
    }

    async fn end(mut self) -> Verdict {
        self.api.change(|state, _| state.judge.quiet(&state.store));
        self.stop();
        self.root.stop();
        let failure = self.root.failure().now_or_never();
        let mut state = self.api.lock();
        let mut violations = std::mem::take(&mut state.judge.violations);
        violations.extend(failure.map(|failure| failure.to_string()));
        Verdict { violations, story: state.story.text(), fingerprint: state.story.fingerprint() }
    }
}

struct Verdict {
    violations: Vec<String>,
    story: String,
    fingerprint: u64,
}

/// A seed's whole life.
async fn live(seed: u64, whole_story: bool) -> Verdict {
    let mut random = Random::new(seed);
    let faults = Faults::new(&mut random);
    let mut simulation = Simulation::new(seed, faults, whole_story);
    let mut world = World::new(simulation.api.clone(), random.fork());
    let restarts = random.pick(&[0, 20, 60]).unwrap();
    let hurry = random.pick(&[300, 1500, 4000]).unwrap();
    world.begin();
    simulation.start();
    for _ in 0..random.between(20, 70) {
        tokio::time::sleep(Duration::from_millis(random.between(0, hurry))).await;
        world.act();
        if random.chance(restarts) {
            // In the middle of something, more often than not.
            tokio::time::sleep(Duration::from_millis(random.between(0, 50))).await;
            simulation.stop();
            for _ in 0..random.between(0, 5) {
                world.act();
            }
            tokio::time::sleep(TAKEOVER).await;
            simulation.start();
        }
    }
    simulation.calm_down().await;
    simulation.end().await
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

fn check(seeds: impl IntoIterator<Item = u64>) {
    let mut failed = String::new();
    for seed in seeds {
        let Verdict { violations, story, .. } = run(live(seed, false));
        if violations.is_empty() {
            continue;
        }
        if failed.is_empty() {
            failed = story;
        }
        let replay = format!("SCHEDULER_SIM_SEED={seed} cargo test -p scheduler simulation");
        failed += &format!("seed {seed}: {violations:#?}\nreplay: {replay}\n");
    }
    assert!(failed.is_empty(), "{failed}");
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is to be a number, not {text:?}")))
}

#[test]
fn seeds_0_to_49() {
    check(0..SEEDS);
}

#[test]
fn seeds_50_to_99() {
    check(SEEDS..2 * SEEDS);
}

/// More seeds, or one of them, if the environment says so.
#[test]
fn seeds_that_are_asked_for() {
    if let Some(seed) = number("SCHEDULER_SIM_SEED") {
        let Verdict { violations, story, .. } = run(live(seed, true));
        println!("{story}");
        assert!(violations.is_empty(), "{violations:#?}");
    }
    let from = number("SCHEDULER_SIM_FROM").unwrap_or(2 * SEEDS);
    check(from..from + number("SCHEDULER_SIM_SEEDS").unwrap_or(0));
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..5 {
        let (first, second) = (run(live(seed, true)), run(live(seed, true)));
        let differ = first.story.lines().zip(second.story.lines()).find(|(one, other)| one != other);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}");
    }
}
