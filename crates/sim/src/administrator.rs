//! Who looks after users: makes one of each client, turns authentication on, and then takes clients their role and gives it
//! back. Knows when a client must not write: from the answer to the one until it asks for the other.

use std::collections::BTreeMap;

use bytes::Bytes;
use store_api::{AuthChange, AuthError, Caller, Permission, PermissionKind, ROOT, StoreError};

use crate::{
    member::{Micros, Outcome, Ticket},
    random::Random,
    world::{Event, World},
};

const EVERY: Micros = 300_000;
/// An answer that has not come by then is not waited for.
const PATIENCE: Micros = 8_000_000;
const ROLE: &str = "writer";

pub struct Administrator {
    random: Random,
    /// What is to be done before authentication is on.
    steps: Vec<AuthChange>,
    done: usize,
    next_ticket: u64,
    /// What was asked last and has no answer yet.
    asked: Option<(Ticket, AuthChange, Micros)>,
    /// Clients without their role, and since when.
    denied: BTreeMap<u32, Micros>,
}

/// The user of a client.
pub fn user(client: u32) -> String {
    format!("client{client}")
}

impl Administrator {
    pub fn new(random: Random, clients: u32) -> Self {
        let add = |name: String| AuthChange::UserAdd { name, hash: "x".into(), no_password: false };
        let grant = |user: String, role: &str| AuthChange::UserGrantRole { user, role: role.to_owned() };
        let (key, range_end) = (Bytes::from_static(b"k"), Bytes::from_static(b"l"));
        let permission = Permission { kind: PermissionKind::ReadWrite, key, range_end };
        let mut steps = vec![add(ROOT.to_owned()), grant(ROOT.to_owned(), ROOT)];
        steps.push(AuthChange::RoleAdd { name: ROLE.to_owned() });
        steps.push(AuthChange::RoleGrantPermission { role: ROLE.to_owned(), permission });
        steps.extend((0..clients).flat_map(|client| [add(user(client)), grant(user(client), ROLE)]));
        steps.push(AuthChange::Enable);
        Administrator { random, steps, done: 0, next_ticket: 0, asked: None, denied: BTreeMap::new() }
    }

    fn wish(&mut self, clients: u32) -> AuthChange {
        if let Some(step) = self.steps.get(self.done) {
            return step.clone();
        }
        let client = self.random.below(u64::from(clients)) as u32;
        let (user, role) = (user(client), ROLE.to_owned());
        // Who may already have it back is no longer held to be without it.
        match self.denied.remove(&client).is_some() || self.random.chance(500) {
            true => AuthChange::UserGrantRole { user, role },
            false => AuthChange::UserRevokeRole { user, role },
        }
    }

    /// An answer came.
    pub fn hears(&mut self, ticket: Ticket, outcome: &Outcome, now: Micros) {
        let Some((_, change, _)) = self.asked.take_if(|(asked, ..)| *asked == ticket) else { return };
        let was = matches!(outcome, Err(StoreError::Auth(AuthError::UserAlreadyExist | AuthError::RoleAlreadyExist)));
        let done = was || outcome.is_ok();
        if self.steps.get(self.done) == Some(&change) {
            self.done += usize::from(done);
        } else if let AuthChange::UserRevokeRole { user: revoked, .. } = change
            && outcome.is_ok()
            && let Ok(client) = revoked.trim_start_matches("client").parse()
        {
            self.denied.insert(client, now);
        }
    }

    /// Whether a write that a client began at a time could only be refused.
    pub fn must_refuse(&self, client: u32, invoked: Micros) -> bool {
        self.denied.get(&client).is_some_and(|since| *since < invoked)
    }
}

/// Looks whether something is to be done.
pub fn look(world: &mut World) {
    world.after(EVERY, Event::Administrator);
    let (now, clients) = (world.now, world.clients.len() as u32);
    if world.clients_stop || world.administrator.asked.as_ref().is_some_and(|(_, _, at)| at + PATIENCE > now) {
        return;
    }
    let Some(leader) = world.leader(0) else { return };
    let administrator = &mut world.administrator;
    let change = administrator.wish(clients);
    administrator.next_ticket += 1;
    let ticket = Ticket::Administrator(administrator.next_ticket);
    administrator.asked = Some((ticket, change.clone(), now));
    world.say(format_args!("administrator asks {leader}: {change:?}"));
    world.with(leader, |running, _| {
        let part = running.part(0);
        let caller = Caller::new(ROOT, part.machine.users.revision());
        part.submit(ticket, replica::Request::Auth(auth::Command::new(Some(caller), change)), None, now);
    });
    world.turn_soon(leader);
}
