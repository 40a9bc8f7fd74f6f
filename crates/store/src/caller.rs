//! In whose name a handle uses the store, and what that allows.
//!
//! What is read is checked under the lock under which it is read; what is written carries its caller into the log and is
//! checked when it is applied. Users and roles are group 0's: another group's writes are checked before they are
//! proposed, and not again.

use std::sync::atomic::Ordering;

use auth::Permit;
use mvcc::{Command, State};
use replica::{Machine, Request};
use store_api::{AuthError, Caller, StoreError};

use crate::Store;

/// Whose requests a handle makes.
#[derive(Clone, Debug, Default)]
pub enum Who {
    /// The program's own: what it reads is not checked, and while authentication is on it writes nothing.
    #[default]
    Program,
    /// A client's, and the client's name if it has said one.
    Client(Option<Caller>),
}

impl Store {
    /// Whether the handle's holder may do something with the keys of `machine`, which is this group's.
    pub(crate) fn allow(
        &self,
        machine: &Machine,
        allowed: impl FnOnce(&Permit<'_>, &State) -> Result<(), AuthError>,
    ) -> Result<(), AuthError> {
        let Who::Client(caller) = &self.who else { return Ok(()) };
        if self.group != 0 {
            let home = self.shared.group(0).machine.read();
            return allowed(&home.users.permit(caller.as_ref()), &machine.kv);
        }
        match machine.users.enabled() {
            true => allowed(&machine.users.permit(caller.as_ref()), &machine.kv),
            false => Ok(()),
        }
    }

    /// As [`Store::allow`], for what is not read from this member's state: first that state becomes the last word.
    pub(crate) async fn allow_settled(
        &self,
        allowed: impl FnOnce(&Permit<'_>, &State) -> Result<(), AuthError>,
    ) -> Result<(), StoreError> {
        if matches!(self.who, Who::Program) || !self.shared.users.enabled() {
            return Ok(());
        }
        self.settle().await?;
        Ok(self.allow(&self.group().machine.read(), allowed)?)
    }

    /// Refuses what an alarm is about; in group 0 that is done when a request is applied.
    pub(crate) fn refuse_under_alarm(&self, command: &Command) -> Result<(), StoreError> {
        if self.group == 0 || !self.shared.alarmed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.shared.group(0).machine.read().refuse_under_alarm(command)
    }

    /// A command as a request of the handle's holder.
    pub(crate) fn signed(&self, command: Command) -> Result<Request, AuthError> {
        match &self.who {
            Who::Client(_) if self.group != 0 => {
                self.allow(&self.group().machine.read(), |permit, kv| replica::allow(permit, &command, kv))?;
                Ok(Request::Kv(command))
            }
            Who::Program if self.group != 0 && self.shared.users.enabled() => Err(AuthError::UserEmpty),
            Who::Client(Some(caller)) => Ok(Request::KvAs(caller.clone(), command)),
            Who::Client(None) | Who::Program => Ok(Request::Kv(command)),
        }
    }
}
