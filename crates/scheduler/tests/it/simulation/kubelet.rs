//! What a node does with a pod that comes to it: whoever is too many is turned away, and has failed for good.
//!
//! Schedulers do not bring this about but when two of them are at work, or when a node is not any more what they know of it.

use std::time::Duration;

use runtime::Tasks;
use serde_json::json;

use super::{
    api::Api,
    judge::residents,
    store::{node_of, uid},
};

/// How long a node takes to look at a pod.
const LOOK: Duration = Duration::from_millis(50);

/// The node looks at the pod.
pub fn receive(api: &Api, tasks: &Tasks, pod_name: &str, pod_uid: &str) {
    let (api, pod_name, pod_uid) = (api.clone(), pod_name.to_owned(), pod_uid.to_owned());
    tasks.spawn("kubelet", async move {
        tokio::time::sleep(LOOK).await;
        api.change(|state, now| {
            let Some(mut pod) = state.store.get("pods", &pod_name).filter(|pod| uid(pod) == pod_uid).cloned() else {
                return;
            };
            let Some(machine) = node_of(&pod).and_then(|node| state.judge.machine(node)) else { return };
            if machine.holds(&residents(&state.store, &state.judge.demands, &machine.name)) {
                return;
            }
            state.story.say(now, format_args!("{} turns {pod_uid} away", machine.name));
            pod["status"]["phase"] = json!("Failed");
            state.judge.pod_is_gone(&pod_uid);
            state.store.put("pods", pod);
        });
    });
}
