//! Who looks after the members: replaces one whose disk refuses to start, adds, promotes and removes, and never takes so
//! many away that no majority runs. Sees the whole cluster, and asks only its leader.

use replica::MemberChange;

use crate::{
    member::{Input, Micros, Ticket},
    random::Random,
    world::{Event, World, member},
};

const LOOKS_EVERY: Micros = 400_000;
/// After a change was asked for, the next comes not before this.
const PATIENCE: Micros = 1_500_000;

pub struct Operator {
    random: Random,
    /// Voters wanted.
    wanted: u64,
    next_member: u64,
    next_ticket: u64,
    not_before: Micros,
    /// Nothing is left to do.
    pub content: bool,
}

impl Operator {
    pub fn new(members: u64, random: Random) -> Self {
        Operator { random, wanted: members, next_member: members + 1, next_ticket: 0, not_before: 0, content: false }
    }
}

/// Looks at the cluster and does the next thing.
pub fn look(world: &mut World) {
    world.after(LOOKS_EVERY, Event::Operator);
    let Some(latest) = world.latest(0) else { return };
    let members: Vec<(u64, bool)> = latest.members.iter().map(|m| (m.id, m.is_learner)).collect();
    retire(world, &members);
    start_added(world, &members);
    if world.now < world.operator.not_before {
        return;
    }
    let change = wanted(world, &members);
    world.operator.content = change.is_none();
    if let Some(change) = change
        && let Some(leader) = world.leader(0)
    {
        world.operator.not_before = world.now + PATIENCE;
        world.operator.next_ticket += 1;
        let ticket = Ticket::Operator(world.operator.next_ticket);
        world.say(format_args!("operator asks {leader}: {change:?}"));
        world.input(leader, Input::Change(0, change, ticket));
    }
}

/// Who is no member any more stays down.
fn retire(world: &mut World, members: &[(u64, bool)]) {
    let known = |id: u64| members.iter().any(|(member, _)| *member == id);
    let removed = world.latest(0).map(|m| m.members.clone()).unwrap_or_default();
    // Until the last group has let it go, its vote may be needed there.
    let needed =
        |id: u64| (1..world.plan.groups).any(|group| world.latest(group).is_none_or(|m| m.members.get(id).is_some()));
    let gone: Vec<u64> = world
        .nodes
        .iter()
        .filter(|(id, n)| !n.retired && !known(**id) && removed.is_removed(**id) && !needed(**id))
        .map(|(id, _)| *id)
        .collect();
    for id in gone {
        world.stop(id, false);
        if let Some(node) = world.nodes.get_mut(&id) {
            (node.retired, node.corrupt) = (true, false);
            node.disk.erase();
        }
        world.say(format_args!("{id}: retired"));
    }
}

/// Who was added gets a machine.
fn start_added(world: &mut World, members: &[(u64, bool)]) {
    for (id, _) in members {
        if !world.nodes.contains_key(id) {
            world.say(format_args!("{id}: joins"));
            world.add_node(*id, &[]);
        }
    }
}

fn wanted(world: &mut World, members: &[(u64, bool)]) -> Option<MemberChange> {
    let voters: Vec<u64> = members.iter().filter(|(_, learner)| !learner).map(|(id, _)| *id).collect();
    let learner = members.iter().find(|(_, learner)| *learner).map(|(id, _)| *id);
    let running: Vec<u64> = world.nodes.iter().filter(|(_, n)| n.running.is_some()).map(|(id, _)| *id).collect();
    let up = voters.iter().filter(|id| running.contains(id)).count();
    let may_lose = |id: u64| {
        let left = voters.len() - usize::from(voters.contains(&id));
        let up = up - usize::from(voters.contains(&id) && running.contains(&id));
        left > 0 && up > left / 2
    };
    if let Some((id, _)) = members.iter().find(|(id, _)| world.nodes.get(id).is_some_and(|n| n.corrupt)) {
        return may_lose(*id).then_some(MemberChange::Remove(*id));
    }
    if let Some(id) = learner {
        return if is_ready(world, id) { Some(MemberChange::Promote(id)) } else { stuck(world, id) };
    }
    let random = &mut world.operator.random;
    let changes = world.chaos.membership && !world.chaos.over;
    if (voters.len() as u64) < world.operator.wanted || (changes && voters.len() < 6 && random.chance(150)) {
        let id = world.operator.next_member;
        let id = if world.nodes.contains_key(&id) { id + 1 } else { id };
        world.operator.next_member = id;
        return Some(MemberChange::Add(member(id, true)));
    }
    if voters.len() as u64 > world.operator.wanted || (changes && world.operator.random.chance(150)) {
        let id = world.operator.random.pick(&voters)?;
        let voters_up = up == voters.len();
        return (voters_up && may_lose(id)).then_some(MemberChange::Remove(id));
    }
    None
}

/// A learner whose machine is gone for good is taken out again; otherwise it is waited for.
fn stuck(world: &World, id: u64) -> Option<MemberChange> {
    world.nodes.get(&id).is_some_and(|n| n.corrupt).then_some(MemberChange::Remove(id))
}

/// A learner that has nearly everything, in every group, may be promoted.
fn is_ready(world: &World, id: u64) -> bool {
    let runs = world.nodes.get(&id).is_some_and(|n| n.running.is_some());
    let has = |group: u32| {
        let leader = world.leader(group).and_then(|l| world.nodes.get(&l)?.running.as_ref())?;
        let status = replica::Consensus::status(&leader.core.groups()[group as usize].raft);
        Some(status.peers.iter().any(|p| p.id == id && p.matched * 100 >= status.last * 90))
    };
    runs && (0..world.plan.groups).all(|group| has(group).unwrap_or(false))
}
