//! Wasm plugins for the scheduler: modules that filter, score, reserve and permit, loaded and replaced while it runs, and cut off
//! when they trap, loop, take too much or answer nonsense.
//!
//! ```text
//!   guestURL ──▶ keeper: fetch ─▶ compile ─▶ start once ──┐ renew
//!                                                         ▼
//!   engine ──▶ WasmPlugin ──▶ Guest ──▶ Instance ──call within fuel, time, memory──▶ exports
//!                 ▲             │           ▲                                           │
//!                 │             │           └──── imports: pod, node, reason, log ◀─────┘
//!            failurePolicy ◀── fault ──▶ event on the pod, figure, suspension
//! ```
//!
//! A plugin is one that has arguments with a `guestURL` (`pluginConfig` of KubeSchedulerConfiguration; see `arguments.rs` for the
//! others). Its guest is called as kube-scheduler-wasm-extension calls guests, so that what its SDK builds runs here:
//!
//! | export | type | |
//! |---|---|---|
//! | `memory` | | must be there |
//! | `_initialize` or `_start` | `()` | once for each instance |
//! | `enqueue` | `()` | which events help pods that it has rejected, by `result.cluster_events` |
//! | `prefilter` | `() -> i32` | begins a pod's turn; may name the only nodes, by `result.node_names` |
//! | `filter` | `() -> i32` | whether a node takes the pod |
//! | `postfilter` | `() -> i64` | no node takes the pod (`nodeToStatusMap`): with 1 in the upper half, the node of `result.nominated_node_name` is kept for it; a status code in the lower |
//! | `prescore` | `() -> i32` | |
//! | `score` | `() -> i64` | the score, 0 to 100, in the upper half, a status code in the lower |
//! | `normalizescore` | `() -> i32` | makes of all nodes' scores (`nodeScoreList`) those that count (`result.normalized_score_list`) |
//! | `reserve`, `unreserve` | `() -> i32`, `()` | for this very pod and a node, as all that follows |
//! | `permit` | `() -> i64` | whether the pod may be bound: a status code in the upper half, how long it waits (ms) in the lower |
//! | `prebind` | `() -> i32` | right before it is bound; a rejection gives the node back |
//! | `bind` | `() -> i32` | it is bound now by a Binding, or the next plugin's to bind (5, skip) |
//! | `postbind` | `()` | it is bound |
//!
//! Status codes are 0 success, 1 error, 2 unschedulable, 3 unschedulable and unresolvable, 4 wait (`permit`), 5 skip (`prefilter`,
//! `prescore` and `bind`); `result.status_reason` gives the words. Pods and nodes are protobuf messages with the fields that the engine
//! keeps (`objects.rs`); `imports.rs` lists the functions, `wasi.rs` what there is of WASI.
//!
//! What differs from kube-scheduler-wasm-extension:
//! - `addpod` and `removepod` are never called; a log line says so when a module that exports them is loaded.
//! - A guest has no way to write to the API. When its `bind` succeeds, the Binding is written for it. A `postfilter` that succeeds
//!   without naming a node leaves the pod to the next plugin.
//! - A node is filtered and scored before the next one is, and answers are kept until the node changes. `filteredNodeList` names
//!   all nodes. Without `normalizescore` scores must be 0 to 100 as they are. With it a decision costs as much as there are nodes
//!   that fit, each time; a module that does not import `result.normalized_score_list` is not asked to.
//! - A pod that waits for a permit is asked about again whenever a node or what runs there has changed: the guest lets it go, has it
//!   wait on, or rejects it; the time of the first answer counts. `handle.reject_waiting_pod` and `handle.get_waiting_pod` know the
//!   pods that this guest has waiting.
//! - There is one instance, which may be asked about other pods between the steps of one: then `prefilter` (and `prescore`) begin
//!   the pod's turn anew, and what the guest has kept for the turn is gone. What it keeps for good is not.
//! - `nodeImageStates` knows the node that is asked about. An event is always about the pod in question.
//! - With `podIdentity: false`, pods with the same namespace, labels and spec are decided alike: the guest does not see who they
//!   are, and is asked about a node once for all of them.
//!
//! A guest that fails is thrown away and begun anew. After three faults in a row, or too many among its answers, it is suspended
//! for a second, then two, up to five minutes; meanwhile its failure policy applies. Each fault is an event on the pod, of which
//! `scheduler_wasm_faults_total` counts all.

mod arguments;
mod fault;
mod guest;
mod host;
mod imports;
mod instance;
mod interest;
mod keeper;
mod metrics;
mod module;
mod nodes;
mod normalizing;
mod objects;
mod plugin;
mod scores;
mod source;
mod standing;
mod ticker;
mod waiting;
mod wasi;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sched::framework::Plugin;
use sched_config::{Point, Value};
use scheduler::{Place, Plugins};
use wasmtime::Engine;

use crate::{
    arguments::Arguments, guest::Guest, host::About, keeper::Keeper, metrics::Metrics, plugin::WasmPlugin,
    ticker::Ticker, waiting::Waiting,
};

/// The kind of plugins that a configuration gives a `guestURL`.
#[derive(Default)]
pub struct SchedulerPlugins {
    /// It ends with its last plugin.
    sandbox: Mutex<Weak<Sandbox>>,
}

/// What all plugins share.
struct Sandbox {
    engine: Engine,
    ticker: Arc<Ticker>,
    metrics: Metrics,
}

impl SchedulerPlugins {
    fn sandbox(&self, place: &Place) -> Result<Arc<Sandbox>, String> {
        let mut known = self.sandbox.lock();
        if let Some(sandbox) = known.upgrade() {
            return Ok(sandbox);
        }
        let engine = module::engine().map_err(|error| format!("the Wasm engine does not start: {error:#}"))?;
        let ticker = Arc::new(Ticker::start(engine.clone(), &place.tasks));
        let sandbox = Arc::new(Sandbox { engine, ticker, metrics: Metrics::register(&place.metrics) });
        *known = Arc::downgrade(&sandbox);
        Ok(sandbox)
    }
}

impl Plugins for SchedulerPlugins {
    fn claims(&self, args: &Value) -> bool {
        arguments::claims(args)
    }

    fn points(&self) -> &'static [Point] {
        use Point::{Bind, Filter, Permit, PostBind, PostFilter, PreBind, PreFilter, PreScore, Reserve, Score};
        &[PreFilter, Filter, PostFilter, PreScore, Score, Reserve, Permit, PreBind, Bind, PostBind]
    }

    fn make(&self, name: &str, args: &Value, place: Place) -> Result<Box<dyn Plugin>, String> {
        let arguments = Arguments::read(args).map_err(|error| error.to_string())?;
        let sandbox = self.sandbox(&place)?;
        let Place { clock, tasks, notices, .. } = place;
        let (nodes, said, waiting) = (Mutex::default(), Mutex::default(), Waiting::default());
        let about = Arc::new(About { name: name.to_owned(), arguments, nodes, waiting, notices, clock, said });
        let guest = Arc::new(Guest::new(about, sandbox.ticker.clone(), sandbox.metrics.of(name)));
        let keeper = Keeper::new(guest.clone(), sandbox.engine.clone());
        tasks.spawn("wasm-plugin", async move {
            let _sandbox = sandbox;
            keeper.run().await;
        });
        Ok(Box::new(WasmPlugin::new(guest)))
    }
}
