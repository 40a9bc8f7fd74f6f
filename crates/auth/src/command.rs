//! One entry of the log that touches users and roles, and its bytes.
//!
//! All commands share one set of numbered fields, so that a newer version can add one without a new layout.

use bytes::Bytes;
use store_api::{AuthChange, Caller, Permission, PermissionKind};

use crate::wire::{DecodeError, Fields, put_bytes, put_number};

/// What is proposed. It carries everything that its effect depends on, besides the state and its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Whose wish it is; checked when the command is applied, because permissions may have changed on its way.
    pub caller: Option<Caller>,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Change(AuthChange),
    /// Gives a token to a user whose password was right when it was compared, before the proposal.
    Authenticate {
        user: String,
        /// Letters that nobody can guess; the token begins with them.
        prefix: String,
    },
}

/// The numbers of the fields. They are on disks: a number is never given another meaning.
mod field {
    pub const CALLER: u32 = 1;
    pub const CALLER_REVISION: u32 = 2;
    pub const KIND: u32 = 3;
    pub const USER: u32 = 4;
    pub const ROLE: u32 = 5;
    pub const HASH: u32 = 6;
    pub const NO_PASSWORD: u32 = 7;
    pub const KEY: u32 = 8;
    pub const RANGE_END: u32 = 9;
    pub const PERMISSION: u32 = 10;
    pub const PREFIX: u32 = 11;
}

/// The numbers of the actions, as durable as those of the fields.
mod kind {
    pub const ENABLE: u64 = 1;
    pub const DISABLE: u64 = 2;
    pub const USER_ADD: u64 = 3;
    pub const USER_DELETE: u64 = 4;
    pub const USER_CHANGE_PASSWORD: u64 = 5;
    pub const USER_GRANT_ROLE: u64 = 6;
    pub const USER_REVOKE_ROLE: u64 = 7;
    pub const ROLE_ADD: u64 = 8;
    pub const ROLE_DELETE: u64 = 9;
    pub const ROLE_GRANT_PERMISSION: u64 = 10;
    pub const ROLE_REVOKE_PERMISSION: u64 = 11;
    pub const AUTHENTICATE: u64 = 12;
}

impl Command {
    pub fn new(caller: Option<Caller>, change: AuthChange) -> Self {
        Command { caller, action: Action::Change(change) }
    }

    pub fn authenticate(user: impl Into<String>, prefix: String) -> Self {
        Command { caller: None, action: Action::Authenticate { user: user.into(), prefix } }
    }

    /// Appends the command's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Some(caller) = &self.caller {
            put_bytes(out, field::CALLER, caller.name.as_bytes());
            put_number(out, field::CALLER_REVISION, caller.revision);
        }
        match &self.action {
            Action::Change(change) => encode_change(out, change),
            Action::Authenticate { user, prefix } => {
                put_number(out, field::KIND, kind::AUTHENTICATE);
                put_bytes(out, field::USER, user.as_bytes());
                put_bytes(out, field::PREFIX, prefix.as_bytes());
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let parts = Parts::decode(bytes)?;
        Ok(Command { caller: parts.caller(), action: parts.action()? })
    }
}

fn encode_change(out: &mut Vec<u8>, change: &AuthChange) {
    let put = |out: &mut Vec<u8>, number, user: &str, role: &str| {
        put_number(out, field::KIND, number);
        for (field, name) in [(field::USER, user), (field::ROLE, role)] {
            if !name.is_empty() {
                put_bytes(out, field, name.as_bytes());
            }
        }
    };
    match change {
        AuthChange::Enable => put(out, kind::ENABLE, "", ""),
        AuthChange::Disable => put(out, kind::DISABLE, "", ""),
        AuthChange::UserAdd { name, hash, no_password } => {
            put(out, kind::USER_ADD, name, "");
            put_bytes(out, field::HASH, hash);
            put_number(out, field::NO_PASSWORD, u64::from(*no_password));
        }
        AuthChange::UserDelete { name } => put(out, kind::USER_DELETE, name, ""),
        AuthChange::UserChangePassword { name, hash } => {
            put(out, kind::USER_CHANGE_PASSWORD, name, "");
            put_bytes(out, field::HASH, hash);
        }
        AuthChange::UserGrantRole { user, role } => put(out, kind::USER_GRANT_ROLE, user, role),
        AuthChange::UserRevokeRole { user, role } => put(out, kind::USER_REVOKE_ROLE, user, role),
        AuthChange::RoleAdd { name } => put(out, kind::ROLE_ADD, "", name),
        AuthChange::RoleDelete { name } => put(out, kind::ROLE_DELETE, "", name),
        AuthChange::RoleGrantPermission { role, permission } => {
            put(out, kind::ROLE_GRANT_PERMISSION, "", role);
            put_bytes(out, field::KEY, &permission.key);
            put_bytes(out, field::RANGE_END, &permission.range_end);
            put_number(out, field::PERMISSION, number_of(permission.kind));
        }
        AuthChange::RoleRevokePermission { role, key, range_end } => {
            put(out, kind::ROLE_REVOKE_PERMISSION, "", role);
            put_bytes(out, field::KEY, key);
            put_bytes(out, field::RANGE_END, range_end);
        }
    }
}

/// The fields of one command, before it is known which of them count.
#[derive(Default)]
struct Parts {
    caller: Option<String>,
    caller_revision: u64,
    kind: u64,
    user: String,
    role: String,
    hash: Bytes,
    no_password: bool,
    key: Bytes,
    range_end: Bytes,
    permission: u64,
    prefix: String,
}

impl Parts {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut parts = Parts::default();
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                field::CALLER => parts.caller = Some(value.text()?.to_owned()),
                field::CALLER_REVISION => parts.caller_revision = value.number()?,
                field::KIND => parts.kind = value.number()?,
                field::USER => parts.user = value.text()?.to_owned(),
                field::ROLE => parts.role = value.text()?.to_owned(),
                field::HASH => parts.hash = Bytes::copy_from_slice(value.bytes()?),
                field::NO_PASSWORD => parts.no_password = value.number()? != 0,
                field::KEY => parts.key = Bytes::copy_from_slice(value.bytes()?),
                field::RANGE_END => parts.range_end = Bytes::copy_from_slice(value.bytes()?),
                field::PERMISSION => parts.permission = value.number()?,
                field::PREFIX => parts.prefix = value.text()?.to_owned(),
                _ => {}
            }
        }
        Ok(parts)
    }

    fn caller(&self) -> Option<Caller> {
        self.caller.as_deref().map(|name| Caller::new(name, self.caller_revision))
    }

    fn action(self) -> Result<Action, DecodeError> {
        let Parts { user, role, hash, no_password, key, range_end, permission, prefix, .. } = self;
        Ok(Action::Change(match self.kind {
            kind::ENABLE => AuthChange::Enable,
            kind::DISABLE => AuthChange::Disable,
            kind::USER_ADD => AuthChange::UserAdd { name: user, hash, no_password },
            kind::USER_DELETE => AuthChange::UserDelete { name: user },
            kind::USER_CHANGE_PASSWORD => AuthChange::UserChangePassword { name: user, hash },
            kind::USER_GRANT_ROLE => AuthChange::UserGrantRole { user, role },
            kind::USER_REVOKE_ROLE => AuthChange::UserRevokeRole { user, role },
            kind::ROLE_ADD => AuthChange::RoleAdd { name: role },
            kind::ROLE_DELETE => AuthChange::RoleDelete { name: role },
            kind::ROLE_GRANT_PERMISSION => AuthChange::RoleGrantPermission {
                role,
                permission: Permission { kind: kind_of(permission)?, key, range_end },
            },
            kind::ROLE_REVOKE_PERMISSION => AuthChange::RoleRevokePermission { role, key, range_end },
            kind::AUTHENTICATE => return Ok(Action::Authenticate { user, prefix }),
            _ => return Err(DecodeError("an unknown change of users and roles")),
        }))
    }
}

/// A permission's kind as `authpb.Permission.Type` numbers it.
pub(crate) fn number_of(kind: PermissionKind) -> u64 {
    match kind {
        PermissionKind::Read => 0,
        PermissionKind::Write => 1,
        PermissionKind::ReadWrite => 2,
    }
}

pub(crate) fn kind_of(number: u64) -> Result<PermissionKind, DecodeError> {
    match number {
        0 => Ok(PermissionKind::Read),
        1 => Ok(PermissionKind::Write),
        2 => Ok(PermissionKind::ReadWrite),
        _ => Err(DecodeError("an unknown kind of permission")),
    }
}
