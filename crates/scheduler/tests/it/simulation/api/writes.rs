//! What the writes of a scheduler do: bindings, status patches, evictions, events.

use http::Method;
use serde_json::{Value, json};

use super::{Api, Call, Reply};
use crate::simulation::{
    faults::Class,
    kubelet,
    store::{is_leaving, node_of, uid},
};

impl Api {
    /// The pod's UID and the node, if the request is a binding.
    pub(super) fn binding_arrives(&self, call: &Call) -> Option<(String, String)> {
        if !matches!(call.class(), Class::Binding) {
            return None;
        }
        let (pod, node) = (uid(&call.body).to_owned(), call.body["target"]["name"].as_str()?.to_owned());
        let (now, mut guard) = (self.now(), self.lock());
        let state = &mut *guard;
        state.story.say(now, format_args!("scheduler {}: binding of {pod} to {node} arrives", call.scheduler));
        state.bindings += 1;
        state.judge.binding_arrives(call.scheduler, &pod, &node, &state.store, now);
        Some((pod, node))
    }

    pub(super) fn carry_out(&self, call: &Call) -> Reply {
        match (&call.method, call.segments().as_slice()) {
            (&Method::GET, path) => self.read(call.scheduler, path, &call.query),
            (&Method::POST, ["api", "v1", "namespaces", _, "pods", name, "binding"]) => {
                self.bind(call.scheduler, name, &call.body)
            }
            (&Method::PATCH, ["api", "v1", "namespaces", _, "pods", name, "status"]) => {
                self.patch_status(call.scheduler, name, &call.body)
            }
            (&Method::PUT, ["apis", "resource.k8s.io", "v1", "namespaces", _, "resourceclaims", name, status @ ..]) => {
                self.write_claim(call.scheduler, name, &call.body, status == ["status"])
            }
            (&Method::PATCH, ["api", "v1", resource @ "persistentvolumes", name])
            | (&Method::PATCH, ["api", "v1", "namespaces", _, resource @ "persistentvolumeclaims", name]) => {
                self.patch_storage(resource, name, &call.body)
            }
            (&Method::DELETE, ["api", "v1", "namespaces", _, "pods", name]) => self.evict(name, &call.body),
            (&Method::POST | &Method::PATCH, ["api", "v1", "namespaces", _, "events", ..]) => {
                Reply { code: 201, body: call.body.clone(), tells: Vec::new(), all: None }
            }
            (method, _) => panic!("a scheduler does not ask for {method} {}", call.path),
        }
    }

    fn bind(&self, scheduler: u32, pod_name: &str, binding: &Value) -> Reply {
        let node = binding["target"]["name"].as_str().unwrap();
        self.change(|state, now| {
            let mut pod = match of_uid(state.store.get("pods", pod_name), pod_name, &binding["metadata"]["uid"]) {
                Ok(pod) => pod,
                Err(refusal) => return refusal,
            };
            if let Some(other) = node_of(&pod) {
                let text = format!("pod {pod_name} is already assigned to node {other:?}");
                return Reply { tells: vec![pod], ..conflict(pod_name, &text) };
            }
            if is_leaving(&pod) {
                return conflict(pod_name, &format!("pod {pod_name} is being deleted, cannot be assigned to a host"));
            }
            state.judge.binding_is_carried_out(scheduler, &pod, node, &state.store, now);
            pod["spec"]["nodeName"] = json!(node);
            set_condition(&mut pod, json!({"type": "PodScheduled", "status": "True"}));
            let tells = vec![pod.clone()];
            kubelet::receive(self, &self.tasks, pod_name, uid(&pod));
            state.store.put("pods", pod);
            let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
            Reply { code: 201, body, tells, all: None }
        })
    }

    fn patch_status(&self, scheduler: u32, pod_name: &str, patch: &Value) -> Reply {
        self.change(|state, now| {
            let mut pod = match of_uid(state.store.get("pods", pod_name), pod_name, &patch["metadata"]["uid"]) {
                Ok(pod) => pod,
                Err(refusal) => return refusal,
            };
            // On a node, the kubelet says it again if somebody says that the pod waits who does not know better.
            let kept = state.judge.may_not_know_node(scheduler, &pod, now);
            let conditions = patch["status"]["conditions"].as_array().into_iter().flatten();
            for condition in conditions.filter(|condition| !(kept && condition["type"] == "PodScheduled")) {
                set_condition(&mut pod, condition.clone());
            }
            if let Some(node) = patch["status"].get("nominatedNodeName") {
                state.story.say(now, format_args!("scheduler {scheduler}: {pod_name} is nominated for {node}"));
                pod["status"]["nominatedNodeName"] = node.clone();
            }
            state.store.put("pods", pod.clone());
            Reply::ok(pod)
        })
    }

    fn evict(&self, pod_name: &str, options: &Value) -> Reply {
        let found = {
            let state = self.lock();
            of_uid(state.store.get("pods", pod_name), pod_name, &options["preconditions"]["uid"])
        };
        match found {
            Err(refusal) => refusal,
            Ok(pod) => {
                self.delete_pod(pod_name, std::time::Duration::from_secs(3));
                Reply::ok(pod)
            }
        }
    }
}

/// The pod, if it is the one that is meant.
fn of_uid(pod: Option<&Value>, name: &str, wanted: &Value) -> Result<Value, Reply> {
    let pod = pod.ok_or_else(|| Reply::refusal(404, "NotFound", format!("pods {name:?} not found")))?;
    if *wanted != pod["metadata"]["uid"] {
        let text = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {}", uid(pod));
        return Err(conflict(name, &text));
    }
    Ok(pod.clone())
}

fn conflict(name: &str, text: &str) -> Reply {
    Reply::refusal(409, "Conflict", format!("Operation cannot be fulfilled on pods {name:?}: {text}"))
}

/// Merges as a strategic patch does: conditions by their types.
fn set_condition(pod: &mut Value, condition: Value) {
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let all = conditions.as_array_mut().unwrap();
    match all.iter_mut().find(|known| known["type"] == condition["type"]) {
        Some(known) => {
            for (field, value) in condition.as_object().unwrap() {
                known[field] = value.clone();
            }
        }
        None => all.push(condition),
    }
}
