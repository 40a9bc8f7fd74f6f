//! Wasm plugins for the scheduler: modules that filter, score and reserve, loaded and replaced while it runs, and cut off when
//! they trap, loop, take too much or answer nonsense.
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
//! | `prescore` | `() -> i32` | |
//! | `score` | `() -> i64` | the score, 0 to 100, in the upper half, a status code in the lower |
//! | `reserve`, `unreserve` | `() -> i32`, `()` | for this very pod and a node |
//!
//! Status codes are 0 success, 1 error, 2 unschedulable, 3 unschedulable and unresolvable, 5 skip (`prefilter` and `prescore`);
//! `result.status_reason` gives the words. Pods and nodes are protobuf messages with the fields that the engine keeps
//! (`objects.rs`); `imports.rs` lists the functions, `wasi.rs` what there is of WASI.
//!
//! What differs from kube-scheduler-wasm-extension:
//! - `postfilter`, `addpod`, `removepod`, `normalizescore`, `permit`, `prebind`, `bind` and `postbind` are never called; a log line
//!   says so when a module that exports them is loaded. Scores must be 0 to 100 as they are.
//! - A node is filtered and scored before the next one is, and answers are kept until the node changes. `filteredNodeList` names
//!   all nodes.
//! - `nodeImageStates` knows the node that is asked about. No pod ever waits for a permit. An event is always about the pod in
//!   question.
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
mod objects;
mod plugin;
mod source;
mod standing;
mod ticker;
mod wasi;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sched::framework::Plugin;
use sched_config::{Point, Value};
use scheduler::{Place, Plugins};
use wasmtime::Engine;

use crate::{
    arguments::Arguments, guest::Guest, host::About, keeper::Keeper, metrics::Metrics, plugin::WasmPlugin,
    ticker::Ticker,
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
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score, Point::Reserve]
    }

    fn make(&self, name: &str, args: &Value, place: Place) -> Result<Box<dyn Plugin>, String> {
        let arguments = Arguments::read(args).map_err(|error| error.to_string())?;
        let sandbox = self.sandbox(&place)?;
        let Place { clock, tasks, notices, .. } = place;
        let (nodes, said) = (Mutex::default(), Mutex::default());
        let about = Arc::new(About { name: name.to_owned(), arguments, nodes, notices, clock, said });
        let guest = Arc::new(Guest::new(about, sandbox.ticker.clone(), sandbox.metrics.of(name)));
        let keeper = Keeper::new(guest.clone(), sandbox.engine.clone());
        tasks.spawn("wasm-plugin", async move {
            let _sandbox = sandbox;
            keeper.run().await;
        });
        Ok(Box::new(WasmPlugin::new(guest)))
    }
}
