//! What happens to messages between members: lost, late, twice, in another order, or not at all where members are cut off
//! from each other, maybe in one direction only.
//!
//! Proposals that a follower passes on do not come twice: members talk over TCP, which repeats nothing, and Raft does not
//! either.

use std::collections::BTreeSet;

use consensus::{Message, MessageType};

use crate::{member::Micros, random::Random};

/// How bad the network is.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Nothing gets from the first to the second.
    blocked: BTreeSet<(u64, u64)>,
    /// So many of a thousand messages.
    pub loss: u64,
    pub twice: u64,
    pub slowest: Micros,
}

const FASTEST: Micros = 200;
const HEALTHY: Micros = 3_000;

impl Network {
    pub fn healthy() -> Self {
        Network { slowest: HEALTHY, ..Default::default() }
    }

    pub fn is_blocked(&self, from: u64, to: u64) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub fn block(&mut self, from: u64, to: u64) {
        self.blocked.insert((from, to));
    }

    pub fn delay(&self, random: &mut Random) -> Micros {
        // Most are quick, some take as long as it can take.
        let slowest = if random.chance(800) { self.slowest.min(2 * HEALTHY) } else { self.slowest };
        random.between(FASTEST, slowest.max(FASTEST))
    }

    /// After which times a message arrives.
    pub fn deliveries(&self, message: &Message, random: &mut Random) -> Vec<Micros> {
        if self.is_blocked(message.from, message.to) || random.chance(self.loss) {
            return Vec::new();
        }
        let mut times = vec![self.delay(random)];
        if message.get_msg_type() != MessageType::MsgPropose && random.chance(self.twice) {
            times.push(self.delay(random));
        }
        times
    }
}
