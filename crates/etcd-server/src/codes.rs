//! The one place where errors get their gRPC codes, in etcd 3.5's words. Clients compare the words.

use store_api::{AuthError, MembershipError, StoreError};
use tonic::{Code, Status};

/// A failure of the store as etcd would tell it.
pub(crate) fn status(error: &StoreError) -> Status {
    let (code, text) = match error {
        StoreError::Compacted { .. } => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
        StoreError::FutureRevision { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
        }
        StoreError::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        StoreError::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        StoreError::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
        StoreError::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
        StoreError::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        StoreError::TooManyOps { .. } => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
        StoreError::TooLarge { .. } => (Code::InvalidArgument, "etcdserver: request is too large"),
        StoreError::LeaseNotFound(_) => (Code::NotFound, "etcdserver: requested lease not found"),
        StoreError::LeaseExists(_) => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        StoreError::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        StoreError::NoSpace(_) => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        StoreError::TooManyRequests => (Code::ResourceExhausted, "etcdserver: too many requests"),
        StoreError::SlowWatcher => (Code::Cancelled, "etcdserver: watch canceled"),
        StoreError::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
        StoreError::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
        StoreError::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
        StoreError::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
        StoreError::Learner => (Code::Unavailable, "etcdserver: rpc not supported for learner"),
        StoreError::Membership(error) => return membership(error),
        StoreError::Auth(error) => return auth(*error),
        StoreError::Corrupt(_) => (Code::DataLoss, "etcdserver: corrupt cluster"),
        StoreError::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
        StoreError::InvalidArgument(text) => return Status::invalid_argument(format!("etcdserver: {text}")),
        StoreError::Unavailable(text) => return Status::unavailable(format!("etcdserver: {text}")),
    };
    Status::new(code, text)
}

fn membership(error: &MembershipError) -> Status {
    let code = match error {
        MembershipError::NotFound => Code::NotFound,
        MembershipError::BadUrls => Code::InvalidArgument,
        MembershipError::Unhealthy | MembershipError::Busy => Code::Unavailable,
        _ => Code::FailedPrecondition,
    };
    Status::new(code, format!("etcdserver: {error}"))
}

/// A refusal by users and roles. etcd tells its clients other words than it logs, and some it tells as they are.
pub(crate) fn auth(error: AuthError) -> Status {
    let (code, text) = match error {
        AuthError::RootUserNotExist => (Code::FailedPrecondition, "etcdserver: root user does not exist"),
        AuthError::RootRoleNotExist => (Code::FailedPrecondition, "etcdserver: root user does not have root role"),
        AuthError::UserAlreadyExist => (Code::FailedPrecondition, "etcdserver: user name already exists"),
        AuthError::UserEmpty => (Code::InvalidArgument, "etcdserver: user name is empty"),
        AuthError::UserNotFound => (Code::FailedPrecondition, "etcdserver: user name not found"),
        AuthError::RoleAlreadyExist => (Code::FailedPrecondition, "etcdserver: role name already exists"),
        AuthError::RoleNotFound => (Code::FailedPrecondition, "etcdserver: role name not found"),
        AuthError::RoleEmpty => (Code::InvalidArgument, "etcdserver: role name is empty"),
        AuthError::PermissionNotGiven => (Code::InvalidArgument, "etcdserver: permission not given"),
        AuthError::Failed => (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"),
        AuthError::PermissionDenied => (Code::PermissionDenied, "etcdserver: permission denied"),
        AuthError::RoleNotGranted => (Code::FailedPrecondition, "etcdserver: role is not granted to the user"),
        AuthError::PermissionNotGranted => {
            (Code::FailedPrecondition, "etcdserver: permission is not granted to the role")
        }
        AuthError::NotEnabled => (Code::FailedPrecondition, "etcdserver: authentication is not enabled"),
        AuthError::OldRevision => (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
        AuthError::InvalidToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
        AuthError::InvalidManagement => (Code::InvalidArgument, "etcdserver: invalid auth management"),
        AuthError::NoPasswordUser | AuthError::VerifyOnly => return Status::unknown(error.to_string()),
    };
    Status::new(code, text)
}

/// A sort order or target that the protocol does not have.
pub(crate) fn invalid_sort_option() -> Status {
    Status::invalid_argument("etcdserver: invalid sort option")
}

/// An operation of a transaction that holds no request.
pub(crate) fn empty_operation() -> Status {
    status(&StoreError::KeyNotFound)
}

/// A comparison that the protocol does not have.
pub(crate) fn invalid_compare(what: &str) -> Status {
    Status::invalid_argument(format!("etcdserver: invalid compare {what} in txn request"))
}

/// The server goes away while a stream is open.
pub(crate) fn stopped() -> Status {
    status(&StoreError::Stopped)
}

/// Leadership is moved to a member that there is not.
pub(crate) fn bad_leader_transferee() -> Status {
    Status::failed_precondition("etcdserver: bad leader transferee")
}

/// What a single member cannot do.
pub(crate) fn unimplemented(what: &str) -> Status {
    Status::unimplemented(format!("etcdserver: {what} is not supported by this member"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_recognise_the_words() {
        let check = |error: StoreError, code: Code, text: &str| {
            let status = status(&error);
            assert_eq!((status.code(), status.message()), (code, text));
        };
        let compacted = StoreError::Compacted { requested: 3, compacted: 5 };
        check(compacted, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        check(StoreError::EmptyKey, Code::InvalidArgument, "etcdserver: key is not provided");
        check(StoreError::LeaseNotFound(7), Code::NotFound, "etcdserver: requested lease not found");
        check(StoreError::Unavailable("no leader".into()), Code::Unavailable, "etcdserver: no leader");
    }
}
