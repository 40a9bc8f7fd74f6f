//! Plugins that write: before a binding, instead of it, and for a pod that no node takes or that is kept out.

use std::sync::Arc;

use sched::{
    Pod, World,
    diagnosis::Rejection,
    framework::{Bind, Plugin, Point, PostFilter, Unplaced},
    pre_bind::{PreBind, Request, Verb, Write},
};
use sched_config::Point as Configured;
use serde_json::{Value, json};

use crate::real::{Api, Made, PODS, condition};

const NAME: &str = "Courier";
const RECEIPTS: &str = "/api/v1/namespaces/default/configmaps";

/// Writes a receipt before a pod is bound, and binds it with a stamp; keeps pods out that are early, and promises those that find
/// no node the node `spare`.
struct Courier;

impl Plugin for Courier {
    fn name(&self) -> &str {
        NAME
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue, Point::PostFilter, Point::PreBind, Point::Bind]
    }

    fn pre_enqueue(&self, pod: &Pod, _world: &World) -> Result<(), Rejection> {
        let early = pod.labels.iter().any(|(key, _)| &**key == "early");
        if early { Err(Rejection::unresolvable("it is too early")) } else { Ok(()) }
    }

    fn post_filter(&self, _pod: &Pod, _found: &Unplaced<'_>, _world: &World) -> PostFilter {
        PostFilter::Nominates("spare".into(), "the spare one is kept".into())
    }

    fn pre_bind(&self, pod: &Pod, _world: &World) -> PreBind {
        let body = json!({"metadata": {"name": format!("receipt-{}", pod.name)}}).to_string();
        let request = Request { verb: Verb::Create, path: RECEIPTS.to_owned(), body };
        PreBind { writes: vec![Write::Request { plugin: NAME.into(), request }], ..Default::default() }
    }

    fn bind(&self, pod: &Pod, node: &str, _world: &World) -> Result<Bind, Rejection> {
        if pod.name.starts_with("plain") {
            return Ok(Bind::Skip);
        }
        let stamp = json!({"example.com/by": NAME});
        let binding = json!({"metadata": {"name": &*pod.name, "uid": &*pod.uid, "annotations": stamp},
            "target": {"kind": "Node", "name": node}});
        let path = format!("{PODS}/{}/binding", pod.name);
        Ok(Bind::Request(Request { verb: Verb::Create, path, body: binding.to_string() }))
    }
}

async fn started() -> Api {
    use Configured::{Bind, PostFilter, PreBind, PreEnqueue};
    let api = Api::start().await;
    let enabled = "{enabled: [{name: Courier}]}";
    // It comes before the one that binds whatever it is asked about.
    let bind = "{disabled: [{name: DefaultBinder}], enabled: [{name: Courier}, {name: DefaultBinder}]}";
    let points = format!("preEnqueue: {enabled}, postFilter: {enabled}, preBind: {enabled}, bind: {bind}");
    let lines =
        format!("profiles: [{{plugins: {{{points}}}, pluginConfig: [{{name: Courier, args: {{stamps: 1}}}}]}}]");
    let points = &[PreEnqueue, PostFilter, PreBind, Bind];
    api.schedule(&lines, vec![Arc::new(Made { word: "stamps", points, make: || Box::new(Courier) })]);
    api
}

#[tokio::test]
async fn a_plugin_writes_before_the_binding_and_binds_the_pod_itself() {
    let api = started().await;
    api.node("a", json!({})).await;
    for (name, stamp) in [("stamped", json!(NAME)), ("plain", Value::Null)] {
        api.pod(name, json!({"cpu": "100m"}), json!({})).await;
        assert_eq!(api.bound(name).await, "a");
        let pod = api.get(&format!("{PODS}/{name}")).await;
        assert_eq!(pod["metadata"]["annotations"]["example.com/by"], stamp);
        assert!(api.get(&format!("{RECEIPTS}/receipt-{name}")).await["metadata"]["uid"].is_string());
        assert_eq!(api.event(name, "Scheduled").await["message"], format!("Successfully assigned default/{name} to a"));
    }
    // A write that is refused is no binding.
    api.send("POST", RECEIPTS, json!({"metadata": {"name": "receipt-late"}})).await;
    api.pod("late", json!({"cpu": "100m"}), json!({})).await;
    let (reason, message) = api.waits("late").await;
    assert_eq!(reason, "SchedulerError");
    assert!(message.starts_with("running PreBind plugin \"Courier\": ") && message.contains("exists"), "{message}");
    api.send("DELETE", &format!("{RECEIPTS}/receipt-late"), json!({})).await;
    assert_eq!(api.bound("late").await, "a");
}

#[tokio::test]
async fn a_plugin_promises_a_node_and_keeps_pods_out() {
    let api = started().await;
    api.node("spare", json!({"cpu": "1"})).await;
    api.pod("first", json!({"cpu": "800m"}), json!({})).await;
    assert_eq!(api.bound("first").await, "spare");
    api.pod("second", json!({"cpu": "500m"}), json!({})).await;
    let (reason, message) = api.waits("second").await;
    assert_eq!(reason, "Unschedulable");
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message}");
    assert!(message.contains("the spare one is kept"), "{message}");
    let path = format!("{PODS}/second");
    api.wait(&path, "it is promised a node", |pod| pod["status"]["nominatedNodeName"] == "spare").await;
    api.send("DELETE", &format!("{PODS}/first"), json!({})).await;
    assert_eq!(api.bound("second").await, "spare");
    // One that is kept out is told by whom, in words that make nobody add nodes for it.
    let early = json!({"metadata": {"name": "early", "labels": {"early": "yes"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.send("POST", PODS, early).await;
    let told = "plugin \"Courier\" keeps the pod out of the queue: it is too early";
    assert_eq!(api.waits("early").await, ("NotReadyForScheduling".to_owned(), told.to_owned()));
    assert_eq!(api.event("early", "FailedScheduling").await["message"], told);
    let labels = json!({"metadata": {"labels": {"early": null}}});
    api.send("PATCH", &format!("{PODS}/early"), labels).await;
    assert_eq!(api.bound("early").await, "spare");
    let pod = api.get(&format!("{PODS}/early")).await;
    assert_eq!(condition(&pod, "PodScheduled")["status"], "True");
}
