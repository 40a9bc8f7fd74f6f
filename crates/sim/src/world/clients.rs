//! What goes between clients and members: questions, answers, and what watches see.

use super::*;

impl World {
    pub(super) fn act(&mut self, id: u32) {
        if self.clients_stop || self.clients[id as usize].busy.is_some() {
            return;
        }
        let client = &mut self.clients[id as usize];
        let request = match self.plan.moves {
            true => client.wander(),
            false if self.now < self.clients_only_read_until => client.look(),
            false => client.choose(self.now),
        };
        self.ask(id, request);
    }

    /// A client asks one of the members.
    pub fn ask(&mut self, id: u32, request: seen::Request) {
        let nodes: Vec<u64> = self.nodes.iter().filter(|(_, n)| !n.retired && !n.corrupt).map(|(id, _)| *id).collect();
        let Some(node) = self.random.pick(&nodes) else { return };
        self.next_operation += 1;
        let (operation, invoked) = (self.next_operation, self.now);
        self.say(format_args!("client {id} asks {node}: #{operation} {request:?}"));
        let call = history::call(&request);
        self.clients[id as usize].busy = Some(Busy { operation, node, incarnation: 0, invoked, request });
        let ticket = Ticket::Client { client: id, operation };
        let delay = self.net_random.between(100, 2_000);
        self.after(delay, Event::Call(node, ticket, call));
        self.after(CLIENT_LIMIT, Event::GiveUp(id, operation));
    }

    pub(super) fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Ticket::Follow { member, group } = ticket
            && matches!(outcome, Ok(Reply::Settled))
        {
            self.with(member, |running, scene| running.follow(group, scene));
            return self.turn_soon(member);
        }
        if let Ticket::Mover { member, number } = ticket {
            self.with(member, |running, scene| running.moved(number, outcome, scene));
            return self.turn_soon(member);
        }
        let Ticket::Client { client: id, operation } = ticket else {
            self.administrator.hears(ticket, &outcome, self.now);
            return self.say(format_args!("{ticket:?}: {outcome:?}"));
        };
        let client = &mut self.clients[id as usize];
        let Some(busy) = client.busy.take_if(|b| b.operation == operation) else { return };
        let outcome = match (&busy.request, outcome) {
            // etcd says of a lease that is not there that it has no time left.
            (seen::Request::LeaseKeepAlive { .. }, Err(StoreError::LeaseNotFound(_))) => Ok(Reply::Alive(0, 0)),
            (_, outcome) => outcome,
        };
        let outcome = history::outcome(outcome);
        if self.plan.moves {
            self.trace.say(self.now, format_args!("client {id} hears of #{operation}: {outcome:?}"));
            if let seen::Outcome::Done(response) = &outcome {
                client.learn_nomads(&busy.request, response);
                let answer = &response.answer;
                let heard = self.nomads.heard(&busy.request, answer, response.revision, busy.invoked, self.now);
                self.hold("moving keys", heard);
            }
            let pause = self.random.between(1_000, 120_000);
            return self.after(pause, Event::Client(id));
        }
        client.learn(&busy.request, &outcome);
        if let seen::Outcome::Done(response) = &outcome
            && response.answer.writes()
            && self.administrator.must_refuse(id, busy.invoked)
        {
            let what = format!("client {id} wrote by #{operation}, and had no role that allows it");
            self.invariants[0].violated(format!("permissions: {what}"));
        }
        self.trace.say(self.now, format_args!("client {id} hears of #{operation}: {outcome:?}"));
        // A restarted member begins with what its disk has, and that may be behind what it had applied.
        let member = busy.node * 1000 + busy.incarnation;
        let (invoked, returned, request) = (busy.invoked, self.now, busy.request);
        let done = seen::Operation { id: operation, client: id, member, invoked, returned, request, outcome };
        let group = self.group_of(ticket);
        self.histories[group as usize].operations.push(done);
        let pause = self.random.between(1_000, 120_000);
        self.after(pause, Event::Client(id));
    }

    /// Notes what does not hold.
    pub fn hold(&mut self, what: &str, verdict: Result<(), String>) {
        if let Err(why) = verdict {
            self.violated(format!("{what}: {why}"));
        }
    }

    pub(super) fn watch(&mut self, id: u32) {
        let nodes: Vec<u64> = self.nodes.iter().filter(|(_, n)| n.running.is_some()).map(|(id, _)| *id).collect();
        let Some(node) = self.random.pick(&nodes) else { return self.after(200_000, Event::Watch(id)) };
        if self.plan.moves && self.clients[id as usize].told.is_none() {
            return self.after(100_000, Event::Watch(id));
        }
        self.next_watch += 1;
        let (watch, incarnation) = (self.next_watch, self.nodes[&node].incarnation);
        let client = &mut self.clients[id as usize];
        let keys = if self.plan.moves { nomads::home(id) } else { client.watched(self.plan.groups) };
        let start = client.resume;
        let (key, end) = (Bytes::from(keys.key.clone()), Bytes::from(keys.end.clone()));
        let record = seen::Watch {
            id: watch,
            client: id,
            member: node * 1000 + incarnation,
            keys,
            start,
            prev_kv: true,
            fragment: false,
            no_put: false,
            no_delete: false,
            responses: Vec::new(),
        };
        let group = if self.plan.moves { self.route(node, &key, &end) } else { id % self.plan.groups };
        self.clients[id as usize].watch = Some(Watching { node, incarnation, group, record, last_at: self.now });
        self.say(format_args!("client {id} watches at {node} from {start} as watch {watch}"));
        let from = match self.plan.mutation {
            Some(Mutation::WatchResumesLate) if start > 0 => start + 1,
            Some(Mutation::WatchResumesEarly) if start > 1 => start - 1,
            _ => start,
        };
        let mut refused = false;
        self.with(node, |running, scene| {
            let part = running.part(group);
            match part.machine.shards.readable(&key, &end) {
                Ok(since) if from == 0 || since <= from => {}
                Ok(since) => return scene.out.push(Out::Pushed(watch, Pushed::Compacted(since))),
                Err(_) => return refused = true,
            }
            let pushed = part.watches.begin(watch, &key, &end, from, &part.machine.kv);
            scene.out.extend(pushed.into_iter().map(|(id, pushed)| Out::Pushed(id, pushed)));
        });
        if refused {
            return self.unwatch(id);
        }
        let patience = self.random.between(500_000, 6_000_000);
        self.after(patience, Event::Quiet(crate::chaos::WATCH_ENDS + watch));
    }

    /// A watch's connection breaks; the client goes on elsewhere.
    pub fn unwatch(&mut self, id: u32) {
        let Some(watching) = self.clients[id as usize].watch.take() else { return };
        let group = watching.group;
        if let Some(running) = self.nodes.get_mut(&watching.node).and_then(|n| n.running.as_mut()) {
            running.part(group).watches.end(watching.record.id);
        }
        if !self.plan.moves {
            self.histories[group as usize].watches.push(watching.record);
        }
        let pause = self.random.between(5_000, 400_000);
        self.after(pause, Event::Watch(id));
    }

    pub(super) fn pushed(&mut self, watch: u64, pushed: Pushed) {
        let now = self.now;
        let clients = self.clients.iter_mut();
        let Some(client) = clients.into_iter().find(|c| c.watch.as_ref().is_some_and(|w| w.record.id == watch)) else {
            return;
        };
        let id = client.id;
        let mut response = seen::WatchResponse { at: now, ..Default::default() };
        let mut over = false;
        match pushed {
            Pushed::Created(revision) => {
                (response.revision, response.created) = (revision, true);
                if client.resume == 0 {
                    client.resume = revision + 1;
                }
            }
            Pushed::Events(events, revision) => {
                response.revision = revision;
                response.events = events.into_iter().map(history::event).collect();
                let last = response.events.last().map_or(0, |e| e.kv.mod_revision);
                client.resume = client.resume.max(last + 1);
            }
            Pushed::Bookmark(revision) => {
                response.revision = revision;
                client.resume = client.resume.max(revision + 1);
            }
            Pushed::Compacted(revision) => {
                (response.compact_revision, response.canceled) = (revision, true);
                client.resume = revision;
                over = true;
            }
        }
        if self.plan.moves {
            let told = client.told.get_or_insert_default();
            let verdict = response.events.iter().try_for_each(|event| self.nomads.told(told, event));
            if over {
                (client.told, client.resume) = (None, 0);
            }
            self.hold("watch of moving keys", verdict.map_err(|what| format!("client {id}, watch {watch}: {what}")));
        } else if let Some(watching) = client.watch.as_mut() {
            watching.record.responses.push(response);
        }
        if over {
            self.unwatch(id);
        }
    }
}
