//! The state as the records that etcd keeps in its backend's buckets `auth`, `authUsers` and `authRoles`, and as one
//! run of bytes made of the same records.

use crate::{
    records::{Role, User},
    state::{Auth, FIRST_REVISION},
    wire::{DecodeError, Fields, put_bytes},
};

const ENABLED_KEY: &[u8] = b"authEnabled";
const REVISION_KEY: &[u8] = b"authRevision";

/// Which bucket a record belongs to. The numbers are those of the snapshot's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    Auth = 1,
    Users = 2,
    Roles = 3,
}

impl Bucket {
    pub const ALL: [Bucket; 3] = [Bucket::Auth, Bucket::Users, Bucket::Roles];

    /// The bucket's name in etcd's backend.
    pub fn name(self) -> &'static str {
        match self {
            Bucket::Auth => "auth",
            Bucket::Users => "authUsers",
            Bucket::Roles => "authRoles",
        }
    }
}

/// One record of etcd's backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub bucket: Bucket,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Auth {
    /// The records, bucket by bucket, each in the order of its keys.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let entry = |bucket, key: &[u8], value: Vec<u8>| Entry { bucket, key: key.to_vec(), value };
        let auth = [
            entry(Bucket::Auth, ENABLED_KEY, vec![u8::from(self.enabled)]),
            entry(Bucket::Auth, REVISION_KEY, self.revision.to_be_bytes().to_vec()),
        ];
        let users = self.users.iter().map(move |(name, user)| entry(Bucket::Users, name.as_bytes(), user.encode(name)));
        let roles = self.roles.iter().map(move |(name, role)| entry(Bucket::Roles, name.as_bytes(), role.encode(name)));
        auth.into_iter().chain(users).chain(roles)
    }

    /// The state that such records describe, in any order. Keys that are not known are passed over.
    pub fn from_entries<'a>(
        entries: impl IntoIterator<Item = (Bucket, &'a [u8], &'a [u8])>,
    ) -> Result<Self, DecodeError> {
        let mut auth = Auth::default();
        let name = |key: &[u8]| {
            String::from_utf8(key.to_vec()).map_err(|_| DecodeError("a user's or a role's name that is not UTF-8"))
        };
        for (bucket, key, value) in entries {
            match bucket {
                Bucket::Auth if key == ENABLED_KEY => auth.enabled = value == [1],
                Bucket::Auth if key == REVISION_KEY => {
                    let bytes = value.try_into().map_err(|_| DecodeError("a revision that is not 8 bytes long"))?;
                    auth.revision = u64::from_be_bytes(bytes).max(FIRST_REVISION);
                }
                Bucket::Auth => {}
                Bucket::Users => drop(auth.users.insert(name(key)?, User::decode(value)?)),
                Bucket::Roles => drop(auth.roles.insert(name(key)?, Role::decode(value)?)),
            }
        }
        Ok(auth)
    }

    /// The whole state as bytes: equal states give equal bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for entry in self.entries() {
            let mut record = Vec::with_capacity(entry.key.len() + entry.value.len() + 8);
            put_bytes(&mut record, 1, &entry.key);
            put_bytes(&mut record, 2, &entry.value);
            put_bytes(&mut out, entry.bucket as u32, &record);
        }
        out
    }

    /// The state that [`Auth::snapshot`] was made of.
    pub fn restore(snapshot: &[u8]) -> Result<Self, DecodeError> {
        let (mut records, mut entries) = (Fields(snapshot), Vec::new());
        while let Some((number, value)) = records.next()? {
            let Some(bucket) = Bucket::ALL.into_iter().find(|bucket| *bucket as u32 == number) else {
                return Err(DecodeError("a record of an unknown bucket"));
            };
            let (mut fields, mut key, mut content) = (Fields(value.bytes()?), &[][..], &[][..]);
            while let Some((number, value)) = fields.next()? {
                match number {
                    1 => key = value.bytes()?,
                    2 => content = value.bytes()?,
                    _ => {}
                }
            }
            entries.push((bucket, key, content));
        }
        Auth::from_entries(entries)
    }
}
