//! What plugins have written: before a binding, when it is given up, or for a pod that no node takes.

use client::kube::{
    self, Api as KubeApi,
    api::{Patch, PatchParams},
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use sched::{Pod, device::ResourceClaim, pre_bind::Write};
use serde_json::json;

use super::Api;

/// Of a volume that was not set aside for its claim by a person.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Of a claim: the node that its volume is to be made for.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// A write that was not made, and the plugin that wanted it.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Unwritten {
    pub plugin: String,
    pub reason: String,
}

impl Api {
    /// Makes the writes for a pod in their order, until one fails. ResourceClaims as the API has answered are added to `shown`.
    pub async fn write(&self, pod: &Pod, writes: &[Write], shown: &mut Vec<ResourceClaim>) -> Result<(), Unwritten> {
        for write in writes {
            self.write_one(pod, write, shown).await.map_err(|reason| {
                let plugin = write.plugin().to_owned();
                Unwritten { plugin, reason }
            })?;
        }
        Ok(())
    }

    async fn write_one(&self, pod: &Pod, write: &Write, shown: &mut Vec<ResourceClaim>) -> Result<(), String> {
        let text = |error: kube::Error| error.to_string();
        match write {
            Write::BindVolume { .. } => self.bind_volume(write).await.map_err(text),
            Write::SelectNode { .. } => self.select_node(write).await.map_err(text),
            Write::ReserveClaim { claim, uid, allocation, allocate } => {
                shown.extend(self.reserve_claim(pod, claim, uid, allocation, *allocate).await?);
                Ok(())
            }
            Write::MakeClaim(claim) => self.make_claim(pod, claim, shown).await,
            Write::DeleteClaim { claim, uid } => self.delete_claim(claim, uid).await,
            Write::UnreserveClaim { claim, uid } => {
                shown.extend(self.unreserve_claim(pod, claim, uid).await?);
                Ok(())
            }
            Write::DeallocateClaim { claim, uid, version } => {
                shown.extend(self.deallocate_claim(pod, claim, uid, version).await?);
                Ok(())
            }
            Write::Request { request, .. } => self.request(request).await.map_err(text),
        }
    }

    async fn bind_volume(&self, write: &Write) -> kube::Result<()> {
        let Write::BindVolume { volume, uid, version, claim, claim_uid, by_controller } = write else { return Ok(()) };
        let reference = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": &*claim.0,
            "name": &*claim.1, "uid": &**claim_uid});
        let mut metadata = json!({"uid": &**uid, "resourceVersion": &*version.0});
        if *by_controller {
            metadata["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
        }
        let volumes = KubeApi::<PersistentVolume>::all(self.client.clone());
        let patch = json!({"metadata": metadata, "spec": {"claimRef": reference}});
        let written = volumes.patch(volume, &PatchParams::default(), &Patch::Merge(patch)).await;
        if let Err(error) = written {
            let now = volumes.get(volume).await?;
            let claim = now.spec.and_then(|spec| spec.claim_ref).and_then(|claim| claim.uid);
            if claim.as_deref() != Some(&**claim_uid) {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn select_node(&self, write: &Write) -> kube::Result<()> {
        let Write::SelectNode { claim, uid, version, node } = write else { return Ok(()) };
        let annotations = json!({SELECTED_NODE: &**node});
        let metadata = json!({"uid": &**uid, "resourceVersion": &*version.0, "annotations": annotations});
        let claims = KubeApi::<PersistentVolumeClaim>::namespaced(self.client.clone(), &claim.0);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        if let Err(error) = claims.patch(&claim.1, &PatchParams::default(), &patch).await {
            let now = claims.get(&claim.1).await?.metadata.annotations.unwrap_or_default();
            if now.get(SELECTED_NODE).map(String::as_str) != Some(&**node) {
                return Err(error);
            }
        }
        Ok(())
    }
}
