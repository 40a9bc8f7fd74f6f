//! Whether a caller may do what a request says: the rules of etcd's `apply_auth.go` and of its API over the store's own
//! request types, so that a store asks one question before it does a request.
//!
//! A lease belongs to nobody. Whoever attaches a key to one, renews it or ends it must be allowed to write all keys
//! that are attached already; a lease's keys come from the caller of these functions, asked for only when they count.

use bytes::Bytes;
use store_api::{
    AuthError, Caller, DeleteRangeRequest, Demand, LeaseId, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::{
    ranges::{Access, Ranges},
    state::Auth,
};

/// What one caller may do, found out once per request.
#[derive(Clone, Copy, Debug)]
pub struct Permit<'a> {
    standing: Standing<'a>,
    /// Whether the caller may do what only root may.
    admin: Result<(), AuthError>,
    /// Whether authentication is on and the request says nothing of its sender.
    unknown: bool,
}

#[derive(Clone, Copy, Debug)]
enum Standing<'a> {
    /// Root, or authentication is off.
    All,
    Some(&'a Ranges),
    None(AuthError),
}

impl Auth {
    /// What `caller` may do now.
    pub fn permit(&self, caller: Option<&Caller>) -> Permit<'_> {
        if !self.enabled {
            return Permit { standing: Standing::All, admin: Ok(()), unknown: false };
        }
        let standing = match caller {
            // A signed token may claim revision 0; etcd takes it for no caller, too.
            None | Some(Caller { revision: 0, .. }) => Standing::None(AuthError::UserEmpty),
            Some(caller) if caller.revision < self.revision => Standing::None(AuthError::OldRevision),
            Some(caller) => match self.users.get(&*caller.name) {
                None => Standing::None(AuthError::PermissionDenied),
                Some(user) if user.is_root() => Standing::All,
                Some(user) => Standing::Some(self.ranges(user)),
            },
        };
        Permit { standing, admin: self.check_admin(caller), unknown: caller.is_none() }
    }
}

impl Permit<'_> {
    /// A request that touches no key.
    pub fn demand(&self, demand: Demand) -> Result<(), AuthError> {
        match demand {
            Demand::Caller if self.unknown => Err(AuthError::UserEmpty),
            Demand::Caller => Ok(()),
            Demand::Admin => self.admin,
        }
    }

    pub fn range(&self, range: &RangeRequest) -> Result<(), AuthError> {
        self.watch(&range.key, &range.range_end)
    }

    /// A watch, by the range that it watches.
    pub fn watch(&self, key: &[u8], range_end: &[u8]) -> Result<(), AuthError> {
        self.keys(key, range_end, Access::Read)
    }

    pub fn put(&self, put: &PutRequest, lease_keys: impl Fn(LeaseId) -> Vec<Bytes>) -> Result<(), AuthError> {
        self.put_with(put, &lease_keys)
    }

    pub fn delete_range(&self, delete: &DeleteRangeRequest) -> Result<(), AuthError> {
        self.keys(&delete.key, &delete.range_end, Access::Write)?;
        if delete.prev_kv {
            self.keys(&delete.key, &delete.range_end, Access::Read)?;
        }
        Ok(())
    }

    /// Both branches must be allowed, whichever will be taken. A transaction that touches no key is allowed to anybody.
    pub fn txn(&self, txn: &TxnRequest, lease_keys: impl Fn(LeaseId) -> Vec<Bytes>) -> Result<(), AuthError> {
        match self.standing {
            Standing::All => Ok(()),
            _ => self.txn_with(txn, &lease_keys),
        }
    }

    pub fn compact(&self) -> Result<(), AuthError> {
        self.admin
    }

    pub fn lease_grant(&self) -> Result<(), AuthError> {
        self.demand(Demand::Caller)
    }

    pub fn lease_revoke(&self, id: LeaseId, lease_keys: impl Fn(LeaseId) -> Vec<Bytes>) -> Result<(), AuthError> {
        self.demand(Demand::Caller)?;
        self.lease(id, &lease_keys, Access::Write)
    }

    pub fn lease_keep_alive(&self, id: LeaseId, lease_keys: impl Fn(LeaseId) -> Vec<Bytes>) -> Result<(), AuthError> {
        self.lease_revoke(id, lease_keys)
    }

    /// The time left of a lease is no secret, its keys are.
    pub fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
        lease_keys: impl Fn(LeaseId) -> Vec<Bytes>,
    ) -> Result<(), AuthError> {
        self.demand(Demand::Caller)?;
        if keys { self.lease(id, &lease_keys, Access::Read) } else { Ok(()) }
    }

    /// All leases may be listed by whoever may read all keys that are attached to any.
    pub fn leases(
        &self,
        mut ids: impl Iterator<Item = LeaseId>,
        lease_keys: impl Fn(LeaseId) -> Vec<Bytes>,
    ) -> Result<(), AuthError> {
        self.demand(Demand::Caller)?;
        ids.try_for_each(|id| self.lease(id, &lease_keys, Access::Read))
    }

    fn keys(&self, key: &[u8], range_end: &[u8], access: Access) -> Result<(), AuthError> {
        match self.standing {
            Standing::All => Ok(()),
            Standing::Some(ranges) if ranges.allow(key, range_end, access) => Ok(()),
            Standing::Some(_) => Err(AuthError::PermissionDenied),
            Standing::None(error) => Err(error),
        }
    }

    fn lease(&self, id: LeaseId, keys: &dyn Fn(LeaseId) -> Vec<Bytes>, access: Access) -> Result<(), AuthError> {
        if self.admin.is_ok() {
            return Ok(());
        }
        keys(id).iter().try_for_each(|key| self.keys(key, &[], access))
    }

    fn put_with(&self, put: &PutRequest, lease_keys: &dyn Fn(LeaseId) -> Vec<Bytes>) -> Result<(), AuthError> {
        self.keys(&put.key, &[], Access::Write)?;
        if put.lease != 0 {
            self.lease(put.lease, lease_keys, Access::Write)?;
        }
        if put.prev_kv { self.keys(&put.key, &[], Access::Read) } else { Ok(()) }
    }

    fn txn_with(&self, txn: &TxnRequest, lease_keys: &dyn Fn(LeaseId) -> Vec<Bytes>) -> Result<(), AuthError> {
        txn.compare.iter().try_for_each(|compare| self.keys(&compare.key, &compare.range_end, Access::Read))?;
        txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
            RequestOp::Range(range) => self.range(range),
            RequestOp::Put(put) => self.put_with(put, lease_keys),
            RequestOp::DeleteRange(delete) => self.delete_range(delete),
            RequestOp::Txn(txn) => self.txn_with(txn, lease_keys),
        })
    }
}
