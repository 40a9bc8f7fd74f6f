//! The engine as data: rules of change, what callers may do, and bytes that come back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/permits.rs"]
mod permits;
#[path = "it/records.rs"]
mod records;
#[path = "it/rules.rs"]
mod rules;

use auth::{Applied, Auth, Command};
use bytes::Bytes;
use store_api::{AuthChange, AuthError, Caller, Permission, PermissionKind};

/// The shorthand of the tests: one line, one change. Names of users begin with a small letter.
pub fn change(line: &str) -> AuthChange {
    let words: Vec<&str> = line.split(' ').collect();
    let text = |i: usize| words.get(i).copied().unwrap_or_default().to_owned();
    let key = |i: usize| Bytes::from(text(i).replace("\\0", "\0"));
    match words[0] {
        "enable" => AuthChange::Enable,
        "disable" => AuthChange::Disable,
        "user" => AuthChange::UserAdd { name: text(1), hash: text(2).into(), no_password: text(2) == "none" },
        "user-" => AuthChange::UserDelete { name: text(1) },
        "password" => AuthChange::UserChangePassword { name: text(1), hash: text(2).into() },
        "grant" => AuthChange::UserGrantRole { user: text(1), role: text(2) },
        "revoke" => AuthChange::UserRevokeRole { user: text(1), role: text(2) },
        "role" => AuthChange::RoleAdd { name: text(1) },
        "role-" => AuthChange::RoleDelete { name: text(1) },
        "allow" => {
            let kind = match words[2] {
                "r" => PermissionKind::Read,
                "w" => PermissionKind::Write,
                _ => PermissionKind::ReadWrite,
            };
            AuthChange::RoleGrantPermission {
                role: text(1),
                permission: Permission { kind, key: key(3), range_end: key(4) },
            }
        }
        "forbid" => AuthChange::RoleRevokePermission { role: text(1), key: key(2), range_end: key(3) },
        other => panic!("no such change: {other}"),
    }
}

/// Makes a change as root, or as nobody while authentication is off.
pub fn run(auth: &mut Auth, line: &str) -> Applied {
    let caller = auth.enabled().then(|| caller(auth, "root"));
    auth.apply(Command::new(caller, change(line)), 1)
}

/// The state after some changes that all succeed.
pub fn after(lines: &[&str]) -> Auth {
    let mut auth = Auth::default();
    for line in lines {
        let applied = run(&mut auth, line);
        assert!(applied.response.is_ok(), "{line}: {applied:?}");
    }
    auth
}

pub fn caller(auth: &Auth, name: &str) -> Caller {
    Caller::new(name, auth.revision())
}

/// Root, and a role and a user of it that may read `r…`, write `w…` and do both with `b`.
pub const GUARDED: [&str; 10] = [
    "user root hash",
    "grant root root",
    "user alice hash",
    "role some",
    "allow some r r s",
    "allow some w w x",
    "allow some rw b",
    "grant alice some",
    "user bob none",
    "enable",
];

pub type Result<T = ()> = std::result::Result<T, AuthError>;
