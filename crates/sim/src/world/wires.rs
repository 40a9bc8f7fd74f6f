//! What goes from member to member: messages, and snapshots portion by portion.

use super::*;

impl World {
    pub(super) fn send(&mut self, from: u64, incarnation: u64, group: GroupId, message: Message) {
        if message.get_snapshot().get_metadata().index > 0 {
            let delay = self.random.below(2_000);
            return self.after(delay, Event::OpenSnapshot(from, incarnation, group, Box::new(message)));
        }
        if let Some(early) = crate::rewrite::acknowledged(self.plan.mutation, &message) {
            self.after(1_000, Event::Arrive(group, Box::new(early)));
        }
        let delays = self.network.deliveries(&message, &mut self.net_random);
        delays.into_iter().for_each(|delay| self.after(delay, Event::Arrive(group, Box::new(message.clone()))));
    }

    pub(super) fn arrive(&mut self, group: GroupId, mut message: Message) {
        let to = message.to;
        let running = self.nodes.get_mut(&to).and_then(|n| n.running.as_mut());
        let Some(running) = running else {
            let from = message.from;
            return self.input(from, Input::Unreachable(to));
        };
        crate::rewrite::message(self.plan.mutation, running, group, &mut message);
        self.input(to, Input::Message(group, message));
    }

    pub(super) fn open_snapshot(&mut self, from: u64, incarnation: u64, group: GroupId, message: Message) {
        if !self.is(from, incarnation) {
            return;
        }
        let metadata = message.get_snapshot().get_metadata();
        let (to, point) = (message.to, Point { group, index: metadata.index, term: metadata.term });
        let running = self.nodes[&from].running.as_ref().expect("it is running");
        let opened = running.open_snapshot(point);
        self.say(format_args!(
            "{from}: snapshot of entry {} to {to}: {:?}",
            point.index,
            opened.as_ref().map(Vec::len)
        ));
        let slow = self.net_random.between(2_000, 200_000);
        let lost = self.network.is_blocked(from, to) || self.net_random.chance(self.network.loss);
        match opened {
            Ok(portions) if !lost => {
                self.sequence += 1;
                let job = self.sequence;
                self.after(slow, Event::SnapshotArrives(job, group, Box::new(message), portions));
            }
            _ => self.after(slow, Event::SnapshotSent { group, from, to, ok: false }),
        }
    }

    pub(super) fn snapshot_arrives(&mut self, job: u64, group: GroupId, message: Message, portions: &[Bytes]) {
        let (from, to) = (message.from, message.to);
        let mut taken = false;
        self.with(to, |running, _| taken = running.receive_snapshot(job, group, message, portions).is_ok());
        match self.nodes.get(&to).map(|n| n.incarnation) {
            Some(incarnation) if taken => {
                let delay = self.random.below(20_000);
                self.after(delay, Event::SnapshotEnds { job, group, from, to, incarnation });
            }
            _ => self.after(1_000, Event::SnapshotSent { group, from, to, ok: false }),
        }
    }

    pub(super) fn snapshot_ends(&mut self, job: u64, group: GroupId, from: u64, to: u64, incarnation: u64) {
        let mut ok = false;
        if self.is(to, incarnation) {
            self.with(to, |running, _| ok = running.finish_snapshot(job, group).is_ok());
            self.turn_soon(to);
        }
        if !self.network.is_blocked(to, from) {
            self.after(1_000, Event::SnapshotSent { group, from, to, ok });
        } else {
            self.after(5_000_000, Event::SnapshotSent { group, from, to, ok: false });
        }
    }
}
