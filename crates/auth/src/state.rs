//! Users, roles and whether they count: etcd's rules for changing them, and the questions about them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use store_api::{AuthAnswer, AuthChange, AuthError, AuthQuery, Caller, PasswordHash, Permission, ROOT};

use crate::{
    command::{Action, Command},
    ranges::Ranges,
    records::{Role, User},
    tokens::TokenEvent,
};

/// The revision of users and roles before anything was ever changed.
pub const FIRST_REVISION: u64 = 1;

/// The replicated state.
#[derive(Clone)]
pub struct Auth {
    pub(crate) enabled: bool,
    pub(crate) revision: u64,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) roles: BTreeMap<String, Role>,
}

/// What a command did. On `Err` the state is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub response: Result<Response, AuthError>,
    /// What [`crate::Tokens`] must learn before the response is given.
    pub tokens: TokenEvent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Changed,
    /// The user may show this token from now on.
    Token(String),
}

impl Default for Auth {
    fn default() -> Self {
        Auth { enabled: false, revision: FIRST_REVISION, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

/// Hashes stay out of logs.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (users, roles) = (self.users.len(), self.roles.len());
        write!(f, "Auth(enabled: {}, revision: {}, users: {users}, roles: {roles})", self.enabled, self.revision)
    }
}

impl Auth {
    /// Whether requests are checked.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Counts the changes of users and roles.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Does one command of the log. Deterministic; all or nothing. `index` is the command's place in the log, which no
    /// other command has: it makes a token unlike every other.
    pub fn apply(&mut self, command: Command, index: u64) -> Applied {
        let done = match command.action {
            Action::Change(change) => self
                .check_admin(command.caller.as_ref())
                .and_then(|()| self.change(change))
                .map(|tokens| Applied { response: Ok(Response::Changed), tokens }),
            Action::Authenticate { user, prefix } => self.authenticate(&user, &prefix, index),
        };
        done.unwrap_or_else(|error| Applied { response: Err(error), tokens: TokenEvent::Nothing })
    }

    /// Answers a question of `caller`.
    pub fn query(&self, caller: Option<&Caller>, query: &AuthQuery) -> Result<AuthAnswer, AuthError> {
        let name = caller.map_or("", |caller| &caller.name);
        let admin = self.check_admin(caller);
        match query {
            AuthQuery::UserGet(user) if user == name => {}
            AuthQuery::RoleGet(role) if self.users.get(name).is_some_and(|user| user.has(role)) => {}
            _ => admin?,
        }
        Ok(match query {
            AuthQuery::Status => AuthAnswer::Status { enabled: self.enabled, revision: self.revision },
            AuthQuery::UserGet(user) => {
                AuthAnswer::Names(self.users.get(user).ok_or(AuthError::UserNotFound)?.roles.clone())
            }
            AuthQuery::RoleGet(role) => {
                AuthAnswer::Permissions(self.roles.get(role).ok_or(AuthError::RoleNotFound)?.permissions.clone())
            }
            AuthQuery::UserList => AuthAnswer::Names(self.users.keys().cloned().collect()),
            AuthQuery::RoleList => AuthAnswer::Names(self.roles.keys().cloned().collect()),
        })
    }

    /// What a user's password is compared with.
    pub fn password_hash(&self, name: &str) -> Result<PasswordHash, AuthError> {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        let user = self.users.get(name).ok_or(AuthError::Failed)?;
        if user.no_password {
            return Err(AuthError::NoPasswordUser);
        }
        Ok(PasswordHash { hash: user.hash.clone(), revision: self.revision })
    }

    /// Whether `caller` may do what only root may.
    pub fn check_admin(&self, caller: Option<&Caller>) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        let caller = caller.filter(|caller| !caller.name.is_empty()).ok_or(AuthError::UserEmpty)?;
        let user = self.users.get(&*caller.name).ok_or(AuthError::UserNotFound)?;
        if user.is_root() { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    pub(crate) fn ranges<'a>(&'a self, user: &'a User) -> &'a Ranges {
        user.ranges.get_or_init(|| {
            let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
            Ranges::new(roles.flat_map(|role| &role.permissions))
        })
    }

    fn authenticate(&self, user: &str, prefix: &str, index: u64) -> Result<Applied, AuthError> {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        // The password was compared before; whether the user has got another one since is seen by the revision.
        if self.users.get(user).is_none_or(|user| user.no_password) {
            return Err(AuthError::Failed);
        }
        let token = format!("{prefix}.{index}");
        let tokens = TokenEvent::Assigned { token: token.as_str().into(), user: user.into() };
        Ok(Applied { response: Ok(Response::Token(token)), tokens })
    }

    fn change(&mut self, change: AuthChange) -> Result<TokenEvent, AuthError> {
        match change {
            AuthChange::Enable => self.enable()?,
            AuthChange::Disable => return Ok(self.disable()),
            AuthChange::UserAdd { name, hash, no_password } => self.user_add(name, hash, no_password)?,
            AuthChange::UserDelete { name } => return self.user_delete(&name),
            AuthChange::UserChangePassword { name, hash } => return self.user_change_password(&name, hash),
            AuthChange::UserGrantRole { user, role } => self.user_grant_role(&user, role)?,
            AuthChange::UserRevokeRole { user, role } => self.user_revoke_role(&user, &role)?,
            AuthChange::RoleAdd { name } => self.role_add(name)?,
            AuthChange::RoleDelete { name } => self.role_delete(&name)?,
            AuthChange::RoleGrantPermission { role, permission } => self.grant_permission(&role, permission)?,
            AuthChange::RoleRevokePermission { role, key, range_end } => {
                self.revoke_permission(&role, &key, &range_end)?;
            }
        }
        Ok(TokenEvent::Nothing)
    }

    /// Does not move the revision: tokens signed while it was being set up stay valid.
    fn enable(&mut self) -> Result<(), AuthError> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT).ok_or(AuthError::RootUserNotExist)?;
        if !root.is_root() {
            return Err(AuthError::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(())
    }

    fn disable(&mut self) -> TokenEvent {
        if !self.enabled {
            return TokenEvent::Nothing;
        }
        self.enabled = false;
        self.revision += 1;
        TokenEvent::AllForgotten
    }

    fn user_add(&mut self, name: String, hash: Bytes, no_password: bool) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.users.contains_key(&name) {
            return Err(AuthError::UserAlreadyExist);
        }
        let hash = if no_password { Bytes::new() } else { hash };
        self.users.insert(name, User { hash, no_password, ..User::default() });
        self.revision += 1;
        Ok(())
    }

    fn user_delete(&mut self, name: &str) -> Result<TokenEvent, AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        self.revision += 1;
        Ok(TokenEvent::Forgotten(Arc::from(name)))
    }

    fn user_change_password(&mut self, name: &str, hash: Bytes) -> Result<TokenEvent, AuthError> {
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        user.hash = if user.no_password { Bytes::new() } else { hash };
        self.revision += 1;
        Ok(TokenEvent::Forgotten(Arc::from(name)))
    }

    /// The role of root can be granted before it exists.
    fn user_grant_role(&mut self, user: &str, role: String) -> Result<(), AuthError> {
        let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
        if role != ROOT && !self.roles.contains_key(&role) {
            return Err(AuthError::RoleNotFound);
        }
        let Err(place) = user.roles.binary_search(&role) else { return Ok(()) };
        user.roles.insert(place, role);
        user.ranges = OnceLock::new();
        self.revision += 1;
        Ok(())
    }

    fn user_revoke_role(&mut self, name: &str, role: &str) -> Result<(), AuthError> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        if !take_role(user, role) {
            return Err(AuthError::RoleNotGranted);
        }
        self.revision += 1;
        Ok(())
    }

    fn role_add(&mut self, name: String) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.roles.contains_key(&name) {
            return Err(AuthError::RoleAlreadyExist);
        }
        self.roles.insert(name, Role::default());
        self.revision += 1;
        Ok(())
    }

    fn role_delete(&mut self, name: &str) -> Result<(), AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        for user in self.users.values_mut() {
            take_role(user, name);
        }
        self.revision += 1;
        Ok(())
    }

    /// As in etcd, of several permissions that begin with the same key only the first is ever replaced: to grant one
    /// of the others again adds it a second time.
    fn grant_permission(&mut self, role: &str, permission: Permission) -> Result<(), AuthError> {
        if !is_range(&permission.key, &permission.range_end) {
            return Err(AuthError::InvalidManagement);
        }
        let permissions = &mut self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?.permissions;
        let first = permissions.partition_point(|own| own.key < permission.key);
        match permissions.get_mut(first) {
            Some(own) if own.key == permission.key && own.range_end == permission.range_end => {
                own.kind = permission.kind;
            }
            _ => {
                let place = permissions.partition_point(|own| own.key <= permission.key);
                permissions.insert(place, permission);
            }
        }
        self.forget_ranges(role);
        self.revision += 1;
        Ok(())
    }

    fn revoke_permission(&mut self, role: &str, key: &[u8], range_end: &[u8]) -> Result<(), AuthError> {
        let permissions = &mut self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?.permissions;
        let before = permissions.len();
        permissions.retain(|own| own.key != key || own.range_end != range_end);
        if permissions.len() == before {
            return Err(AuthError::PermissionNotGranted);
        }
        self.forget_ranges(role);
        self.revision += 1;
        Ok(())
    }

    fn forget_ranges(&mut self, role: &str) {
        for user in self.users.values_mut().filter(|user| user.has(role)) {
            user.ranges = OnceLock::new();
        }
    }
}

fn take_role(user: &mut User, role: &str) -> bool {
    let Ok(place) = user.roles.binary_search_by(|own| own.as_str().cmp(role)) else { return false };
    user.roles.remove(place);
    user.ranges = OnceLock::new();
    true
}

/// A single key, a range that is not empty, or everything from a key on.
fn is_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == [0] || key < range_end)
}
