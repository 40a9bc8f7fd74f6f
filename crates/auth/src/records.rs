//! What is kept of a user and of a role, and the bytes that etcd keeps for them (`authpb.User`, `authpb.Role`).

use std::sync::OnceLock;

use bytes::Bytes;
use store_api::{Permission, PermissionKind, ROOT};

use crate::{
    command::{kind_of, number_of},
    ranges::Ranges,
    wire::{DecodeError, Fields, put_bytes, put_number},
};

#[derive(Clone, Debug, Default)]
pub struct User {
    /// The bcrypt hash; empty: no password fits.
    pub hash: Bytes,
    pub no_password: bool,
    /// In order, each once.
    pub roles: Vec<String>,
    /// What the roles allow together; made when it is first asked for, emptied when a role changes.
    pub ranges: OnceLock<Ranges>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// In the order of their keys.
    pub permissions: Vec<Permission>,
}

/// `authpb.User`: name 1, password 2, roles 3, options 4 (no_password 1).
impl User {
    pub fn is_root(&self) -> bool {
        self.has(ROOT)
    }

    pub fn has(&self, role: &str) -> bool {
        self.roles.binary_search_by(|own| own.as_str().cmp(role)).is_ok()
    }

    pub fn encode(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, name.as_bytes());
        if !self.hash.is_empty() {
            put_bytes(&mut out, 2, &self.hash);
        }
        self.roles.iter().for_each(|role| put_bytes(&mut out, 3, role.as_bytes()));
        put_bytes(&mut out, 4, if self.no_password { &[0x08, 1] } else { &[] });
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut user = User::default();
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                2 => user.hash = Bytes::copy_from_slice(value.bytes()?),
                3 => user.roles.push(value.text()?.to_owned()),
                4 => user.no_password = no_password(value.bytes()?)?,
                _ => {}
            }
        }
        user.roles.sort_unstable();
        user.roles.dedup();
        Ok(user)
    }
}

fn no_password(options: &[u8]) -> Result<bool, DecodeError> {
    let (mut fields, mut no_password) = (Fields(options), false);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            no_password = value.number()? != 0;
        }
    }
    Ok(no_password)
}

/// `authpb.Role`: name 1, keyPermission 2 (permType 1, key 2, range_end 3).
impl Role {
    pub fn encode(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, name.as_bytes());
        for permission in &self.permissions {
            let mut inner = Vec::new();
            match number_of(permission.kind) {
                0 => {}
                kind => put_number(&mut inner, 1, kind),
            }
            for (field, bytes) in [(2, &permission.key), (3, &permission.range_end)] {
                if !bytes.is_empty() {
                    put_bytes(&mut inner, field, bytes);
                }
            }
            put_bytes(&mut out, 2, &inner);
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut role = Role::default();
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            if number == 2 {
                role.permissions.push(permission(value.bytes()?)?);
            }
        }
        role.permissions.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(role)
    }
}

fn permission(bytes: &[u8]) -> Result<Permission, DecodeError> {
    let mut permission = Permission { kind: PermissionKind::Read, key: Bytes::new(), range_end: Bytes::new() };
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => permission.kind = kind_of(value.number()?)?,
            2 => permission.key = Bytes::copy_from_slice(value.bytes()?),
            3 => permission.range_end = Bytes::copy_from_slice(value.bytes()?),
            _ => {}
        }
    }
    Ok(permission)
}
