//! The lives of machines: they start, fail to, stop, pause, and their clocks jump.

use super::*;

impl World {
    /// Starts a member on its disk, or on an empty one.
    pub(super) fn start(&mut self, id: u64, founders: Option<&[Member]>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.running.is_some() || node.retired || node.corrupt {
            return;
        }
        node.incarnation += 1;
        node.troubled = node.disk.is_full();
        let forgets = self.plan.mutation == Some(Mutation::RestartsForgetPromises);
        let started = if forgets { Duration::ZERO } else { node.rate.clock(self.now) };
        let election_timeout = Duration::from_micros(TICK) * ELECTION_TICKS;
        let settings = Settings {
            member: id,
            election_ticks: ELECTION_TICKS as usize,
            heartbeat_ticks: 1,
            pre_vote: true,
            keep_bytes: self.keep_bytes,
            keep_entries: self.keep_entries,
            seed: node.seed.wrapping_add(node.incarnation),
            lease_reads: self.plan.lease_reads.then_some(LeaseReads { election_timeout, started }),
        };
        let folders =
            Folders { wal: wal_dir(), snapshots: snapshot_dir(), salt: node.salt, segment_bytes: self.segment_bytes };
        let disk: wal::disk::SharedDisk = std::sync::Arc::new(node.disk.clone());
        let recovered = match founders {
            // Each group is a store of its own here, with keys of the same names.
            Some([]) => replica::found(&disk, &folders, settings, self.plan.groups, &[], &[]),
            Some(founders) => {
                let last = self.plan.groups - 1;
                let shards = [(Bytes::from(nomads::SHARDS[0]), 1), (Bytes::from(nomads::SHARDS[1]), last)];
                let machine = |group| match self.plan.moves {
                    true => Machine::founded_as(group, founders.iter().cloned(), &shards),
                    false => Machine::founded_by(founders.iter().cloned()),
                };
                replica::found_with(&disk, &folders, settings, (0..self.plan.groups).map(machine).collect())
            }
            None => replica::recover(&disk, &folders, settings, self.plan.groups),
        };
        match recovered {
            Ok(recovery) => {
                node.founded = true;
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
                let index = recovery.machines[0].index;
                let torn = recovery.torn;
                let disk = node.disk.clone();
                let running = Running::begin(id, disk, node.salt, recovery, self.snapshot_bytes, &mut scene);
                let incarnation = node.incarnation;
                node.turn_at = None;
                node.running = Some(running);
                self.say(format_args!("{id}: started for the {incarnation}. time at entry {index}, {torn} bytes torn"));
                let first = self.random.below(TICK);
                self.after(first, Event::Tick(id, incarnation));
                self.turn_soon(id);
            }
            Err(error) => self.not_started(id, &error),
        }
    }

    fn not_started(&mut self, id: u64, error: &StoreError) {
        self.say(format_args!("{id}: did not start: {error}"));
        let node = self.nodes.get_mut(&id).expect("it was just started");
        let damaged = node.damaged;
        if node.disk.is_dead() {
            node.disk.power_cycle();
        } else if matches!(error, StoreError::Corrupt(_)) {
            node.corrupt = true;
            if !damaged {
                self.invariants[0].violated(format!("member {id} refuses a disk that nobody damaged: {error}"));
            }
            return;
        }
        self.after(500_000, Event::Restart(id));
    }

    /// A member stops at once; with `power`, its machine too. It starts again after a while.
    pub fn stop(&mut self, id: u64, power: bool) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.running.take().is_none() {
            return;
        }
        let incarnation = node.incarnation;
        if power {
            node.disk.power_cycle();
        } else {
            node.disk.process_died();
        }
        node.paused_until = 0;
        self.say(format_args!("{id}: stopped{}", if power { " with its machine" } else { "" }));
        let lost: Vec<Ticket> = self
            .clients
            .iter()
            .filter_map(|c| c.busy.as_ref().filter(|b| (b.node, b.incarnation) == (id, incarnation)).map(|b| (c.id, b)))
            .map(|(client, busy)| Ticket::Client { client, operation: busy.operation })
            .collect();
        for ticket in lost {
            self.after(1_000, Event::Answer(ticket, Err(StoreError::Stopped)));
        }
        let watching: Vec<u32> = self
            .clients
            .iter()
            .filter(|c| c.watch.as_ref().is_some_and(|w| (w.node, w.incarnation) == (id, incarnation)))
            .map(|c| c.id)
            .collect();
        watching.into_iter().for_each(|client| self.unwatch(client));
        let delay = self.random.between(50_000, 2_500_000);
        self.after(delay, Event::Restart(id));
    }

    pub fn pause(&mut self, id: u64, until: Micros) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.paused_until = until;
        }
    }

    /// A member's clock jumps ahead.
    pub fn jump_clock(&mut self, id: u64, by: Micros) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.ahead += by;
        for history in &mut self.histories {
            history.settings.lease_early += by;
        }
    }
}
