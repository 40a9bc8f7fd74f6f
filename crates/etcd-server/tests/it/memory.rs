//! A store in memory that knows users: the engines `mvcc` and `auth` behind the traits, and nothing else.
//!
//! It is also the shape of the few lines that a real store needs: apply under one lock, ask the permit first.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use auth::{Auth as Users, Command, Permit, Response, Tokens};
use parking_lot::Mutex;
use runtime::Clock;
use store_api::*;

/// A handle on the store; clones are handles on the same one.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    enabled: AtomicBool,
    revision: AtomicU64,
    state: Mutex<State>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    keys: mvcc::State,
    users: Users,
    tokens: Tokens,
    index: u64,
}

/// The store as one caller may use it; without a guard, as the server itself does.
struct View {
    store: Memory,
    guard: Option<Option<Caller>>,
}

impl Memory {
    pub fn new(clock: Clock) -> Self {
        let state = State::default();
        let (enabled, revision) = (AtomicBool::new(false), AtomicU64::new(state.users.revision()));
        Memory(Arc::new(Inner { enabled, revision, state: Mutex::new(state), clock }))
    }

    pub fn unguarded(&self) -> Arc<dyn Store> {
        Arc::new(View { store: self.clone(), guard: None })
    }

    fn apply(&self, command: Command) -> Result<(Response, Revision), StoreError> {
        // What is applied is what the log would have kept.
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let command = Command::decode(&bytes).expect("a command comes back as it went");
        let mut state = self.0.state.lock();
        state.index += 1;
        let index = state.index;
        let applied = state.users.apply(command, index);
        state.tokens.follow(applied.tokens, self.0.clock.monotonic());
        self.0.enabled.store(state.users.enabled(), Ordering::Release);
        self.0.revision.store(state.users.revision(), Ordering::Release);
        Ok((applied.response?, state.keys.revision()))
    }
}

impl View {
    /// Does something as the caller, after it has been allowed.
    fn as_allowed<T>(
        &self,
        allow: impl FnOnce(&Permit<'_>, &mvcc::State) -> Result<(), AuthError>,
        act: impl FnOnce(&mut mvcc::State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.store.0.state.lock();
        if let Some(caller) = &self.guard {
            allow(&state.users.permit(caller.as_ref()), &state.keys)?;
        }
        act(&mut state.keys)
    }

    fn write(
        &self,
        command: mvcc::Command,
        allow: impl FnOnce(&Permit<'_>, &mvcc::State) -> Result<(), AuthError>,
    ) -> Result<mvcc::Response, StoreError> {
        mvcc::check_command(&command, &mvcc::Limits::default())?;
        self.as_allowed(allow, |keys| keys.apply(command).response)
    }
}

macro_rules! answer {
    ($response:expr, $kind:ident) => {
        match $response? {
            mvcc::Response::$kind(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    };
}

#[async_trait]
impl Store for View {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        mvcc::check_range(&request)?;
        self.as_allowed(|permit, _| permit.range(&request), |keys| keys.range(request.clone()))
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, StoreError> {
        let command = mvcc::Command::Put(request.clone());
        answer!(self.write(command, |permit, keys| permit.put(&request, |id| keys.lease_keys(id))), Put)
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, StoreError> {
        let command = mvcc::Command::DeleteRange(request.clone());
        answer!(self.write(command, |permit, _| permit.delete_range(&request)), DeleteRange)
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        let command = mvcc::Command::Txn(request.clone());
        answer!(self.write(command, |permit, keys| permit.txn(&request, |id| keys.lease_keys(id))), Txn)
    }

    async fn compact(&self, revision: Revision, _physical: bool) -> Result<Revision, StoreError> {
        answer!(self.write(mvcc::Command::Compact(revision), |permit, _| permit.compact()), Compacted)
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watcher>, StoreError> {
        self.as_allowed(|permit, _| permit.watch(&request.key, &request.range_end), |_| Ok(Box::new(Silent) as _))
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, StoreError> {
        answer!(self.write(mvcc::Command::LeaseGrant { id, ttl }, |permit, _| permit.lease_grant()), LeaseGranted)
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        let command = mvcc::Command::LeaseRevoke { id };
        answer!(self.write(command, |permit, keys| permit.lease_revoke(id, |id| keys.lease_keys(id))), LeaseRevoked)
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError> {
        self.as_allowed(
            |permit, keys| permit.lease_keep_alive(id, |id| keys.lease_keys(id)),
            |keys| Ok(Lease { id, ttl: keys.lease_ttl(id).ok_or(StoreError::LeaseNotFound(id))? }),
        )
    }

    async fn lease_time_to_live(&self, id: LeaseId, with_keys: bool) -> Result<LeaseStatus, StoreError> {
        self.as_allowed(
            |permit, keys| permit.lease_time_to_live(id, with_keys, |id| keys.lease_keys(id)),
            |keys| {
                let ttl = keys.lease_ttl(id).ok_or(StoreError::LeaseNotFound(id))?;
                let keys = if with_keys { keys.lease_keys(id) } else { Vec::new() };
                Ok(LeaseStatus { id, ttl, granted_ttl: ttl, keys })
            },
        )
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        self.as_allowed(
            |permit, keys| permit.leases(keys.leases().map(|(id, _)| id), |id| keys.lease_keys(id)),
            |keys| Ok(keys.leases().map(|(id, _)| id).collect()),
        )
    }

    async fn status(&self) -> Result<Status, StoreError> {
        let revision = self.store.0.state.lock().keys.revision();
        Ok(Status { version: "3.5.30".into(), revision, member_id: 1, leader: 1, ..Default::default() })
    }

    async fn hash_kv(&self, revision: Revision) -> Result<HashKv, StoreError> {
        Ok(HashKv { hash_revision: revision, ..Default::default() })
    }
}

/// A watch on which nothing ever happens: these tests ask who may open one.
struct Silent;

#[async_trait]
impl Watcher for Silent {
    async fn next(&mut self) -> Result<WatchResponse, StoreError> {
        std::future::pending().await
    }

    fn request_progress(&self) {}
}

#[async_trait]
impl Auth for Memory {
    fn enabled(&self) -> bool {
        self.0.enabled.load(Ordering::Acquire)
    }

    fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::Acquire)
    }

    async fn token_holder(&self, token: &str) -> Result<Caller, StoreError> {
        let state = self.0.state.lock();
        let name = state.tokens.holder(token, self.0.clock.monotonic()).ok_or(AuthError::InvalidToken)?;
        Ok(Caller::new(name, state.users.revision()))
    }

    async fn password_hash(&self, name: &str) -> Result<PasswordHash, StoreError> {
        Ok(self.0.state.lock().users.password_hash(name)?)
    }

    async fn assign_token(&self, name: &str, prefix: String) -> Result<String, StoreError> {
        match self.apply(Command::authenticate(name, prefix))? {
            (Response::Token(token), _) => Ok(token),
            (other, _) => panic!("{other:?}"),
        }
    }

    async fn change(&self, caller: Option<Caller>, change: AuthChange) -> Result<Revision, StoreError> {
        Ok(self.apply(Command::new(caller, change))?.1)
    }

    async fn query(&self, caller: Option<Caller>, query: AuthQuery) -> Result<(Revision, AuthAnswer), StoreError> {
        let state = self.0.state.lock();
        Ok((state.keys.revision(), state.users.query(caller.as_ref(), &query)?))
    }

    fn permit(&self, caller: Option<&Caller>, demand: Demand) -> Result<(), AuthError> {
        self.0.state.lock().users.permit(caller).demand(demand)
    }

    fn as_caller(&self, caller: Option<Caller>) -> Arc<dyn Store> {
        Arc::new(View { store: self.clone(), guard: Some(caller) })
    }
}
