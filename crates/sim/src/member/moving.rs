//! Moves of shards, as the member that leads group 0 carries them out: what comes next is the store's own
//! [`replica::shards::Mover`]; here are the waiting for answers, and the giving up.

use replica::shards::{Mover, Next, Plan, ShardStep, Step, Stepped};

use super::*;

/// The pause before a plan is tried again.
const PAUSE: Micros = 2 * TICK;
/// So many of a thousand steps are not waited for: what was proposed comes later, when another attempt is on its way.
const IMPATIENCE: u64 = 60;

/// An attempt that is under way.
pub struct Moving {
    mover: Mover,
    waits_for: u64,
}

impl Running {
    /// Begins whatever is planned, while this member leads group 0.
    pub fn move_shards(&mut self, scene: &mut Scene<'_>) {
        if self.broken.is_some() || self.moving.is_some() || !self.parts[0].standing.leads || scene.now < self.move_at {
            return;
        }
        let first = self.parts[0].machine.shards.plans().next();
        let Some((prefix, plan)) = first.map(|(prefix, plan)| (prefix.clone(), *plan)) else { return };
        self.moving = Some(Moving { mover: Mover::new(prefix, plan), waits_for: 0 });
        self.go_on(None, scene);
    }

    /// What the move waited for has come, or will not.
    pub fn moved(&mut self, number: u64, outcome: Outcome, scene: &mut Scene<'_>) {
        if self.broken.is_some() || self.moving.as_ref().is_none_or(|moving| moving.waits_for != number) {
            return;
        }
        match outcome {
            Ok(Reply::Settled) => self.go_on(None, scene),
            Ok(Reply::Done(replica::Response::Shard(stepped))) => self.go_on(Some(stepped), scene),
            _ => self.give_up(scene),
        }
    }

    fn give_up(&mut self, scene: &mut Scene<'_>) {
        self.moving = None;
        self.move_at = scene.now + PAUSE;
    }

    fn go_on(&mut self, mut answer: Option<Stepped>, scene: &mut Scene<'_>) {
        loop {
            let number = self.id();
            let Some(moving) = self.moving.as_mut() else { return };
            moving.waits_for = number;
            let (prefix, plan) = (moving.mover.prefix().clone(), *moving.mover.plan());
            let parts = &self.parts;
            let next = moving.mover.next(answer.take(), |group| &parts[group as usize].machine);
            let ticket = Ticket::Mover { member: self.id, number };
            match next {
                // No client has keys with leases here.
                Ok(Next::EndOrphans(_)) => {}
                Ok(Next::Settle(group)) => return self.settle(group, ticket, scene),
                Ok(Next::Step(group, step)) => return self.take_step(group, plan, ShardStep { prefix, step }, scene),
                Ok(Next::Over) => return self.moving = None,
                Err(error) => {
                    scene.trace.say(scene.now, format_args!("{}: the move of {prefix:?} waits: {error}", self.id));
                    return self.give_up(scene);
                }
            }
        }
    }

    fn take_step(&mut self, group: GroupId, plan: Plan, step: ShardStep, scene: &mut Scene<'_>) {
        let Some(number) = self.moving.as_ref().map(|moving| moving.waits_for) else { return };
        scene
            .trace
            .say(scene.now, format_args!("{}: {plan:?} of {:?} in group {group}: {step:?}", self.id, step.prefix));
        let ticket = Ticket::Mover { member: self.id, number };
        let now = scene.now;
        if scene.mutation == Some(Mutation::ReleasedTooEarly) && matches!(step.step, Step::Keys(..)) {
            // As if the target had it.
            return scene.out.push(Out::Answer(ticket, Ok(Reply::Done(replica::Response::Shard(Stepped::At(0))))));
        }
        self.part(group).submit(ticket, replica::Request::Shard(step), None, now);
        if scene.random.chance(IMPATIENCE) {
            self.give_up(scene);
        }
    }
}
