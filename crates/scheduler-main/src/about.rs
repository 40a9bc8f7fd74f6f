//! What metrics tell of the program itself: which version it is, and which features are on.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};
use sched_config::Gates;
use telemetry::Metrics;

use crate::help::{COMPATIBLE, KUBERNETES, MAJOR_MINOR};

/// What Kubernetes' components tell; what only a Go program has is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    major: &'static str,
    minor: &'static str,
    git_version: String,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeatureLabels {
    name: &'static str,
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    component: &'static str,
    binary: &'static str,
    emulation: String,
    min_compat: &'static str,
}

/// Registers all of it.
pub fn register(metrics: &Metrics, gates: &Gates) {
    let (major, minor) = MAJOR_MINOR;
    let built = Family::<BuildLabels, Gauge>::default();
    let labels = BuildLabels {
        major,
        minor,
        // The part after the plus sign tells ours from a real one, and compares as nothing.
        git_version: format!("{KUBERNETES}+plinth-{}", env!("CARGO_PKG_VERSION")),
        git_commit: "",
        git_tree_state: "",
        build_date: "",
        go_version: "",
        compiler: "rustc",
        platform: platform(),
    };
    built.get_or_create(&labels).set(1);
    let version = Family::<VersionLabels, Gauge>::default();
    let labels = VersionLabels {
        component: "kube",
        binary: KUBERNETES.trim_start_matches('v'),
        emulation: format!("{major}.{minor}"),
        min_compat: COMPATIBLE,
    };
    version.get_or_create(&labels).set(1);
    let features = Family::<FeatureLabels, Gauge>::default();
    for (name, stage, on) in gates.all() {
        features.get_or_create(&FeatureLabels { name, stage }).set(on.into());
    }
    metrics.register(|registry| {
        let help = "The version of Kubernetes that this stands in for, and of Plinth";
        registry.register("kubernetes_build_info", help, built);
        registry.register("version_info", "The version of Kubernetes whose behaviour this has", version);
        let help = "1: a feature of Kubernetes is on; the stage of one that is generally available is empty";
        registry.register("kubernetes_feature_enabled", help, features);
    });
}

/// As Go names it.
fn platform() -> String {
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{processor}", std::env::consts::OS)
}
