//! What must be written, and then come true, before a pod may be bound to the node that it was given.

use std::{sync::Arc, time::Duration};

use crate::storage::{Name, Version};

/// Goes before the Binding, in this order:
///
/// 1. The driver makes all `writes`, in their order. If one fails, it makes no further one and calls
///    [`crate::Engine::undo`]: what was written stays, and the next attempt builds on it.
/// 2. It feeds the engine as ever, and asks [`crate::Engine::pre_bound`] after changes of claims and volumes until the
///    answer is [`Progress::Done`]. When it is [`Progress::Failed`], or `wait` is over, it calls [`crate::Engine::undo`].
/// 3. Only then, and if [`crate::Engine::may_bind`] agrees, it writes the Binding: no node ever starts a pod whose volumes may
///    still go to somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreBind {
    pub writes: Vec<Write>,
    /// How long step 2 may take; `None`: there is nothing to wait for.
    pub wait: Option<Duration>,
}

impl PreBind {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.wait.is_none()
    }

    pub(crate) fn add(&mut self, other: PreBind) {
        self.writes.extend(other.writes);
        self.wait = self.wait.max(other.wait);
    }
}

/// A write that takes effect only on the version that was decided on (metadata.uid and resourceVersion as preconditions). When
/// the object is newer but says already what would be written, because two pods share a claim, that counts as done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a PersistentVolume's `spec.claimRef` (kind, apiVersion, namespace, name and uid of the claim).
    BindVolume {
        volume: Arc<str>,
        uid: Arc<str>,
        version: Version,
        claim: Name,
        claim_uid: Arc<str>,
        /// Sets the annotation `pv.kubernetes.io/bound-by-controller: "yes"` as well: nobody had set the volume aside for
        /// the claim, so the binding may be taken back.
        by_controller: bool,
    },
    /// Sets a PersistentVolumeClaim's annotation `volume.kubernetes.io/selected-node`: a provisioner makes the volume there.
    SelectNode { claim: Name, uid: Arc<str>, version: Version, node: Arc<str> },
}

/// How far what was written has come true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    Waiting,
    /// It never will, for this reason.
    Failed(String),
}
