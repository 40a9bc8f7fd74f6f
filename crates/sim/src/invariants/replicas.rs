//! The same entries give the same state on every member. The whole content is compared at a run's end; on the way, at
//! each index, what can be had at no cost.

use std::collections::BTreeMap;

use replica::Machine;

use super::Verdict;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    term: u64,
    revision: i64,
    compacted: i64,
    keys: u64,
    leases: usize,
    members: usize,
    learners: usize,
    users: u64,
    roles_and_users: u64,
}

/// By index: what the state looks like, and who had it first.
#[derive(Default)]
pub struct Replicas(BTreeMap<u64, (Look, u64)>);

impl Replicas {
    pub fn holds(&mut self, member: u64, machine: &Machine) -> Verdict {
        if machine.index == 0 {
            return Ok(());
        }
        let look = Look {
            term: machine.term,
            revision: machine.kv.revision(),
            compacted: machine.kv.compacted(),
            keys: machine.kv.keys(),
            leases: machine.kv.leases().count(),
            members: machine.members.len(),
            learners: machine.members.iter().filter(|m| m.is_learner).count(),
            users: machine.users.revision(),
            roles_and_users: u64::from(crc32c::crc32c(&machine.users.snapshot())),
        };
        let (known, first) = *self.0.entry(machine.index).or_insert((look, member));
        if known == look {
            return Ok(());
        }
        let index = machine.index;
        Err(format!("after entry {index} member {first} has {known:?}, member {member} {look:?}"))
    }
}
