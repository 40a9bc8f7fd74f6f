//! Users, roles and permissions as etcd has them, and what a server asks of a store that guards its keys.
//!
//! Knows no password and no token's signature: a password arrives here as its bcrypt hash, and whoever carries a signed
//! token has been recognised before. The store keeps users and roles, hands out the tokens that it must remember
//! itself (etcd's kind `simple`), and decides what a caller may do.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Revision, Store, StoreError};

/// The user, and the role, that may do everything.
pub const ROOT: &str = "root";

/// Why a change of users and roles, or a request of a user, was refused. The words are etcd's own, as it logs them;
/// what a client reads is assigned where the other codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AuthError {
    #[error("auth: root user does not exist")]
    RootUserNotExist,
    #[error("auth: root user does not have root role")]
    RootRoleNotExist,
    #[error("auth: user already exists")]
    UserAlreadyExist,
    /// A name is empty, or the request says nothing of who sends it.
    #[error("auth: user name is empty")]
    UserEmpty,
    #[error("auth: user not found")]
    UserNotFound,
    #[error("auth: role already exists")]
    RoleAlreadyExist,
    #[error("auth: role not found")]
    RoleNotFound,
    #[error("auth: role name is empty")]
    RoleEmpty,
    #[error("auth: permission not given")]
    PermissionNotGiven,
    #[error("auth: authentication failed, invalid user ID or password")]
    Failed,
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    #[error("auth: permission denied")]
    PermissionDenied,
    #[error("auth: role is not granted to the user")]
    RoleNotGranted,
    #[error("auth: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("auth: authentication is not enabled")]
    NotEnabled,
    /// Users or roles have changed since the caller was recognised.
    #[error("auth: revision in header is old")]
    OldRevision,
    #[error("auth: invalid auth token")]
    InvalidToken,
    /// A change that would lock everybody out, or a range that ends before it begins.
    #[error("auth: invalid auth management")]
    InvalidManagement,
    /// A token is asked of a member that has the public key alone.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
}

/// Who sends a request. Without authentication, and for requests that say nothing of it, there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    pub name: Arc<str>,
    /// The revision of users and roles at which the caller was recognised; a request that meets a newer one is refused.
    pub revision: u64,
}

impl Caller {
    pub fn new(name: impl Into<Arc<str>>, revision: u64) -> Self {
        Caller { name: name.into(), revision }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PermissionKind {
    Read,
    Write,
    ReadWrite,
}

/// What a role may do with the keys in `[key, range_end)`; an empty end is the single key, `[0]` is every key from `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub kind: PermissionKind,
    pub key: Bytes,
    pub range_end: Bytes,
}

/// A change of users and roles. Only root may make one while authentication is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    Enable,
    Disable,
    /// `hash` is the bcrypt hash of the password; a user with `no_password` is recognised by a certificate only.
    UserAdd {
        name: String,
        hash: Bytes,
        no_password: bool,
    },
    UserDelete {
        name: String,
    },
    /// An empty hash leaves a user that no password fits.
    UserChangePassword {
        name: String,
        hash: Bytes,
    },
    UserGrantRole {
        user: String,
        role: String,
    },
    UserRevokeRole {
        user: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    RoleGrantPermission {
        role: String,
        permission: Permission,
    },
    RoleRevokePermission {
        role: String,
        key: Bytes,
        range_end: Bytes,
    },
}

/// A question about users and roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthQuery {
    Status,
    /// Root asks for anybody, everybody asks for themselves.
    UserGet(String),
    UserList,
    /// Root asks for any role, everybody asks for the roles that they have.
    RoleGet(String),
    RoleList,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthAnswer {
    Status {
        enabled: bool,
        revision: u64,
    },
    /// Names of users or of roles, in order.
    Names(Vec<String>),
    Permissions(Vec<Permission>),
}

/// What a password is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordHash {
    pub hash: Bytes,
    /// The revision of users and roles at which this was the hash.
    pub revision: u64,
}

/// What a request needs besides what its keys say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// That the caller is known.
    Caller,
    /// That the caller has the role of root.
    Admin,
}

/// A store that knows users.
#[async_trait]
pub trait Auth: Send + Sync + 'static {
    /// Whether requests are checked at all. Asked for each request: one atomic load.
    fn enabled(&self) -> bool;

    /// The revision of users and roles.
    fn revision(&self) -> u64;

    /// Who holds a token that the store has given out; renews it. Waits, as far as the caller's patience goes, for a
    /// token that another member has given out and this one has still to hear of.
    async fn token_holder(&self, token: &str) -> Result<Caller, StoreError>;

    /// What a user's password is compared with, as of now in the whole cluster. Fails for users that have none.
    async fn password_hash(&self, name: &str) -> Result<PasswordHash, StoreError>;

    /// Gives out a token that every member knows, to a user whose password was right. It begins with `prefix`, which
    /// nobody can guess.
    async fn assign_token(&self, name: &str, prefix: String) -> Result<String, StoreError>;

    /// Makes a change. Acknowledged only when it is on disk. Returns the revision of the keys, for the header.
    async fn change(&self, caller: Option<Caller>, change: AuthChange) -> Result<Revision, StoreError>;

    /// Answers a question, as of now in the whole cluster.
    async fn query(&self, caller: Option<Caller>, query: AuthQuery) -> Result<(Revision, AuthAnswer), StoreError>;

    /// Whether a request that touches no key may go on.
    fn permit(&self, caller: Option<&Caller>, demand: Demand) -> Result<(), AuthError>;

    /// The store as `caller` may use it.
    fn as_caller(&self, caller: Option<Caller>) -> Arc<dyn Store>;
}
