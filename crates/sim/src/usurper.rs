//! The case that leases are about: a follower that hears nothing of its leader and asks the others for their votes, while
//! the leader is cut off and hears nothing of its successor. It comes with what makes members forget or misjudge time:
//! restarts, a leader that stands still with answers before its door, and one that has just handed leadership over.

use replica::GroupId;

use crate::{
    member::{Input, Micros},
    world::{Event, World},
};

/// How long the follower is deaf before the leader is cut off: about as long as it takes to stand for election.
const DEAF: (Micros, Micros) = (800_000, 2_000_000);
/// How long the leader is cut off then.
const CUT_OFF: (Micros, Micros) = (900_000, 2_500_000);
/// How long members that start again are down.
const DOWN: (Micros, Micros) = (20_000, 120_000);

/// After leadership was handed over, the leader is cut off within this: its message has left, and no answer has come.
const HANDED_OVER: (Micros, Micros) = (2_000, 6_000);

/// Who is cut off from whom.
#[derive(Clone, Copy)]
pub struct Siege {
    group: GroupId,
    leader: u64,
    deaf: u64,
    handed_over: bool,
}

/// A follower becomes deaf to its leader.
pub fn begin(world: &mut World) {
    let group = world.chaos.random.below(u64::from(world.plan.groups)) as GroupId;
    let Some(leader) = world.leader(group) else { return };
    let others = others(world, leader);
    let Some(deaf) = world.chaos.random.pick(&others) else { return };
    world.say(format_args!("fault: {deaf} does not hear {leader}"));
    world.network.block(leader, deaf);
    world.network.block(deaf, leader);
    let delay = world.chaos.random.between(DEAF.0, DEAF.1);
    // With less in its log than the others, it would not be elected anyway.
    world.clients_only_read_until = world.now + delay;
    world.after(delay, Event::CutOff(Siege { group, leader, deaf, handed_over: false }));
}

/// The leader is cut off from all, and something happens to it or to those who had promised to keep to it.
pub fn cut_off(world: &mut World, siege: Siege) {
    if world.chaos.over {
        return;
    }
    let others = others(world, siege.leader);
    let loyal: Vec<u64> = others.iter().copied().filter(|id| *id != siege.deaf).collect();
    let random = &mut world.chaos.random;
    let (lasts, what) = (random.between(CUT_OFF.0, CUT_OFF.1), random.below(4));
    match what {
        _ if siege.handed_over => {}
        0 => return hand_over(world, siege, &loyal),
        1 => restart(world, &loyal),
        2 => {
            let until = world.now + world.chaos.random.between(lasts / 3, lasts);
            world.pause(siege.leader, until);
        }
        _ => {}
    }
    for other in others {
        world.network.block(siege.leader, other);
        world.network.block(other, siege.leader);
    }
    world.say(format_args!("fault: {} is cut off", siege.leader));
    world.after(lasts, Event::Quiet(crate::chaos::NETWORK));
}

/// Leadership goes to one who hears the leader still.
fn hand_over(world: &mut World, siege: Siege, loyal: &[u64]) {
    let Some(to) = world.chaos.random.pick(loyal) else { return };
    world.input(siege.leader, Input::Transfer(siege.group, to));
    let delay = world.chaos.random.between(HANDED_OVER.0, HANDED_OVER.1);
    world.after(delay, Event::CutOff(Siege { handed_over: true, ..siege }));
}

fn restart(world: &mut World, loyal: &[u64]) {
    for id in loyal {
        let down = world.chaos.random.between(DOWN.0, DOWN.1);
        world.stop(*id, false);
        world.after(down, Event::Restart(*id));
    }
}

fn others(world: &World, leader: u64) -> Vec<u64> {
    world.nodes.iter().filter(|(id, n)| **id != leader && n.running.is_some()).map(|(id, _)| *id).collect()
}
