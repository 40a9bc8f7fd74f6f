//! Bytes that come back as they went, bytes that etcd itself writes, and bytes that mean nothing.

use auth::{Action, Auth, Bucket, Command};
use bytes::Bytes;
use proptest::prelude::*;
use store_api::{AuthChange, Caller, Permission, PermissionKind};

use crate::{GUARDED, after};

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["root", "alice", "bob", "some", "all", ""]).prop_map(str::to_owned)
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(0u8..4, 0..3).prop_map(Bytes::from)
}

fn permission() -> impl Strategy<Value = Permission> {
    let kinds = vec![PermissionKind::Read, PermissionKind::Write, PermissionKind::ReadWrite];
    (prop::sample::select(kinds), key(), key()).prop_map(|(kind, key, range_end)| Permission { kind, key, range_end })
}

fn any_change() -> impl Strategy<Value = AuthChange> {
    prop_oneof![
        Just(AuthChange::Enable),
        Just(AuthChange::Disable),
        (name(), key(), any::<bool>()).prop_map(|(name, hash, no_password)| AuthChange::UserAdd {
            name,
            hash,
            no_password
        }),
        name().prop_map(|name| AuthChange::UserDelete { name }),
        (name(), key()).prop_map(|(name, hash)| AuthChange::UserChangePassword { name, hash }),
        (name(), name()).prop_map(|(user, role)| AuthChange::UserGrantRole { user, role }),
        (name(), name()).prop_map(|(user, role)| AuthChange::UserRevokeRole { user, role }),
        name().prop_map(|name| AuthChange::RoleAdd { name }),
        name().prop_map(|name| AuthChange::RoleDelete { name }),
        (name(), permission()).prop_map(|(role, permission)| AuthChange::RoleGrantPermission { role, permission }),
        (name(), key(), key()).prop_map(|(role, key, range_end)| AuthChange::RoleRevokePermission {
            role,
            key,
            range_end
        }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let caller = prop::option::of((name(), any::<u64>()).prop_map(|(name, revision)| Caller::new(name, revision)));
    let authenticate = (name(), name()).prop_map(|(user, prefix)| Action::Authenticate { user, prefix });
    (caller, prop_oneof![9 => any_change().prop_map(Action::Change), 1 => authenticate])
        .prop_map(|(caller, action)| Command { caller, action })
}

proptest! {
    #[test]
    fn a_command_comes_back(command in command()) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        prop_assert_eq!(Command::decode(&bytes), Ok(command));
    }

    #[test]
    fn no_bytes_do_harm(bytes: Vec<u8>) {
        let _ = Command::decode(&bytes);
        if let Ok(auth) = Auth::restore(&bytes) {
            prop_assert_eq!(Auth::restore(&auth.snapshot()).unwrap().snapshot(), auth.snapshot());
        }
        for bucket in Bucket::ALL {
            let _ = Auth::from_entries([(bucket, &b"authRevision"[..], &bytes[..])]);
        }
    }

    #[test]
    fn damaged_commands_do_no_harm(command in command(), at: prop::sample::Index, byte: u8) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Command::decode(&bytes);
        let _ = Command::decode(&bytes[..at]);
    }

    /// Two members that apply the same commands agree, also when one of them starts from a snapshot in between.
    #[test]
    fn the_same_commands_give_the_same_bytes(commands in prop::collection::vec(command(), 0..40), cut: prop::sample::Index) {
        let (mut one, mut other) = (Auth::default(), Auth::default());
        let cut = cut.index(commands.len() + 1);
        for (i, command) in commands.into_iter().enumerate() {
            if i == cut {
                other = Auth::restore(&other.snapshot()).unwrap();
            }
            prop_assert_eq!(one.apply(command.clone(), i as u64), other.apply(command, i as u64));
        }
        prop_assert_eq!(one.snapshot(), other.snapshot());
        let entries: Vec<_> = one.entries().collect();
        prop_assert!(entries.windows(2).all(|w| (w[0].bucket, &w[0].key) < (w[1].bucket, &w[1].key)));
        let read = Auth::from_entries(entries.iter().map(|e| (e.bucket, &e.key[..], &e.value[..]))).unwrap();
        prop_assert_eq!(read.snapshot(), one.snapshot());
    }
}

/// The bytes are those of `authpb.User` and `authpb.Role` as etcd 3.5 marshals them.
#[test]
fn records_are_etcds_own() {
    let auth = after(&GUARDED);
    let check = |bucket: Bucket, key: &str, expected: &[u8]| {
        let entry = auth.entries().find(|e| e.bucket == bucket && e.key == key.as_bytes()).unwrap();
        assert_eq!(entry.value, expected, "{}/{key}", bucket.name());
    };
    check(Bucket::Auth, "authEnabled", &[1]);
    check(Bucket::Auth, "authRevision", &[0, 0, 0, 0, 0, 0, 0, 10]);
    check(Bucket::Users, "root", b"\x0a\x04root\x12\x04hash\x1a\x04root\x22\x00");
    check(Bucket::Users, "alice", b"\x0a\x05alice\x12\x04hash\x1a\x04some\x22\x00");
    check(Bucket::Users, "bob", b"\x0a\x03bob\x22\x02\x08\x01");
    let some = b"\x0a\x04some\x12\x05\x08\x02\x12\x01b\x12\x06\x12\x01r\x1a\x01s\x12\x08\x08\x01\x12\x01w\x1a\x01x";
    check(Bucket::Roles, "some", some);
}
