//! The virtual world: members with their disks, a network, clients and a clock that jumps from one event to the next.
//! Everything that happens is an event at a time; two events at one time happen in the order in which they were made.

mod clients;
mod machines;
mod wires;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use checker::history::{self as seen, History};
use consensus::Message;
use replica::{
    Folders, GroupId, LeaseReads, Machine, Settings,
    shards::{ShardStep, Step},
    snapshot::Point,
};
use store_api::{LeaseId, Member, StoreError};

use crate::{
    administrator::Administrator,
    chaos::Chaos,
    client::{Busy, Client, Watching},
    disk::VirtualDisk,
    history,
    invariants::Invariants,
    member::{
        Call, ELECTION_TICKS, Input, Micros, Out, Outcome, Rate, Reply, Running, Scene, TICK, Ticket, snapshot_dir,
        wal_dir,
    },
    mutation::Mutation,
    network::Network,
    nomads::{self, Nomads},
    operator::Operator,
    random::Random,
    trace::Trace,
    usurper::Siege,
    watches::Pushed,
};

/// A client gives up after this.
const CLIENT_LIMIT: Micros = 3_000_000;

/// One machine: a disk, and a member that runs on it or does not.
pub struct Node {
    pub disk: VirtualDisk,
    pub salt: u64,
    seed: u64,
    pub running: Option<Running>,
    /// Counts its starts.
    pub incarnation: u64,
    pub paused_until: Micros,
    ahead: Micros,
    rate: Rate,
    turn_at: Option<Micros>,
    /// Its disk was damaged: it may refuse to start.
    pub damaged: bool,
    /// Its disk has refused something, or had no room, since its start: it may have stopped for that.
    pub troubled: bool,
    /// It refused to start: an operator has to replace it.
    pub corrupt: bool,
    /// It is no member any more, and stays down.
    pub retired: bool,
    /// Whether its disk has a member on it.
    pub founded: bool,
}

pub enum Event {
    Tick(u64, u64),
    Turn(u64, u64),
    Apply(u64, u64),
    WriteSnapshot(u64, u64, GroupId),
    Arrive(GroupId, Box<Message>),
    OpenSnapshot(u64, u64, GroupId, Box<Message>),
    SnapshotArrives(u64, GroupId, Box<Message>, Vec<Bytes>),
    SnapshotEnds { job: u64, group: GroupId, from: u64, to: u64, incarnation: u64 },
    SnapshotSent { group: GroupId, from: u64, to: u64, ok: bool },
    Call(u64, Ticket, Call),
    Ask { to: u64, group: GroupId, ticket: Ticket, lease: LeaseId },
    Answer(Ticket, Outcome),
    Client(u32),
    GiveUp(u32, u64),
    Watch(u32),
    Pushed(u64, Pushed),
    Restart(u64),
    Chaos,
    Quiet(u64),
    CutOff(Siege),
    Operator,
    Administrator,
    PlanMove,
}

/// What a world is made with.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub members: u64,
    /// Groups on one log, each a store of its own to its clients.
    pub groups: GroupId,
    /// Whether clients are users whose permissions come and go.
    pub users: bool,
    /// Whether shards move from group to group.
    pub moves: bool,
    /// Whether leaders answer reads by leases, on clocks that are fast and slow.
    pub lease_reads: bool,
    pub mutation: Option<Mutation>,
    /// Keep the whole trace.
    pub whole_trace: bool,
}

pub struct World {
    pub plan: Plan,
    pub random: Random,
    net_random: Random,
    pub trace: Trace,
    /// What must hold of each group.
    pub invariants: Vec<Invariants>,
    pub now: Micros,
    sequence: u64,
    events: BTreeMap<(Micros, u64), Event>,
    pub nodes: BTreeMap<u64, Node>,
    pub network: Network,
    pub clients: Vec<Client>,
    /// What the clients of each group saw.
    pub histories: Vec<History>,
    /// Keys that move.
    pub nomads: Nomads,
    pub chaos: Chaos,
    pub operator: Operator,
    pub administrator: Administrator,
    next_operation: u64,
    next_watch: u64,
    pub clients_stop: bool,
    /// Clients write nothing before this.
    pub clients_only_read_until: Micros,
    segment_bytes: u64,
    snapshot_bytes: u64,
    keep_bytes: usize,
    keep_entries: Option<u64>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let net_random = random.fork();
        let chaos = Chaos::new(random.fork(), plan.members, plan.groups);
        let mut world = World {
            trace: Trace::new(plan.whole_trace),
            invariants: (0..plan.groups).map(|_| Invariants::default()).collect(),
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            nodes: BTreeMap::new(),
            network: Network::healthy(),
            clients: Vec::new(),
            histories: vec![History::default(); plan.groups as usize],
            nomads: Nomads::default(),
            chaos,
            operator: Operator::new(plan.members, random.fork()),
            administrator: Administrator::new(Random::new(plan.seed), 0),
            next_operation: 0,
            next_watch: 0,
            clients_stop: false,
            clients_only_read_until: 0,
            segment_bytes: 1024 * random.between(72, 90),
            snapshot_bytes: 1024 * random.between(2, 24),
            keep_bytes: 1024 * random.between(0, 8) as usize,
            keep_entries: [None, Some(3), None][(plan.seed % 3) as usize],
            net_random,
            random,
            plan,
        };
        for history in &mut world.histories {
            history.settings.name = format!("seed {}", world.plan.seed);
        }
        let founders: Vec<Member> = (1..=world.plan.members).map(|id| member(id, false)).collect();
        (1..=world.plan.members).for_each(|id| world.add_node(id, &founders));
        for id in 0..world.random.between(3, 5) as u32 * world.plan.groups {
            let random = world.random.fork();
            world.clients.push(Client::new(id, random));
            world.at(200_000 + u64::from(id) * 7_000, Event::Client(id));
            world.at(100_000 + u64::from(id) * 9_000, Event::Watch(id));
        }
        // Users are those of the first group.
        if world.plan.users && world.plan.groups == 1 {
            let clients = world.clients.len() as u32;
            world.administrator = Administrator::new(world.random.fork(), clients);
            world.at(300_000, Event::Administrator);
        }
        if world.plan.moves {
            world.at(700_000, Event::PlanMove);
        }
        world.at(500_000, Event::Chaos);
        world.at(1_000_000, Event::Operator);
        world
    }

    /// A new machine. With founders it begins a cluster; without, it waits for others to send it everything.
    pub fn add_node(&mut self, id: u64, founders: &[Member]) {
        let salt = self.random.next();
        let disk = VirtualDisk::new(self.random.fork(), salt, self.plan.mutation);
        let node = Node {
            disk,
            salt,
            seed: self.random.next(),
            running: None,
            incarnation: 0,
            paused_until: 0,
            ahead: 0,
            rate: self.rate(id),
            turn_at: None,
            damaged: false,
            troubled: false,
            corrupt: false,
            retired: false,
            founded: false,
        };
        self.nodes.insert(id, node);
        self.start(id, Some(founders));
    }

    /// Members' clocks differ as much as leases bear.
    fn rate(&self, id: u64) -> Rate {
        match self.plan.lease_reads {
            true => Rate(Random::new(self.plan.seed ^ id << 48).between(950, 1050)),
            false => Rate(1000),
        }
    }

    pub fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.say(self.now, what);
    }

    /// Something happens after a while.
    pub fn after(&mut self, delay: Micros, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, time: Micros, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    /// Does the next event; the time goes on to it.
    pub fn step(&mut self) {
        let Some(((time, _), event)) = self.events.pop_first() else { return };
        self.now = time;
        if let Some(node) = event.node()
            && let Some(until) = self.nodes.get(&node).map(|n| n.paused_until)
            && until > self.now
        {
            // A paused member's events wait; some are a little later than others.
            let late = self.random.below(1000);
            return self.at(until + late, event);
        }
        self.happen(event);
    }

    fn is(&self, node: u64, incarnation: u64) -> bool {
        self.nodes.get(&node).is_some_and(|n| n.incarnation == incarnation && n.running.is_some())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(node, incarnation) => self.tick(node, incarnation),
            Event::Turn(node, incarnation) if self.is(node, incarnation) => {
                if let Some(node) = self.nodes.get_mut(&node).filter(|n| n.turn_at.is_some_and(|at| at <= self.now)) {
                    node.turn_at = None;
                }
                self.with(node, |running, scene| running.turn(scene));
            }
            Event::Apply(node, incarnation) if self.is(node, incarnation) => {
                self.with(node, |running, scene| running.apply(scene));
            }
            Event::WriteSnapshot(node, incarnation, group) if self.is(node, incarnation) => {
                self.with(node, |running, scene| running.write_snapshot(group, scene));
                self.turn_soon(node);
            }
            Event::Turn(..) | Event::Apply(..) | Event::WriteSnapshot(..) => {}
            Event::Arrive(group, message) => self.arrive(group, *message),
            Event::OpenSnapshot(from, incarnation, group, message) => {
                self.open_snapshot(from, incarnation, group, *message);
            }
            Event::SnapshotArrives(job, group, message, portions) => {
                self.snapshot_arrives(job, group, *message, &portions);
            }
            Event::SnapshotEnds { job, group, from, to, incarnation } => {
                self.snapshot_ends(job, group, from, to, incarnation);
            }
            Event::SnapshotSent { group, from, to, ok } => {
                self.input(from, Input::SnapshotSent { group, peer: to, ok });
            }
            Event::Call(node, ticket, call) => self.call(node, ticket, call),
            Event::Ask { to, group, ticket, lease } => {
                self.with(to, |running, scene| running.keep_alive(group, ticket, lease, scene));
                self.turn_soon(to);
            }
            Event::Answer(ticket, outcome) => self.answer(ticket, outcome),
            Event::Client(client) => self.act(client),
            Event::GiveUp(client, operation) => {
                let ticket = Ticket::Client { client, operation };
                self.answer(ticket, Err(StoreError::Timeout));
            }
            Event::Watch(client) => self.watch(client),
            Event::Pushed(watch, pushed) => self.pushed(watch, pushed),
            Event::Restart(node) => self.start(node, None),
            Event::Chaos => crate::chaos::strike(self),
            Event::CutOff(siege) => crate::usurper::cut_off(self, siege),
            Event::Quiet(what) => crate::chaos::quiet(self, what),
            Event::Operator => crate::operator::look(self),
            Event::Administrator => crate::administrator::look(self),
            Event::PlanMove => self.plan_move(),
        }
    }

    /// Does something with a running member, then what it wants done outside.
    pub fn with(&mut self, id: u64, what: impl FnOnce(&mut Running, &mut Scene<'_>)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(running) = node.running.as_mut() else { return };
        let mut out = Vec::new();
        let mut scene = Scene {
            now: self.now,
            ahead: node.ahead,
            rate: node.rate,
            random: &mut self.random,
            trace: &mut self.trace,
            invariants: &mut self.invariants,
            out: &mut out,
            mutation: self.plan.mutation,
        };
        what(running, &mut scene);
        let (incarnation, broken) = (node.incarnation, running.broken.clone());
        let dead = node.disk.is_dead();
        out.into_iter().for_each(|out| self.carry_out(id, incarnation, out));
        if dead {
            self.say(format_args!("{id}: the power is gone"));
            self.stop(id, true);
        } else if let Some(why) = broken {
            let node = self.nodes.get(&id).expect("it was just used");
            if !node.troubled && !node.damaged {
                self.invariants[0].violated(format!("member {id} stopped, and nothing was wrong with its disk: {why}"));
            }
            let power = self.random.chance(500);
            self.stop(id, power);
        }
    }

    fn carry_out(&mut self, id: u64, incarnation: u64, out: Out) {
        match out {
            Out::Send(group, message) => self.send(id, incarnation, group, message),
            Out::Answer(ticket, outcome) => {
                let delay = self.net_random.between(100, 2_000);
                self.after(delay, Event::Answer(ticket, outcome));
            }
            Out::Ask(to, group, ticket, lease) => {
                if !self.network.is_blocked(id, to) {
                    let delay = self.network.delay(&mut self.net_random);
                    self.after(delay, Event::Ask { to, group, ticket, lease });
                }
            }
            Out::Pushed(watch, pushed) => {
                let delay = self.net_random.between(100, 3_000);
                let time = self.now + delay;
                let watching = self.clients.iter_mut().filter_map(|c| c.watch.as_mut()).find(|w| w.record.id == watch);
                if let Some(watching) = watching {
                    watching.last_at = time.max(watching.last_at + 1);
                    let at = watching.last_at;
                    self.at(at, Event::Pushed(watch, pushed));
                }
            }
            Out::Apply => {
                let delay = self.random.below(2_000);
                self.after(delay, Event::Apply(id, incarnation));
            }
            Out::Snapshot(group) => {
                let delay = self.random.between(500, 40_000);
                self.after(delay, Event::WriteSnapshot(id, incarnation, group));
            }
            Out::Again(time) => self.turn_by(id, time),
            Out::Removed => {
                self.say(format_args!("{id}: removed from the cluster"));
                self.nodes.get_mut(&id).expect("it is running").retired = true;
                self.stop(id, false);
            }
        }
    }

    /// Something for a member's next turn.
    pub fn input(&mut self, to: u64, input: Input) {
        let Some(running) = self.nodes.get_mut(&to).and_then(|n| n.running.as_mut()) else { return };
        running.inbox.push_back(input);
        self.turn_soon(to);
    }

    pub fn turn_soon(&mut self, id: u64) {
        let delay = self.random.between(20, 1_500);
        self.turn_by(id, self.now + delay);
    }

    fn turn_by(&mut self, id: u64, time: Micros) {
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.running.is_some()) else { return };
        if node.turn_at.is_none_or(|at| at > time) {
            node.turn_at = Some(time);
            let incarnation = node.incarnation;
            self.at(time, Event::Turn(id, incarnation));
        }
    }

    fn tick(&mut self, id: u64, incarnation: u64) {
        if !self.is(id, incarnation) {
            return;
        }
        let tick = self.nodes[&id].rate.tick();
        self.after(tick, Event::Tick(id, incarnation));
        let bookmark = self.random.chance(50);
        self.with(id, |running, scene| {
            running.tick_due = true;
            running.end_leases(scene);
            running.follow_members(scene);
            running.move_shards(scene);
            if bookmark {
                for part in &running.parts {
                    let marks = part.watches.bookmarks(&part.machine.kv);
                    scene.out.extend(marks.into_iter().map(|(id, pushed)| Out::Pushed(id, pushed)));
                }
            }
        });
        self.turn_soon(id);
    }

    fn call(&mut self, node: u64, ticket: Ticket, call: Call) {
        let running = self.nodes.get(&node).is_some_and(|n| n.running.is_some());
        if !running {
            return self
                .after(500, Event::Answer(ticket, Err(StoreError::InvalidArgument("connection refused".into()))));
        }
        let incarnation = self.nodes[&node].incarnation;
        if let Ticket::Client { client, .. } = ticket
            && let Some(busy) = self.clients[client as usize].busy.as_mut()
        {
            busy.incarnation = incarnation;
        }
        let group = match (self.plan.moves, &call) {
            (true, Call::Read(range)) => self.route(node, &range.key, &range.range_end),
            (true, Call::Write(mvcc::Command::Txn(txn))) => {
                txn.compare.first().map_or(0, |compare| self.route(node, &compare.key, &[]))
            }
            _ => self.group_of(ticket),
        };
        self.with(node, |running, scene| running.call(group, ticket, call, scene));
        self.turn_soon(node);
    }

    /// Whose group's a ticket is: each client has one.
    fn group_of(&self, ticket: Ticket) -> GroupId {
        match ticket {
            Ticket::Client { client, .. } => client % self.plan.groups,
            _ => 0,
        }
    }

    /// The group that has keys, as a member's map says.
    fn route(&self, node: u64, key: &[u8], end: &[u8]) -> GroupId {
        let running = self.nodes.get(&node).and_then(|n| n.running.as_ref());
        running.and_then(|r| r.parts[0].machine.shards.route(key, end).ok()).unwrap_or(0)
    }

    /// Somebody wants a shard elsewhere.
    fn plan_move(&mut self) {
        if self.clients_stop {
            return;
        }
        let pause = self.random.between(300_000, 2_500_000);
        self.after(pause, Event::PlanMove);
        let (shard, to) =
            (self.random.pick(&nomads::SHARDS), self.random.below(u64::from(self.plan.groups)) as GroupId);
        let (Some(leader), Some(shard)) = (self.leader(0), shard) else { return };
        let step = ShardStep { prefix: shard.into(), step: Step::Plan { to } };
        let now = self.now;
        self.with(leader, |running, _| {
            running.part(0).submit(Ticket::Planner, replica::Request::Shard(step), None, now);
        });
        self.turn_soon(leader);
    }

    /// Something that must hold does not.
    pub fn violated(&mut self, what: String) {
        self.invariants[0].violated(what);
    }

    /// All that did not hold, in any group.
    pub fn violations(&self) -> impl Iterator<Item = &String> {
        self.invariants.iter().flat_map(Invariants::violations)
    }

    /// A group's state that has come furthest.
    pub fn latest(&self, group: GroupId) -> Option<&Machine> {
        let machines = self.nodes.values().filter_map(|n| Some(&n.running.as_ref()?.parts[group as usize].machine));
        machines.max_by_key(|m| m.index)
    }

    /// The member that leads a group in the newest term, if one does.
    pub fn leader(&self, group: GroupId) -> Option<u64> {
        let standings =
            self.nodes.iter().filter_map(|(id, n)| Some((*id, n.running.as_ref()?.parts[group as usize].standing)));
        standings.filter(|(_, s)| s.leads).max_by_key(|(_, s)| s.term).map(|(id, _)| id)
    }
}

/// A member as an operator describes it.
pub fn member(id: u64, is_learner: bool) -> Member {
    Member {
        id,
        name: format!("m{id}"),
        peer_urls: vec![format!("http://{id}:2380")],
        is_learner,
        ..Default::default()
    }
}

impl Event {
    /// Whose event it is: it waits while that member is paused.
    fn node(&self) -> Option<u64> {
        match self {
            Event::Tick(node, _) | Event::Turn(node, _) | Event::Apply(node, _) | Event::WriteSnapshot(node, ..) => {
                Some(*node)
            }
            Event::OpenSnapshot(node, ..) | Event::Call(node, ..) => Some(*node),
            Event::SnapshotArrives(_, _, message, _) => Some(message.to),
            Event::SnapshotEnds { to, .. } | Event::Ask { to, .. } => Some(*to),
            _ => None,
        }
    }
}
