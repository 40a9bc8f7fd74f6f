//! What can go wrong in a store, and whether trying again can help.

use crate::{AuthError, LeaseId, Revision};

/// A failed operation. Nothing was changed unless the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The revision asked for has been compacted away.
    #[error("required revision {requested} has been compacted (compact revision {compacted})")]
    Compacted { requested: Revision, compacted: Revision },
    /// The revision asked for has not happened.
    #[error("required revision {requested} is a future revision (current revision {current})")]
    FutureRevision { requested: Revision, current: Revision },
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// No key was given.
    #[error("key is not provided")]
    EmptyKey,
    /// A value was given together with `ignore_value`.
    #[error("value is provided")]
    ValueProvided,
    /// A lease was given together with `ignore_lease`.
    #[error("lease is provided")]
    LeaseProvided,
    /// A transaction writes one key twice.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// A transaction has more operations than the bound.
    #[error("too many operations in txn request (at most {limit})")]
    TooManyOps { limit: usize },
    /// A request is larger than the bound.
    #[error("request is too large ({size} bytes, at most {limit})")]
    TooLarge { size: usize, limit: usize },
    /// No such lease.
    #[error("requested lease {0:x} not found")]
    LeaseNotFound(LeaseId),
    /// A lease of that id lives already.
    #[error("lease {0:x} already exists")]
    LeaseExists(LeaseId),
    /// The TTL asked for is over the bound.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// The request makes no sense; the text says why.
    #[error("{0}")]
    InvalidArgument(String),
    /// The disk or the quota is full. Reads and deletes go on.
    #[error("database space exceeded: {0}")]
    NoSpace(String),
    /// A bounded queue is full. Try later.
    #[error("too many requests")]
    TooManyRequests,
    /// The answer does not fit into what is left of the memory for answers. Fewer keys at a time do, or it does later.
    #[error(
        "range needs more memory than is left: {needed} bytes at least, the budget of the member is {budget} bytes; read it in pages with a limit"
    )]
    RangeTooLarge { needed: usize, budget: usize },
    /// A watcher did not read and was cut off at its bound. It can resume from the revision it has seen.
    #[error("watcher fell behind and was cancelled")]
    SlowWatcher,
    /// The backend cannot answer now. The operation may or may not have happened.
    #[error("store is unavailable: {0}")]
    Unavailable(String),
    /// No leader is known; an election is under way, or most members cannot be reached.
    #[error("no leader")]
    NoLeader,
    /// The member is not the leader, and only the leader can do this.
    #[error("not leader")]
    NotLeader,
    /// The leader changed while the request was on its way. The operation may or may not have happened.
    #[error("leader changed")]
    LeaderChanged,
    /// It took longer than an answer may take. The operation may or may not have happened.
    #[error("request timed out")]
    Timeout,
    /// The member is a learner, which serves no linearizable reads and no writes.
    #[error("rpc not supported for learner")]
    Learner,
    /// The keys of one request are kept by different groups.
    #[error(
        "the keys of one request are in several shards: {first:?} is kept by group {group}, {other:?} by group {other_group}"
    )]
    CrossShard { first: String, group: u32, other: String, other_group: u32 },
    /// The keys are on their way from one group to another. Nothing happened.
    #[error("the shard of {0:?} is on its way to another group")]
    ShardMoving(String),
    /// A change of membership was refused.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Users and roles forbid it, or a change of them was refused.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The data on disk is damaged.
    #[error("store is corrupt: {0}")]
    Corrupt(String),
    /// The store is stopping or has stopped.
    #[error("store is stopped")]
    Stopped,
}

/// Why membership did not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error("member not found")]
    NotFound,
    #[error("member ID already exist")]
    IdExists,
    #[error("Peer URLs already exists")]
    UrlExists,
    #[error("given member URLs are invalid")]
    BadUrls,
    /// A majority of started voters would be missing afterwards.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// A voter cannot be reached.
    #[error("unhealthy cluster")]
    Unhealthy,
    #[error("can only promote a learner member")]
    NotLearner,
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("too many learner members in cluster")]
    TooManyLearners,
    #[error("bad leader transferee")]
    BadTransferee,
    /// Another change is still under way.
    #[error("another change of membership is under way")]
    Busy,
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail in the same way.
    Never,
    /// It may succeed after a pause.
    Later,
}

impl StoreError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            StoreError::TooManyRequests
            | StoreError::RangeTooLarge { .. }
            | StoreError::SlowWatcher
            | StoreError::Unavailable(_)
            | StoreError::NoLeader
            | StoreError::LeaderChanged
            | StoreError::Timeout
            | StoreError::ShardMoving(_)
            | StoreError::Membership(MembershipError::LearnerNotReady | MembershipError::Busy)
            | StoreError::Auth(AuthError::OldRevision)
            | StoreError::NoSpace(_) => Retry::Later,
            _ => Retry::Never,
        }
    }
}
