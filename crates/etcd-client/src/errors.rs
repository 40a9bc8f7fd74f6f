//! etcd's errors as the store's. A gRPC status carries words only: what a variant says beyond them comes from the
//! request.

use std::path::PathBuf;

use store_api::{LeaseId, MembershipError, Revision, StoreError};
use tonic::{Code, Status};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no etcd endpoint is given")]
    NoEndpoint,
    #[error("etcd endpoint {0:?} is not of the form http://host:port, https://host:port or unix:///path")]
    Endpoint(String),
    #[error("an https endpoint of etcd needs the file of its certificate authority (--etcd-cafile)")]
    NoAuthority,
    #[error("--etcd-certfile and --etcd-keyfile go together")]
    HalfIdentity,
    #[error("cannot read {file}: {reason}")]
    File { file: PathBuf, reason: String },
    #[error("the TLS settings for etcd do not fit together: {0}")]
    Tls(#[from] rustls::Error),
    #[error("etcd does not answer at {endpoints}")]
    Unreachable { endpoints: String, source: StoreError },
}

/// What the request named, for the error's details.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context {
    revision: Revision,
    lease: LeaseId,
}

impl Context {
    pub fn revision(revision: Revision) -> Self {
        Context { revision, ..Default::default() }
    }

    pub fn lease(lease: LeaseId) -> Self {
        Context { lease, ..Default::default() }
    }
}

pub(crate) fn store_error(status: &Status, context: Context) -> StoreError {
    let text = status.message().strip_prefix("etcdserver: ").unwrap_or(status.message());
    match text {
        "mvcc: required revision has been compacted" => {
            StoreError::Compacted { requested: context.revision, compacted: 0 }
        }
        "mvcc: required revision is a future revision" => {
            StoreError::FutureRevision { requested: context.revision, current: 0 }
        }
        "key not found" => StoreError::KeyNotFound,
        "key is not provided" => StoreError::EmptyKey,
        "value is provided" => StoreError::ValueProvided,
        "lease is provided" => StoreError::LeaseProvided,
        "duplicate key given in txn request" => StoreError::DuplicateKey,
        "too many operations in txn request" => StoreError::TooManyOps { limit: 0 },
        "request is too large" => StoreError::TooLarge { size: 0, limit: 0 },
        "requested lease not found" => StoreError::LeaseNotFound(context.lease),
        "lease already exists" => StoreError::LeaseExists(context.lease),
        "too large lease TTL" => StoreError::LeaseTtlTooLarge,
        "mvcc: database space exceeded" => StoreError::NoSpace("etcd has raised the alarm NOSPACE".into()),
        "too many requests" => StoreError::TooManyRequests,
        "corrupt cluster" => StoreError::Corrupt("etcd has raised the alarm CORRUPT".into()),
        "no leader" => StoreError::NoLeader,
        "not leader" => StoreError::NotLeader,
        "leader changed" => StoreError::LeaderChanged,
        "rpc not supported for learner" => StoreError::Learner,
        // Some of etcd's timeouts add why it may have taken so long.
        text if text.starts_with("request timed out") => StoreError::Timeout,
        text => membership(text).map_or_else(|| by_code(status, text), StoreError::Membership),
    }
}

fn membership(text: &str) -> Option<MembershipError> {
    Some(match text {
        "member not found" => MembershipError::NotFound,
        "member ID already exist" => MembershipError::IdExists,
        "Peer URLs already exists" => MembershipError::UrlExists,
        "given member URLs are invalid" => MembershipError::BadUrls,
        "re-configuration failed due to not enough started members" => MembershipError::NotEnoughStarted,
        "unhealthy cluster" => MembershipError::Unhealthy,
        "can only promote a learner member" => MembershipError::NotLearner,
        "can only promote a learner member which is in sync with leader" => MembershipError::LearnerNotReady,
        "too many learner members in cluster" => MembershipError::TooManyLearners,
        "bad leader transferee" => MembershipError::BadTransferee,
        _ => return None,
    })
}

/// What is said in words of its own is known by its code alone.
fn by_code(status: &Status, text: &str) -> StoreError {
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Unimplemented => {
            StoreError::InvalidArgument(text.to_owned())
        }
        Code::ResourceExhausted => StoreError::TooManyRequests,
        Code::DataLoss => StoreError::Corrupt(text.to_owned()),
        _ => StoreError::Unavailable(describe(status, text)),
    }
}

/// A transport's status says "transport error" and keeps the reason among its sources.
fn describe(status: &Status, text: &str) -> String {
    let mut words = text.to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_words_decide() {
        let check = |code: Code, text: &str, expected: StoreError| {
            let context = Context { revision: 3, lease: 7 };
            assert_eq!(store_error(&Status::new(code, text), context), expected);
        };
        let compacted = StoreError::Compacted { requested: 3, compacted: 0 };
        check(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", compacted);
        check(Code::NotFound, "etcdserver: requested lease not found", StoreError::LeaseNotFound(7));
        check(Code::Unavailable, "etcdserver: no leader", StoreError::NoLeader);
        check(Code::FailedPrecondition, "etcdserver: not leader", StoreError::NotLeader);
        check(Code::Unavailable, "etcdserver: leader changed", StoreError::LeaderChanged);
        let slow = "etcdserver: request timed out, possibly due to previous leader failure";
        check(Code::Unavailable, slow, StoreError::Timeout);
        check(Code::Unavailable, "etcdserver: rpc not supported for learner", StoreError::Learner);
        check(Code::NotFound, "etcdserver: member not found", MembershipError::NotFound.into());
        check(Code::Unavailable, "etcdserver: unhealthy cluster", MembershipError::Unhealthy.into());
        check(Code::Unavailable, "etcdserver: odd", StoreError::Unavailable("odd".into()));
        check(Code::InvalidArgument, "etcdserver: odd", StoreError::InvalidArgument("odd".into()));
    }
}
