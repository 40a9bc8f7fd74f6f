//! Who asks: a user name with groups, as every step after authentication sees it.

use std::{collections::BTreeMap, sync::Arc};

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of everyone who has proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of those who have not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of node agents.
pub const NODES: &str = "system:nodes";

/// A user. A clone is a reference to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user who is known by a certificate, a token or by being part of this process. The group of all authenticated
    /// users is added.
    pub fn new(user: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Identity::with_extra(user, "", groups, BTreeMap::new())
    }

    /// As [`Identity::new`], with the user's UID and further facts that tokens carry.
    pub fn with_extra(
        user: impl Into<String>,
        uid: impl Into<String>,
        groups: impl IntoIterator<Item = impl Into<String>>,
        extra: BTreeMap<String, Vec<String>>,
    ) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        Identity(Arc::new(Inner { user: user.into(), uid: uid.into(), groups, extra }))
    }

    /// The cluster's administrator.
    pub fn admin() -> Self {
        Identity::new("system:admin", [MASTERS])
    }

    /// A part of the control plane, for example `system:kube-scheduler`.
    pub fn component(user: &str) -> Self {
        Identity::new(user, [] as [&str; 0])
    }

    /// The agent of the node `name`.
    pub fn node(name: &str) -> Self {
        Identity::new(format!("system:node:{name}"), [NODES])
    }

    /// Someone who has not said who they are.
    pub fn anonymous() -> Self {
        Identity(Arc::new(Inner {
            user: "system:anonymous".into(),
            uid: String::new(),
            groups: vec![UNAUTHENTICATED.into()],
            extra: BTreeMap::new(),
        }))
    }

    pub fn user(&self) -> &str {
        &self.0.user
    }

    pub fn uid(&self) -> &str {
        &self.0.uid
    }

    pub fn groups(&self) -> &[String] {
        &self.0.groups
    }

    pub fn extra(&self) -> &BTreeMap<String, Vec<String>> {
        &self.0.extra
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.0.groups.iter().any(|g| g == group)
    }

    pub fn is_anonymous(&self) -> bool {
        self.is_in(UNAUTHENTICATED)
    }
}
