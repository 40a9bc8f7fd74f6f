//! What a guest may call: the functions of kube-scheduler-wasm-extension's modules `k8s.io/api`, `k8s.io/scheduler` and
//! `k8s.io/klog`. Texts and objects go into a buffer of the guest's, with as many bytes as there are for an answer: a guest
//! that has less room asks again.
//!
//! What belongs to extension points that this scheduler does not ask guests at is there, so that modules which import it can be
//! loaded, and a fault when it is called.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use wasmtime::{Caller, Linker, Result};

use crate::{
    fault::{Fault, MAX_WORDS, words},
    host::{Host, View},
    scores,
};

const API: &str = "k8s.io/api";
const SCHEDULER: &str = "k8s.io/scheduler";
const KLOG: &str = "k8s.io/klog";
/// Whoever imports one of these may ask for any node.
const OF_NODES: [(&str, &str); 3] = [(API, NODE), (API, NODE_LIST), (SCHEDULER, FILTERED)];
const NODE: &str = "node";
const NODE_LIST: &str = "nodeList";
const FILTERED: &str = "filteredNodeList";
const IMAGE_STATES: &str = "nodeImageStates";
const POD: &str = "currentPod";
const NODE_NAME: &str = "currentNodeName";
const CONFIG: &str = "get_config";
const REASON: &str = "result.status_reason";
const NODE_NAMES: &str = "result.node_names";
const STATUSES: &str = "nodeToStatusMap";
const NOMINATED: &str = "result.nominated_node_name";
const CLUSTER_EVENTS: &str = "result.cluster_events";
const SCORES: &str = "nodeScoreList";
const NORMALIZED: &str = "result.normalized_score_list";
const EVENTF: &str = "handle.eventrecorder.eventf";
const REJECT_WAITING: &str = "handle.reject_waiting_pod";
const GET_WAITING: &str = "handle.get_waiting_pod";

/// Bytes of a log line, and of an event.
const MAX_LINE: usize = 1024;
/// Bytes of a node's name.
const MAX_NODE_NAME: u32 = 253;
/// Nodes that a guest may single out.
const MAX_NODE_NAMES: usize = 10_000;
/// Bytes of cluster events, eight for each.
const MAX_CLUSTER_EVENTS: u32 = 64 * 8;
/// Of the scores of all nodes as JSON: enough for the most nodes with the longest names.
const MAX_SCORES: u32 = 32 << 20;
/// Of an event as JSON.
const MAX_EVENT: u32 = 16 << 10;

/// Whether a module may ask for any node, so that all must be at hand.
pub(crate) fn wants_nodes(module: &wasmtime::Module) -> bool {
    module.imports().any(|import| OF_NODES.contains(&(import.module(), import.name())))
}

/// Whether a module may ask where images are.
pub(crate) fn wants_images(module: &wasmtime::Module) -> bool {
    module.imports().any(|import| (import.module(), import.name()) == (SCHEDULER, IMAGE_STATES))
}

/// Whether a module may ask what each node said.
pub(crate) fn wants_statuses(module: &wasmtime::Module) -> bool {
    module.imports().any(|import| (import.module(), import.name()) == (SCHEDULER, STATUSES))
}

/// Whether a module can give scores back.
pub(crate) fn normalizes(module: &wasmtime::Module) -> bool {
    module.imports().any(|import| (import.module(), import.name()) == (SCHEDULER, NORMALIZED))
}

pub(crate) fn offer(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(API, NODE, node)?;
    linker.func_wrap(API, NODE_LIST, node_list)?;
    linker.func_wrap(SCHEDULER, POD, current_pod)?;
    linker.func_wrap(SCHEDULER, NODE_NAME, current_node_name)?;
    linker.func_wrap(SCHEDULER, FILTERED, filtered)?;
    linker.func_wrap(SCHEDULER, IMAGE_STATES, image_states)?;
    linker.func_wrap(SCHEDULER, CONFIG, config)?;
    linker.func_wrap(SCHEDULER, REASON, reason)?;
    linker.func_wrap(SCHEDULER, NODE_NAMES, node_names)?;
    linker.func_wrap(SCHEDULER, STATUSES, statuses)?;
    linker.func_wrap(SCHEDULER, NOMINATED, nominated)?;
    linker.func_wrap(SCHEDULER, CLUSTER_EVENTS, cluster_events)?;
    linker.func_wrap(SCHEDULER, EVENTF, eventf)?;
    linker.func_wrap(SCHEDULER, SCORES, node_scores)?;
    linker.func_wrap(SCHEDULER, NORMALIZED, normalized)?;
    linker.func_wrap(SCHEDULER, REJECT_WAITING, reject_waiting)?;
    linker.func_wrap(SCHEDULER, GET_WAITING, get_waiting)?;
    linker.func_wrap(KLOG, "log", |caller: Caller<'_, Host>, severity: i32, at: u32, len: u32| {
        log(caller, severity, (at, len), (0, 0))
    })?;
    linker.func_wrap(
        KLOG,
        "logs",
        |caller: Caller<'_, Host>, severity: i32, at: u32, len: u32, pairs: u32, pairs_len: u32| {
            log(caller, severity, (at, len), (pairs, pairs_len))
        },
    )?;
    linker.func_wrap(KLOG, "severity", |caller: Caller<'_, Host>| caller.data().about.arguments.log_severity)?;
    deny(linker)
}

/// What belongs to other extension points.
fn deny(linker: &mut Linker<Host>) -> Result<()> {
    let import = "targetPod";
    linker.func_wrap(SCHEDULER, import, move |_: u32, _: u32| -> Result<u32> {
        Err(Fault::Unsupported(import).into())
    })?;
    Ok(())
}

/// A node by its name; nothing for one that is not known.
fn node(mut caller: Caller<'_, Host>, name: u32, name_len: u32, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, NODE)?;
    let name = std::str::from_utf8(view.read(name, name_len)?).map_err(|_| Fault::Garbage(NODE))?.to_owned();
    let encoded = view.host().about.nodes.lock().encoded(&name);
    Ok(encoded.map_or(Ok(0), |encoded| view.give(at, room, &encoded))?)
}

fn node_list(mut caller: Caller<'_, Host>, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, NODE_LIST)?;
    let list = view.host().about.nodes.lock().list();
    Ok(view.give(at, room, &list)?)
}

fn current_pod(mut caller: Caller<'_, Host>, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, POD)?;
    let Some(subject) = view.host().call.subject.clone() else { return Ok(0) };
    Ok(view.give(at, room, &subject.encoded)?)
}

fn current_node_name(mut caller: Caller<'_, Host>, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, NODE_NAME)?;
    let Some(node) = view.host().call.node.clone() else { return Ok(0) };
    Ok(view.give(at, room, node.name.as_bytes())?)
}

/// The names of nodes as a JSON list. All of them: nodes are filtered and scored one by one here, so that which will have passed
/// is not known when the guest prepares to score.
fn filtered(mut caller: Caller<'_, Host>, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, FILTERED)?;
    let names = view.host().about.nodes.lock().names();
    let names = serde_json::to_vec(&names).map_err(|_| Fault::Garbage(FILTERED))?;
    Ok(view.give(at, room, &names)?)
}

#[derive(Serialize)]
struct ImageState {
    #[serde(rename = "Size")]
    size: i64,
    #[serde(rename = "NumNodes")]
    nodes: usize,
}

/// The images of the node that is asked about, as JSON.
fn image_states(mut caller: Caller<'_, Host>, name: u32, name_len: u32, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, IMAGE_STATES)?;
    let name = view.read(name, name_len)?.to_vec();
    let call = &view.host().call;
    let Some(node) = call.node.as_ref().filter(|node| node.name.as_bytes() == name) else {
        return Err(Fault::Unsupported("nodeImageStates of another node").into());
    };
    let counts = call.image_nodes.iter();
    let states = node.images.iter().zip(counts).map(|((name, size), nodes)| {
        let state = ImageState { size: *size, nodes: *nodes };
        (&**name, state)
    });
    let states: BTreeMap<&str, ImageState> = states.collect();
    let states = serde_json::to_vec(&states).map_err(|_| Fault::Garbage(IMAGE_STATES))?;
    Ok(view.give(at, room, &states)?)
}

fn config(mut caller: Caller<'_, Host>, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, CONFIG)?;
    let about = view.host().about.clone();
    Ok(view.give(at, room, about.arguments.guest_config.as_bytes())?)
}

fn reason(mut caller: Caller<'_, Host>, at: u32, len: u32) -> Result<()> {
    let mut view = View::new(&mut caller, REASON)?;
    let reason = words(view.read(at, len)?, MAX_WORDS);
    view.host().call.reason = reason;
    Ok(())
}

fn node_names(mut caller: Caller<'_, Host>, at: u32, len: u32) -> Result<()> {
    let mut view = View::new(&mut caller, NODE_NAMES)?;
    let text = std::str::from_utf8(view.read(at, len)?).map_err(|_| Fault::Garbage(NODE_NAMES))?;
    let names = text.split('\0').filter(|name| !name.is_empty()).take(MAX_NODE_NAMES + 1);
    let names: Vec<Arc<str>> = names.map(Arc::from).collect();
    if names.len() > MAX_NODE_NAMES {
        return Err(Fault::Garbage(NODE_NAMES).into());
    }
    view.host().call.only = Some(names);
    Ok(())
}

/// What each node said to a pod that none takes: a JSON object of status codes by the nodes' names.
fn statuses(mut caller: Caller<'_, Host>, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, STATUSES)?;
    let encoded = serde_json::to_vec(&view.host().call.statuses).map_err(|_| Fault::Garbage(STATUSES))?;
    Ok(view.give(at, room, &encoded)?)
}

/// The node that is to be kept for the pod; an empty name is none.
fn nominated(mut caller: Caller<'_, Host>, at: u32, len: u32) -> Result<()> {
    let mut view = View::new(&mut caller, NOMINATED)?;
    if len > MAX_NODE_NAME {
        return Err(Fault::Garbage(NOMINATED).into());
    }
    let name = std::str::from_utf8(view.read(at, len)?).map_err(|_| Fault::Garbage(NOMINATED))?;
    let name = Some(name).filter(|name| !name.is_empty()).map(Arc::from);
    view.host().call.nominated = name;
    Ok(())
}

fn cluster_events(mut caller: Caller<'_, Host>, at: u32, len: u32) -> Result<()> {
    let mut view = View::new(&mut caller, CLUSTER_EVENTS)?;
    if len > MAX_CLUSTER_EVENTS {
        return Err(Fault::Garbage(CLUSTER_EVENTS).into());
    }
    let events = view.read(at, len)?.to_vec();
    view.host().call.cluster_events = events;
    Ok(())
}

/// The scores of all nodes that fit, as a JSON object by their names.
fn node_scores(mut caller: Caller<'_, Host>, at: u32, room: u32) -> Result<u32> {
    let mut view = View::new(&mut caller, SCORES)?;
    let encoded = scores::encode(&view.host().call.scores);
    Ok(view.give(at, room, &encoded)?)
}

/// The same, normalized.
fn normalized(mut caller: Caller<'_, Host>, at: u32, len: u32) -> Result<()> {
    let mut view = View::new(&mut caller, NORMALIZED)?;
    if len > MAX_SCORES {
        return Err(Fault::Garbage(NORMALIZED).into());
    }
    let bytes = view.read(at, len)?.to_vec();
    let call = &mut view.host().call;
    let normalized = scores::decode(&bytes, &call.scores).ok_or(Fault::Garbage(NORMALIZED))?;
    call.normalized = Some(normalized);
    Ok(())
}

/// Has a pod wait no more that this plugin has waiting; a 64-bit 1 is written if there is one with this uid, else a 0.
fn reject_waiting(mut caller: Caller<'_, Host>, uid: u32, uid_len: u32, at: u32, _room: u32) -> Result<()> {
    let mut view = View::new(&mut caller, REJECT_WAITING)?;
    let uid = std::str::from_utf8(view.read(uid, uid_len)?).map_err(|_| Fault::Garbage(REJECT_WAITING))?.to_owned();
    let rejected = view.host().about.waiting.reject(&uid);
    Ok(view.write(at, &u64::from(rejected).to_le_bytes())?)
}

/// A pod that this plugin has waiting. The interface has no length for it: if there is none, a 64-bit 0 is written.
fn get_waiting(mut caller: Caller<'_, Host>, uid: u32, uid_len: u32, at: u32, room: u32) -> Result<()> {
    let mut view = View::new(&mut caller, GET_WAITING)?;
    let uid = std::str::from_utf8(view.read(uid, uid_len)?).map_err(|_| Fault::Garbage(GET_WAITING))?.to_owned();
    match view.host().about.waiting.get(&uid) {
        Some(pod) => view.give(at, room, &pod)?,
        None => view.give(at, room, &0u64.to_le_bytes())?,
    };
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Event {
    eventtype: String,
    reason: String,
    note: String,
}

/// An event. It is always about the pod that is asked about, whatever the guest says.
fn eventf(mut caller: Caller<'_, Host>, at: u32, len: u32) -> Result<()> {
    let mut view = View::new(&mut caller, EVENTF)?;
    if len > MAX_EVENT {
        return Err(Fault::Garbage(EVENTF).into());
    }
    let event: Event = serde_json::from_slice(view.read(at, len)?).map_err(|_| Fault::Garbage(EVENTF))?;
    let host = view.host();
    if host.about.may_say() {
        let [reason, note] = [event.reason, event.note].map(|text| words(text.as_bytes(), MAX_LINE));
        host.event(event.eventtype == "Warning", reason, note);
    }
    Ok(())
}

/// A log line, with keys and values that each end in a zero. What is routine to a guest is detail to the scheduler.
fn log(
    mut caller: Caller<'_, Host>,
    severity: i32,
    (at, len): (u32, u32),
    (pairs, pairs_len): (u32, u32),
) -> Result<()> {
    let mut view = View::new(&mut caller, "log")?;
    let host = view.host();
    if severity < host.about.arguments.log_severity || !host.about.may_say() {
        return Ok(());
    }
    let guest = words(view.read(at, len)?, MAX_LINE);
    let details = words(view.read(pairs, pairs_len)?, MAX_LINE);
    let plugin = &view.host().about.name;
    match severity {
        0 => tracing::debug!(plugin, details, "{guest}"),
        1 => tracing::warn!(plugin, details, "{guest}"),
        _ => tracing::error!(plugin, details, "{guest}"),
    }
    Ok(())
}
