//! The store as one that knows users: changes and questions go to group 0, tokens are this member's own memory of what
//! the log has given out.
//!
//! Knows no password: what is compared with a hash is compared before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use auth::{Auth as Users, Command, TokenEvent, Tokens, token_index};
use parking_lot::RwLock;
use replica::{Request, Response};
use store_api::{
    Auth, AuthAnswer, AuthChange, AuthError, AuthQuery, Caller, Demand, PasswordHash, Revision, StoreError,
};

use crate::{Store, caller::Who};

/// What of users and roles is asked for without the machine's lock.
pub struct Standing {
    enabled: AtomicBool,
    revision: AtomicU64,
    /// Who waits for the machine's lock may not hold this one.
    tokens: RwLock<Tokens>,
}

impl Standing {
    pub fn new(users: &Users, ttl: Duration) -> Self {
        Standing {
            enabled: AtomicBool::new(users.enabled()),
            revision: AtomicU64::new(users.revision()),
            tokens: RwLock::new(Tokens::new(ttl)),
        }
    }

    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Commands were applied, and `users` is what they have made. A token is forgotten before the new revision can be
    /// seen, so that nobody holds it at that revision.
    pub fn follow(&self, events: impl IntoIterator<Item = TokenEvent>, users: &Users, now: Duration) {
        let mut tokens = self.tokens.write();
        tokens.sweep(now);
        events.into_iter().for_each(|event| tokens.follow(event, now));
        drop(tokens);
        self.revision.store(users.revision(), Ordering::Release);
        self.enabled.store(users.enabled(), Ordering::Release);
    }

    fn holder(&self, token: &str, now: Duration) -> Option<Caller> {
        let revision = self.revision.load(Ordering::Acquire);
        Some(Caller::new(self.tokens.read().holder(token, now)?, revision))
    }
}

#[async_trait]
impl Auth for Store {
    fn enabled(&self) -> bool {
        self.shared.users.enabled()
    }

    fn revision(&self) -> u64 {
        self.shared.users.revision.load(Ordering::Acquire)
    }

    async fn token_holder(&self, token: &str) -> Result<Caller, StoreError> {
        let now = || self.shared.clock.monotonic();
        if let Some(caller) = self.shared.users.holder(token, now()) {
            return Ok(caller);
        }
        let index = token_index(token).ok_or(AuthError::InvalidToken)?;
        if index > self.shared.group(0).standing.applied.load(Ordering::Acquire) {
            // Whoever shows it has been told it by then: it is in what the last word is made of, or nowhere.
            self.shared.settle(0).await?;
        }
        self.shared.users.holder(token, now()).ok_or(StoreError::Auth(AuthError::InvalidToken))
    }

    async fn password_hash(&self, name: &str) -> Result<PasswordHash, StoreError> {
        self.shared.settle(0).await?;
        Ok(self.shared.group(0).machine.read().users.password_hash(name)?)
    }

    async fn assign_token(&self, name: &str, prefix: String) -> Result<String, StoreError> {
        match self.manage(Command::authenticate(name, prefix)).await? {
            (auth::Response::Token(token), _) => Ok(token),
            (other, _) => Err(strange(&other)),
        }
    }

    async fn change(&self, caller: Option<Caller>, change: AuthChange) -> Result<Revision, StoreError> {
        match self.manage(Command::new(caller, change)).await? {
            (auth::Response::Changed, revision) => Ok(revision),
            (other, _) => Err(strange(&other)),
        }
    }

    async fn query(&self, caller: Option<Caller>, query: AuthQuery) -> Result<(Revision, AuthAnswer), StoreError> {
        self.shared.settle(0).await?;
        let machine = self.shared.group(0).machine.read();
        Ok((machine.kv.revision(), machine.users.query(caller.as_ref(), &query)?))
    }

    fn permit(&self, caller: Option<&Caller>, demand: Demand) -> Result<(), AuthError> {
        self.shared.group(0).machine.read().users.permit(caller).demand(demand)
    }

    fn as_caller(&self, caller: Option<Caller>) -> Arc<dyn store_api::Store> {
        Store { who: Who::Client(caller), ..self.clone() }.whole()
    }
}

impl Store {
    async fn manage(&self, command: Command) -> Result<(auth::Response, Revision), StoreError> {
        match self.for_group(0).propose(Request::Auth(command)).await? {
            Response::Auth(response, revision) => Ok((response, revision)),
            other => Err(StoreError::Unavailable(format!("the state machine answered another request: {other:?}"))),
        }
    }
}

/// Not even a token that was not asked for is told.
fn strange(response: &auth::Response) -> StoreError {
    let what = match response {
        auth::Response::Changed => "a change",
        auth::Response::Token(_) => "a token",
    };
    StoreError::Unavailable(format!("the state machine answered {what}, which was not asked for"))
}
