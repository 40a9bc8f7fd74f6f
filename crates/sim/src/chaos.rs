//! What goes wrong, and when. Each run has its own choice of faults and its own pace, so that also rare combinations
//! come, and runs without one kind show what another does alone.

use replica::{GroupId, Members};

use crate::{
    member::{Input, Micros},
    network::Network,
    random::Random,
    world::{Event, World},
};

/// How long things go wrong.
const LASTS: Micros = 25_000_000;
/// A clock jumps ahead by at most this.
const JUMP: Micros = 1_500_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    PowerCut,
    PowerCutOfAll,
    Kill,
    Pause,
    Partition,
    OneWay,
    BadNetwork,
    ClockJump,
    FullDisk,
    FailingSync,
    Damage,
    Transfer,
}

const ALL: [Fault; 12] = [
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::Kill,
    Fault::Pause,
    Fault::Partition,
    Fault::OneWay,
    Fault::BadNetwork,
    Fault::ClockJump,
    Fault::FullDisk,
    Fault::FailingSync,
    Fault::Damage,
    Fault::Transfer,
];

pub struct Chaos {
    pub random: Random,
    faults: Vec<Fault>,
    pace: Micros,
    pub over: bool,
    /// Whether members come and go by an operator's will.
    pub membership: bool,
}

/// Numbers of [`Event::Quiet`]: the network gets well again; a disk has room again; a watch's connection breaks.
pub const NETWORK: u64 = 0;
const ROOM: u64 = 1_000;
pub const WATCH_ENDS: u64 = 1_000_000;

impl Chaos {
    pub fn new(mut random: Random, members: u64, groups: GroupId) -> Self {
        let mut faults: Vec<Fault> = ALL.into_iter().filter(|_| random.chance(500)).collect();
        if members == 1 {
            let alone = [Fault::Partition, Fault::OneWay, Fault::BadNetwork, Fault::Damage, Fault::Transfer];
            faults.retain(|fault| !alone.contains(fault));
        }
        let membership = members > 1 && random.chance(400);
        if membership || groups > 1 {
            // An operator's change may take effect late, and must not meet with a disk that is lost meanwhile. Members of
            // several groups are not replaced here.
            faults.retain(|fault| *fault != Fault::Damage);
        }
        let pace = random.between(400_000, 4_000_000);
        Chaos { random, faults, pace, over: false, membership }
    }
}

/// The next fault.
pub fn strike(world: &mut World) {
    if world.now >= LASTS {
        return heal(world);
    }
    let pause = world.chaos.random.between(world.chaos.pace / 4, world.chaos.pace);
    world.after(pause, Event::Chaos);
    if world.plan.lease_reads && world.chaos.random.chance(500) {
        return crate::usurper::begin(world);
    }
    let faults = world.chaos.faults.clone();
    let Some(fault) = world.chaos.random.pick(&faults) else { return };
    let up: Vec<u64> = world.nodes.iter().filter(|(_, n)| n.running.is_some()).map(|(id, _)| *id).collect();
    // Leaders have more to lose.
    let leader = world.leader(0).filter(|_| world.chaos.random.chance(500));
    let Some(victim) = leader.or(world.chaos.random.pick(&up)) else { return };
    world.say(format_args!("fault: {fault:?} of {victim}"));
    inflict(world, fault, victim, &up);
    if world.plan.lease_reads && cuts_connections(fault) && world.chaos.random.chance(500) {
        up.iter().filter(|id| **id != victim).for_each(|id| world.input(*id, Input::Gone(victim)));
    }
}

/// Whether others may take a fault for the end of the victim's process.
fn cuts_connections(fault: Fault) -> bool {
    matches!(fault, Fault::PowerCut | Fault::Kill | Fault::Pause | Fault::Partition | Fault::OneWay)
}

fn inflict(world: &mut World, fault: Fault, victim: u64, up: &[u64]) {
    let now = world.now;
    let random = &mut world.chaos.random;
    match fault {
        Fault::PowerCut if random.chance(700) => {
            let operations = random.below(30);
            world.nodes[&victim].disk.cut_power_after(operations);
        }
        Fault::PowerCut => world.stop(victim, true),
        Fault::PowerCutOfAll => {
            if random.chance(300) {
                up.iter().for_each(|id| world.stop(*id, true));
            }
        }
        Fault::Kill => world.stop(victim, false),
        Fault::Pause => {
            let until = now + random.between(100_000, 3_500_000);
            world.pause(victim, until);
        }
        Fault::Partition | Fault::OneWay => {
            let all: Vec<u64> = world.nodes.keys().copied().collect();
            let side: Vec<u64> = all.iter().copied().filter(|id| *id == victim || random.chance(250)).collect();
            let lasts = random.between(300_000, 3_500_000);
            let inward = random.chance(500);
            for inside in &side {
                for outside in all.iter().filter(|id| !side.contains(id)) {
                    if fault == Fault::Partition || inward {
                        world.network.block(*outside, *inside);
                    }
                    if fault == Fault::Partition || !inward {
                        world.network.block(*inside, *outside);
                    }
                }
            }
            world.after(lasts, Event::Quiet(NETWORK));
        }
        Fault::BadNetwork => {
            world.network.loss = random.between(0, 250);
            world.network.twice = random.between(0, 150);
            world.network.slowest = random.between(1_000, 400_000);
            let lasts = random.between(300_000, 3_500_000);
            world.after(lasts, Event::Quiet(NETWORK));
        }
        Fault::ClockJump => {
            let by = random.between(10_000, JUMP);
            world.jump_clock(victim, by);
        }
        Fault::FullDisk => {
            let lasts = random.between(200_000, 3_000_000);
            if let Some(node) = world.nodes.get_mut(&victim) {
                node.disk.set_full(true);
                node.troubled = true;
            }
            world.after(lasts, Event::Quiet(ROOM + victim));
        }
        Fault::FailingSync => {
            if let Some(node) = world.nodes.get_mut(&victim) {
                node.disk.fail_syncs(1);
                node.troubled = true;
            }
        }
        Fault::Damage => damage(world, victim, up),
        Fault::Transfer => {
            for group in 0..world.plan.groups {
                if let Some(leader) = world.leader(group) {
                    world.input(leader, Input::Transfer(group, victim));
                }
            }
        }
    }
}

/// Damages one disk, while all others are well and agree on who has a vote, also after a restart: what is lost with it is
/// elsewhere, and those who are left are a majority by whatever each of them knows.
fn damage(world: &mut World, victim: u64, up: &[u64]) {
    let ill = world.nodes.values().any(|n| !n.retired && (n.damaged || n.corrupt));
    let voters = |members: &Members| members.iter().filter(|m| !m.is_learner).map(|m| m.id).collect::<Vec<_>>();
    let Some(latest) = world.latest(0).map(|m| voters(&m.members)) else { return };
    let agreed =
        world.nodes.values().filter_map(|n| n.running.as_ref()).all(|r| voters(&r.parts[0].kept_members) == latest);
    if ill || up.len() < latest.len() || latest.len() < 3 || !agreed {
        return;
    }
    world.stop(victim, false);
    let node = world.nodes.get_mut(&victim).expect("it was just stopped");
    node.damaged = true;
    world.invariants[0].damaged(victim);
    if let Some(what) = world.nodes[&victim].disk.damage() {
        world.say(format_args!("{victim}: {what} is damaged"));
    }
}

/// Something is well again, or over.
pub fn quiet(world: &mut World, what: u64) {
    match what {
        NETWORK => world.network = Network::healthy(),
        WATCH_ENDS.. => {
            let watch = what - WATCH_ENDS;
            let watching = world.clients.iter().find(|c| c.watch.as_ref().is_some_and(|w| w.record.id == watch));
            if let Some(id) = watching.map(|c| c.id) {
                world.unwatch(id);
            }
        }
        _ => {
            if let Some(node) = world.nodes.get_mut(&(what - ROOM)) {
                node.disk.set_full(false);
            }
        }
    }
}

/// Everything is well from now on.
fn heal(world: &mut World) {
    world.say(format_args!("healed"));
    world.chaos.over = true;
    world.network = Network::healthy();
    let all: Vec<u64> = world.nodes.keys().copied().collect();
    for id in all {
        let node = world.nodes.get_mut(&id).expect("it was just listed");
        node.paused_until = 0;
        node.disk.set_full(false);
        node.disk.process_died();
        if node.running.is_none() {
            world.after(100_000, Event::Restart(id));
        }
    }
}
