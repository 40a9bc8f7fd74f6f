//! What must be written, and then come true, before a pod may be bound to the node that it was given.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::resource::v1::AllocationResult;

use crate::{
    device::ExtendedClaim,
    storage::{Name, Version},
};

/// Goes before the Binding, in this order:
///
/// 1. The driver makes all `writes`, in their order, between [`crate::Engine::writing`] and [`crate::Engine::written`]. If one
///    fails, it makes no further one and gives up.
/// 2. It feeds the engine as ever, and asks [`crate::Engine::pre_bound`] after changes of claims and volumes until the
///    answer is [`Progress::Done`]. When it is [`Progress::Failed`], it gives up.
/// 3. Only then, and if [`crate::Engine::bind`] agrees, it binds the pod as that says: no node ever starts a pod whose volumes or
///    devices may still go to somebody else.
///
/// Who gives up makes the writes of [`crate::Engine::take_back`] and calls [`crate::Engine::undo`]. All else that was written
/// stays, and the next attempt builds on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreBind {
    pub writes: Vec<Write>,
    /// How long step 2 may take; `None`: there is nothing to wait for.
    pub wait: Option<Duration>,
    /// What the pod's owner is told before step 2: reasons and notes of events.
    pub tells: Vec<(&'static str, String)>,
}

impl PreBind {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.wait.is_none()
    }

    pub(crate) fn add(&mut self, other: PreBind) {
        self.writes.extend(other.writes);
        self.wait = self.wait.max(other.wait);
        self.tells.extend(other.tells);
    }
}

/// A write that takes effect only on the version that was decided on (metadata.uid and resourceVersion as preconditions). When
/// the object is newer but says already what would be written, because two pods share a claim, that counts as done.
#[derive(Clone, Debug, PartialEq)]
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
    /// Adds the pod to a ResourceClaim's `status.reservedFor`, as long as it has this allocation. `allocate`: it has none yet, and
    /// gets it by the same write; the finalizer [`crate::convert::device::FINALIZER`] goes before, so that the claim does not
    /// vanish with its devices. The shares in the allocation have no ids yet ([`devices::name_shares`]), and it has no time.
    ReserveClaim { claim: Name, uid: Arc<str>, allocation: Arc<AllocationResult>, allocate: bool },
    /// Makes a ResourceClaim for the pod's extended resources, owned by the pod, with the annotation
    /// [`crate::convert::device::EXTENDED`]; reserves it as above; and names it in the pod's `status.extendedResourceClaimStatus`.
    MakeClaim(Arc<ExtendedClaim>),
    /// Deletes a ResourceClaim that was made so, its finalizer before.
    DeleteClaim { claim: Name, uid: Arc<str> },
    /// Takes the pod off a ResourceClaim's `status.reservedFor`. One without an allocation is changed all the same, if only by its
    /// finalizer: an allocation that was given up and is on its way still must not take effect.
    UnreserveClaim { claim: Name, uid: Arc<str> },
    /// Clears the status of a ResourceClaim that nobody but the pod uses: its devices are free again.
    DeallocateClaim { claim: Name, uid: Arc<str>, version: Version },
    /// Whatever else a plugin has to write. It is for the plugin to say in it which version of the object it is about.
    Request { plugin: Arc<str>, request: Request },
}

/// A write to the API in so many words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub verb: Verb,
    /// Such as `/api/v1/namespaces/default/configmaps/name`, with the query if there is one.
    pub path: String,
    /// JSON.
    pub body: String,
}

/// What it does, as Kubernetes calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Update,
    /// By JSON Merge Patch (RFC 7386).
    Patch,
    StrategicPatch,
    Delete,
}

impl Write {
    /// The plugin that wants it.
    pub fn plugin(&self) -> &str {
        match self {
            Write::Request { plugin, .. } => plugin,
            Write::BindVolume { .. } | Write::SelectNode { .. } => "VolumeBinding",
            Write::ReserveClaim { .. }
            | Write::MakeClaim(_)
            | Write::DeleteClaim { .. }
            | Write::UnreserveClaim { .. }
            | Write::DeallocateClaim { .. } => "DynamicResources",
        }
    }
}

/// How far what was written has come true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    Waiting,
    /// It never will, for this reason.
    Failed(String),
}
