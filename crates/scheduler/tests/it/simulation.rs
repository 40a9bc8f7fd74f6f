//! The scheduler against an API in memory that fails it, while nodes, pods and schedulers come and go: everything is drawn
//! from one seed, and the time is the simulation's own.
//!
//! ```text
//!   World ──nodes, pods, gangs, devices, volumes──▶ Api ◀──lists, watches, writes── scheduler, stopped and started again,
//!   Claims, Storage, Kubelet ◀────what others do────▶ │ Faults: refused, late,        sometimes beside one that should have stopped
//!                                                     │ lost, silent
//!                                                     ▼
//!                                                   Judge ──▶ violations     Story ──▶ what a failing seed is understood by
//! ```
//!
//! `SCHEDULER_SIM_SEEDS=5000 cargo test -p scheduler simulation` runs more seeds, from `SCHEDULER_SIM_FROM` on;
//! `SCHEDULER_SIM_SEED=7` runs one and prints its whole story.

#[path = "simulation/api.rs"]
mod api;
#[path = "simulation/cases.rs"]
mod cases;
#[path = "simulation/claims.rs"]
mod claims;
#[path = "simulation/devices.rs"]
mod devices;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/judge.rs"]
mod judge;
#[path = "simulation/kubelet.rs"]
mod kubelet;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/storage.rs"]
mod storage;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/story.rs"]
mod story;
#[path = "simulation/volumes.rs"]
mod volumes;
#[path = "simulation/world.rs"]
mod world;

use std::{future::Future, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use runtime::{Clock, Tasks};

use api::Api;
use faults::Faults;
use judge::budgets::placed;
use random::Random;
use world::World;

/// Seeds that each of the two tests runs that need not be told any.
const SEEDS: u64 = 50;
/// How far the clock moves at a time.
const TICK: Duration = Duration::from_millis(20);
const QUIET_TICK: Duration = Duration::from_millis(200);
/// A lease is free so long after its holder has stopped.
const TAKEOVER: Duration = Duration::from_secs(15);
/// The longest part of the time, in milliseconds, that a scheduler does not notice that another leads; there are several.
const UNNOTICED: u64 = 2500;
/// Pods that no node takes are looked at again after five minutes; then there may be evictions, and pauses.
const QUIET: Duration = Duration::from_secs(7 * 60);
/// Then evictions are written within this, which is less than the victims' grace.
const EVICTIONS: Duration = Duration::from_secs(2);
/// And their room is taken within this.
const ROOM: Duration = Duration::from_secs(20);

/// A scheduler, its API, and the time.
struct Simulation {
    api: Api,
    clock: Clock,
    root: Tasks,
    schedulers: u32,
    /// Those that lead or believe that they do, the oldest first.
    running: Vec<Scheduler>,
    seed: u64,
}

struct Scheduler {
    number: u32,
    tasks: Tasks,
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
        Simulation { api, clock, root, schedulers: 0, running: Vec::new(), seed }
    }

    fn start(&mut self) {
        self.schedulers += 1;
        let tasks = self.root.child("scheduler");
        let client = self.api.client(self.schedulers);
        let metrics = telemetry::Metrics::default();
        let options = scheduler::Options::new(client, self.clock.clone(), tasks.clone(), metrics);
        // Two schedulers need not choose the same among equal nodes.
        let options = scheduler::Options { seed: Some(self.seed + u64::from(self.schedulers)), ..options };
        scheduler::start(options).unwrap().lead();
        let number = self.schedulers;
        self.running.push(Scheduler { number, tasks });
        self.api.change(|state, now| {
            state.story.say(now, format_args!("scheduler {number} starts"));
            state.judge.scheduler_starts(number);
        });
    }

    /// The oldest scheduler is no more, wherever it was.
    fn stop(&mut self) {
        if !self.running.is_empty() {
            self.stop_one(0);
        }
    }

    fn stop_one(&mut self, at: usize) {
        let Scheduler { number, tasks } = self.running.remove(at);
        tasks.stop();
        self.api.change(|state, now| {
            state.story.say(now, format_args!("scheduler {number} is stopped"));
            state.judge.scheduler_stops(number, &state.store);
        });
    }

    /// Another scheduler has the lease, and the one before it has not noticed yet. When it does, it stops; unless the new one
    /// has crashed by then, and nobody is left for a while.
    async fn take_over(&mut self, world: &mut World, random: &mut Random) {
        self.start();
        let crashes = random.chance(250);
        for _ in 0..random.between(1, 8) {
            tokio::time::sleep(Duration::from_millis(random.between(0, UNNOTICED))).await;
            world.act();
        }
        if crashes {
            self.stop_one(1);
            tokio::time::sleep(Duration::from_millis(random.between(0, UNNOTICED))).await;
        }
        self.stop();
        if crashes {
            tokio::time::sleep(TAKEOVER).await;
            self.start();
        }
    }

    /// From now on nothing goes wrong, and time passes.
    async fn calm_down(&mut self) {
        self.api.calm();
        if self.running.is_empty() {
            self.start();
        }
        tokio::time::sleep(QUIET).await;
    }

    /// All is quiet, and somebody important comes.
    async fn see_evictions(&mut self, world: &mut World) {
        let before = placed(&self.api.lock().store);
        let important = world.add_important_pod();
        tokio::time::sleep(EVICTIONS).await;
        self.api.change(|state, _| state.judge.important_pod_evicts(&important, &before, &state.store));
        tokio::time::sleep(ROOM).await;
        self.api.change(|state, _| state.judge.important_pod_is_there(&important, &state.store));
    }

    fn judge_the_quiet(&self) {
        self.api.change(|state, _| state.judge.quiet(&state.store));
    }

    fn end(mut self) -> Verdict {
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
    let mut world = World::new(simulation.api.clone(), &simulation.root, random.fork());
    if world.has_devices {
        claims::control(simulation.api.clone(), &simulation.root, random.fork());
    }
    if world.has_volumes {
        storage::control(simulation.api.clone(), &simulation.root, random.fork());
    }
    let restarts = random.pick(&[0, 20, 60]).unwrap();
    let takeovers = random.pick(&[0, 0, 20, 60]).unwrap();
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
        } else if random.chance(takeovers) {
            simulation.take_over(&mut world, &mut random).await;
        }
    }
    simulation.calm_down().await;
    simulation.judge_the_quiet();
    simulation.see_evictions(&mut world).await;
    simulation.end()
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
