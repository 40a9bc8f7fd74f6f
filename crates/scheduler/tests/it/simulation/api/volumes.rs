//! Merge patches of volumes and of claims to them: on the version that was decided on, and on no other.

use serde_json::Value;

use super::{Api, Reply};
use crate::simulation::store::name;

impl Api {
    pub(super) fn patch_storage(&self, resource: &str, object_name: &str, patch: &Value) -> Reply {
        self.change(|state, _| {
            let Some(mut object) = state.store.get(resource, object_name).cloned() else {
                return Reply::refusal(404, "NotFound", format!("{resource} {object_name:?} not found"));
            };
            let same = |field: &str| object["metadata"][field] == patch["metadata"][field];
            if !same("uid") || !same("resourceVersion") {
                let text = format!("{resource} {object_name:?}: the object has been modified");
                return Reply::refusal(409, "Conflict", text);
            }
            for (key, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
                object["metadata"]["annotations"][key] = value.clone();
            }
            if let Some(claim) = patch["spec"].get("claimRef") {
                state.judge.volume_is_bound(&object, claim);
                object["spec"]["claimRef"] = claim.clone();
            }
            state.story.say(self.now(), format_args!("{resource} {} is patched: {patch}", name(&object)));
            state.store.put(resource, object.clone());
            Reply::ok(state.store.get(resource, object_name).cloned().unwrap_or(object))
        })
    }
}
