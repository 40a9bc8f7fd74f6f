//! Writes to claims to devices: an object that has changed since it was read is not written.

use serde_json::Value;

use super::{Api, Reply};
use crate::simulation::devices::put_claim;

impl Api {
    /// `status`: that of the claim is written and nothing else, and all else otherwise.
    pub(super) fn write_claim(&self, scheduler: u32, name: &str, object: &Value, status: bool) -> Reply {
        self.change(|state, now| {
            let Some(before) = state.store.get("resourceclaims", name).cloned() else {
                return Reply::refusal(404, "NotFound", format!("resourceclaims {name:?} not found"));
            };
            let same = |field: &str| before["metadata"][field] == object["metadata"][field];
            if !same("uid") || !same("resourceVersion") {
                let text = format!("resourceclaims {name:?}: the object has been modified");
                return Reply::refusal(409, "Conflict", text);
            }
            let mut after = before.clone();
            if status {
                after["status"] = object["status"].clone();
                state.judge.claim_is_written(scheduler, &before, &after, &state.store, now);
            } else {
                after["metadata"]["finalizers"] = object["metadata"]["finalizers"].clone();
            }
            put_claim(&mut state.store, after.clone());
            Reply::ok(state.store.get("resourceclaims", name).cloned().unwrap_or(after))
        })
    }
}
