//! Figures of plugins: their faults, the time of their calls, and how their modules were loaded.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
};

use crate::{fault::Fault, module::Export};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    plugin: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    plugin: String,
    export: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    plugin: String,
    result: &'static str,
}

#[derive(Clone)]
pub(crate) struct Metrics {
    faults: Family<FaultLabels, Counter>,
    calls: Family<CallLabels, Histogram>,
    loads: Family<LoadLabels, Counter>,
}

/// Those of one plugin.
pub(crate) struct OfPlugin {
    plugin: String,
    all: Metrics,
    /// By export: they are wanted at every call.
    calls: [Histogram; Export::ALL.len()],
}

impl Metrics {
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        let own = Metrics {
            faults: Family::default(),
            calls: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_001, 4.0, 11))),
            loads: Family::default(),
        };
        let all = own.clone();
        metrics.register(|registry| {
            let help = "Calls of Wasm plugins that were cut off, by plugin and kind";
            registry.register("scheduler_wasm_faults", help, all.faults);
            let help = "Duration of calls of Wasm plugins, by plugin and export";
            registry.register("scheduler_wasm_call_duration_seconds", help, all.calls);
            let help = "Modules of Wasm plugins that were loaded, or failed to load";
            registry.register("scheduler_wasm_loads", help, all.loads);
        });
        own
    }

    pub fn of(&self, plugin: &str) -> OfPlugin {
        let calls = Export::ALL.map(|export| {
            let labels = CallLabels { plugin: plugin.to_owned(), export: export.name() };
            self.calls.get_or_create(&labels).clone()
        });
        OfPlugin { plugin: plugin.to_owned(), all: self.clone(), calls }
    }
}

impl OfPlugin {
    pub fn fault(&self, fault: &Fault) {
        let labels = FaultLabels { plugin: self.plugin.clone(), kind: fault.kind() };
        self.all.faults.get_or_create(&labels).inc();
    }

    pub fn call(&self, export: Export, seconds: f64) {
        self.calls[export as usize].observe(seconds);
    }

    pub fn load(&self, loaded: bool) {
        let result = if loaded { "loaded" } else { "failed" };
        self.all.loads.get_or_create(&LoadLabels { plugin: self.plugin.clone(), result }).inc();
    }
}
