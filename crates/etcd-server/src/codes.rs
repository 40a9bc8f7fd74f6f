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
        StoreError::CrossShard { .. } => return Status::invalid_argument(format!("etcdserver: {error}")),
        StoreError::ShardMoving(_) => return Status::unavailable(format!("etcdserver: {error}")),
        StoreError::InvalidArgument(text) => return Status::invalid_argument(format!("etcdserver: {text}")),
        StoreError::RangeTooLarge { .. } => return Status::resource_exhausted(format!("etcdserver: {error}")),
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

/// A downgrade to something that is no version.
pub(crate) fn wrong_downgrade_version() -> Status {
    Status::invalid_argument("etcdserver: wrong downgrade target version format")
}

/// A downgrade to another version than the one before.
pub(crate) fn invalid_downgrade_target() -> Status {
    Status::invalid_argument("etcdserver: invalid downgrade target version")
}

/// A second downgrade while one is under way.
pub(crate) fn downgrade_in_process() -> Status {
    Status::failed_precondition("etcdserver: cluster has a downgrade job in progress")
}

/// An end of a downgrade that has not begun.
pub(crate) fn no_downgrade() -> Status {
    Status::failed_precondition("etcdserver: no inflight downgrade job")
}

/// A downgrade of a cluster whose version nobody knows.
pub(crate) fn no_cluster_version() -> Status {
    Status::unavailable("etcdserver: cluster version not found during downgrade")
}

/// An action that the protocol does not have.
pub(crate) fn unknown_method() -> Status {
    Status::unknown("etcdserver: unknown method")
}

/// A method that nobody serves, in the words of gRPC for Go.
pub(crate) fn no_such_method(path: &str) -> Status {
    match path.trim_start_matches('/').split_once('/') {
        Some((service, method)) => Status::unimplemented(format!("unknown method {method} for service {service}")),
        None => Status::unimplemented(format!("malformed method name: {path:?}")),
    }
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
        use MembershipError as M;
        use StoreError as E;
        let check = |error: StoreError, code: Code, text: &str| {
            let status = status(&error);
            assert_eq!((status.code(), status.message()), (code, format!("etcdserver: {text}").as_str()));
        };
        let compacted = E::Compacted { requested: 3, compacted: 5 };
        check(compacted, Code::OutOfRange, "mvcc: required revision has been compacted");
        let future = E::FutureRevision { requested: 3, current: 2 };
        check(future, Code::OutOfRange, "mvcc: required revision is a future revision");
        check(E::KeyNotFound, Code::InvalidArgument, "key not found");
        check(E::EmptyKey, Code::InvalidArgument, "key is not provided");
        check(E::ValueProvided, Code::InvalidArgument, "value is provided");
        check(E::LeaseProvided, Code::InvalidArgument, "lease is provided");
        check(E::DuplicateKey, Code::InvalidArgument, "duplicate key given in txn request");
        check(E::TooManyOps { limit: 1 }, Code::InvalidArgument, "too many operations in txn request");
        check(E::TooLarge { size: 2, limit: 1 }, Code::InvalidArgument, "request is too large");
        check(E::LeaseNotFound(7), Code::NotFound, "requested lease not found");
        check(E::LeaseExists(7), Code::FailedPrecondition, "lease already exists");
        check(E::LeaseTtlTooLarge, Code::OutOfRange, "too large lease TTL");
        check(E::NoSpace("disk".into()), Code::ResourceExhausted, "mvcc: database space exceeded");
        check(E::TooManyRequests, Code::ResourceExhausted, "too many requests");
        check(E::SlowWatcher, Code::Cancelled, "watch canceled");
        check(E::NoLeader, Code::Unavailable, "no leader");
        check(E::NotLeader, Code::FailedPrecondition, "not leader");
        check(E::LeaderChanged, Code::Unavailable, "leader changed");
        check(E::Timeout, Code::Unavailable, "request timed out");
        check(E::Learner, Code::Unavailable, "rpc not supported for learner");
        check(E::Corrupt("log".into()), Code::DataLoss, "corrupt cluster");
        check(E::Stopped, Code::Unavailable, "server stopped");
        check(E::Unavailable("away".into()), Code::Unavailable, "away");
        check(M::NotFound.into(), Code::NotFound, "member not found");
        check(M::IdExists.into(), Code::FailedPrecondition, "member ID already exist");
        check(M::UrlExists.into(), Code::FailedPrecondition, "Peer URLs already exists");
        check(M::BadUrls.into(), Code::InvalidArgument, "given member URLs are invalid");
        let few = "re-configuration failed due to not enough started members";
        check(M::NotEnoughStarted.into(), Code::FailedPrecondition, few);
        check(M::Unhealthy.into(), Code::Unavailable, "unhealthy cluster");
        check(M::NotLearner.into(), Code::FailedPrecondition, "can only promote a learner member");
        let not_ready = "can only promote a learner member which is in sync with leader";
        check(M::LearnerNotReady.into(), Code::FailedPrecondition, not_ready);
        check(M::TooManyLearners.into(), Code::FailedPrecondition, "too many learner members in cluster");
        check(M::BadTransferee.into(), Code::FailedPrecondition, "bad leader transferee");
    }
}
