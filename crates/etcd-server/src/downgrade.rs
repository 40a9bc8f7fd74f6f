//! Downgrades, with etcd's answers. A job is this process's alone and is forgotten with it: there is no older version
//! of this server that would have to read its data, so that nothing but the answers depends on it.

use parking_lot::Mutex;
use tonic::Status;

use crate::codes;

/// Major and minor; a cluster's version has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    major: u64,
    minor: u64,
}

/// The job under way, if there is one.
#[derive(Default)]
pub(crate) struct Downgrade(Mutex<Option<Version>>);

impl Downgrade {
    /// Whether a cluster of version `current` could be downgraded to `target` now.
    pub fn validate(&self, current: Version, target: &str) -> Result<Version, Status> {
        let target = Version::read(target).ok_or_else(codes::wrong_downgrade_version)?;
        if (target.major, Some(target.minor)) != (current.major, current.minor.checked_sub(1)) {
            return Err(codes::invalid_downgrade_target());
        }
        if self.0.lock().is_some() {
            return Err(codes::downgrade_in_process());
        }
        Ok(target)
    }

    pub fn enable(&self, current: Version, target: &str) -> Result<(), Status> {
        let target = self.validate(current, target)?;
        *self.0.lock() = Some(target);
        Ok(())
    }

    pub fn cancel(&self) -> Result<(), Status> {
        self.0.lock().take().map(|_| ()).ok_or_else(codes::no_downgrade)
    }
}

impl Version {
    /// Reads `major.minor` or `major.minor.patch`, with or without a suffix after a hyphen or a plus.
    pub fn read(text: &str) -> Option<Self> {
        let numbers = text.split(['-', '+']).next()?;
        let parts = numbers.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
        match parts[..] {
            [major, minor] | [major, minor, _] => Some(Version { major, minor }),
            _ => None,
        }
    }

    /// Without the patch level that a cluster's version does not have.
    pub fn minor_text(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_goes_down_by_one_minor_version_and_one_job_at_a_time() {
        let (current, downgrade) = (Version::read("3.5.30").unwrap(), Downgrade::default());
        assert_eq!(current.to_string(), "3.5.0");
        let check = |answer: Result<(), Status>, expected: &str| {
            let told = answer.map_or_else(|status| status.message().to_owned(), |()| String::new());
            assert_eq!(told, expected);
        };
        let validate = |target: &str| downgrade.validate(current, target).map(|_| ());
        check(validate("3.4"), "");
        check(validate("3.4.9"), "");
        for wrong in ["", "x", "3", "3.4.x", "3.4.1.1"] {
            check(validate(wrong), "etcdserver: wrong downgrade target version format");
        }
        check(validate("3.5"), "etcdserver: invalid downgrade target version");
        check(validate("2.4.0"), "etcdserver: invalid downgrade target version");
        check(downgrade.cancel(), "etcdserver: no inflight downgrade job");
        check(downgrade.enable(current, "3.4.0"), "");
        check(validate("3.4"), "etcdserver: cluster has a downgrade job in progress");
        check(downgrade.cancel(), "");
        check(downgrade.cancel(), "etcdserver: no inflight downgrade job");
    }
}
