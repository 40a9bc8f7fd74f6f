//! Feature gates of Kubernetes v1.36: which there are, what they are without a word, and what `--feature-gates` makes of
//! them. What a gate does is the business of who asks for it.

mod table;

use std::collections::BTreeMap;

use crate::field::Aggregate;

/// Pods that are bound only together, and the preemption that goes with them.
pub const GENERIC_WORKLOAD: &str = "GenericWorkload";
pub const GANG_SCHEDULING: &str = "GangScheduling";
pub const WORKLOAD_AWARE_PREEMPTION: &str = "WorkloadAwarePreemption";
pub const TOPOLOGY_AWARE_WORKLOAD_SCHEDULING: &str = "TopologyAwareWorkloadScheduling";
pub const NODE_DECLARED_FEATURES: &str = "NodeDeclaredFeatures";
pub const DYNAMIC_RESOURCE_ALLOCATION: &str = "DynamicResourceAllocation";
pub const DRA_SCHEDULER_FILTER_TIMEOUT: &str = "DRASchedulerFilterTimeout";
pub const DRA_DEVICE_BINDING_CONDITIONS: &str = "DRADeviceBindingConditions";
pub const DRA_RESOURCE_CLAIM_DEVICE_STATUS: &str = "DRAResourceClaimDeviceStatus";
pub const DRA_ADMIN_ACCESS: &str = "DRAAdminAccess";
pub const DRA_PRIORITIZED_LIST: &str = "DRAPrioritizedList";
pub const DRA_PARTITIONABLE_DEVICES: &str = "DRAPartitionableDevices";
pub const DRA_DEVICE_TAINTS: &str = "DRADeviceTaints";
pub const DRA_CONSUMABLE_CAPACITY: &str = "DRAConsumableCapacity";
pub const DRA_LIST_TYPE_ATTRIBUTES: &str = "DRAListTypeAttributes";
pub const DRA_EXTENDED_RESOURCE: &str = "DRAExtendedResource";
pub const STORAGE_CAPACITY_SCORING: &str = "StorageCapacityScoring";
pub const SCHEDULER_ASYNC_PREEMPTION: &str = "SchedulerAsyncPreemption";
pub const SCHEDULER_ASYNC_API_CALLS: &str = "SchedulerAsyncAPICalls";
pub const SCHEDULER_QUEUEING_HINTS: &str = "SchedulerQueueingHints";
pub const SCHEDULER_POP_FROM_BACKOFF_Q: &str = "SchedulerPopFromBackoffQ";
pub const NOMINATED_NODE_NAME_FOR_EXPECTATION: &str = "NominatedNodeNameForExpectation";
pub const OPPORTUNISTIC_BATCHING: &str = "OpportunisticBatching";
pub const TAINT_TOLERATION_COMPARISON_OPERATORS: &str = "TaintTolerationComparisonOperators";
pub const POD_LEVEL_RESOURCES: &str = "PodLevelResources";
pub const IN_PLACE_POD_VERTICAL_SCALING: &str = "InPlacePodVerticalScaling";

/// Gates that stand for all of a stage that are not named themselves.
const ALL_ALPHA: &str = "AllAlpha";
const ALL_BETA: &str = "AllBeta";
/// The component whose gates these are, when a flag names one.
const COMPONENT: &str = "kube";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
    Ga,
    Deprecated,
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    name: &'static str,
    stage: Stage,
    default: bool,
    /// It cannot be set to anything else.
    locked: bool,
}

/// Why a flag's value is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error("missing bool value for {0}")]
    NoValue(String),
    #[error("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")]
    NotBool { name: String, value: String },
    #[error("component not registered: {0}")]
    Component(String),
    #[error("set kube feature gates with default empty prefix or kube: prefix consistently, do not mix use")]
    Mixed,
    #[error(transparent)]
    Refused(#[from] Aggregate),
}

/// Which gates are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// Those that are not as they are without a word.
    set: BTreeMap<&'static str, bool>,
}

impl Gates {
    /// Reads values of the flag: `GangScheduling=true,kube:AllBeta=false`.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, GateError> {
        let mut given = BTreeMap::new();
        let (mut named, mut unnamed) = (false, false);
        for pair in values.into_iter().flat_map(|value| value.split(',')).filter(|pair| !pair.is_empty()) {
            let pair = match pair.split_once(':') {
                Some((component, rest)) if component.trim() == COMPONENT => {
                    named = true;
                    rest
                }
                Some((component, _)) => return Err(GateError::Component(component.trim().to_owned())),
                None => {
                    unnamed = true;
                    pair
                }
            };
            let Some((name, value)) = pair.split_once('=') else {
                return Err(GateError::NoValue(pair.trim().to_owned()));
            };
            let (name, value) = (name.trim(), value.trim());
            let on =
                go_bool(value).ok_or_else(|| GateError::NotBool { name: name.to_owned(), value: value.to_owned() })?;
            given.insert(name, on);
        }
        if named && unnamed {
            return Err(GateError::Mixed);
        }
        Ok(Gates::set(&given)?)
    }

    /// Whether a gate is on. One that Kubernetes does not have is not.
    pub fn enabled(&self, name: &str) -> bool {
        self.set.get(name).copied().unwrap_or_else(|| find(name).is_some_and(|gate| gate.default))
    }

    /// All gates with their stages as Kubernetes' metrics have them, and whether they are on.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        table::GATES.iter().map(|gate| {
            let stage = match gate.stage {
                Stage::Alpha => "ALPHA",
                Stage::Beta => "BETA",
                Stage::Ga => "",
                Stage::Deprecated => "DEPRECATED",
            };
            (gate.name, stage, self.enabled(gate.name))
        })
    }

    /// What can be set, for the flag's help.
    pub fn help() -> impl Iterator<Item = String> {
        let all = [(ALL_ALPHA, "ALPHA", false), (ALL_BETA, "BETA", false)].into_iter();
        let gates = table::GATES.iter().filter_map(|gate| match gate.stage {
            Stage::Alpha => Some((gate.name, "ALPHA", gate.default)),
            Stage::Beta => Some((gate.name, "BETA", gate.default)),
            Stage::Ga | Stage::Deprecated => None,
        });
        all.chain(gates)
            .map(|(name, stage, default)| format!("{COMPONENT}:{name}=true|false ({stage} - default={default})"))
    }

    fn set(given: &BTreeMap<&str, bool>) -> Result<Self, Aggregate> {
        let mut errors = Vec::new();
        let mut gates = Gates::default();
        for (name, on) in given {
            match find(name) {
                Some(gate) if gate.locked && gate.default != *on => errors
                    .push(format!("cannot set feature gate {name} to {on}, feature is locked to {}", gate.default)),
                Some(gate) => {
                    gates.set.insert(gate.name, *on);
                }
                None if [ALL_ALPHA, ALL_BETA].contains(name) => {}
                None => errors.push(format!("unrecognized feature gate: {name}")),
            }
        }
        for (all, stage) in [(ALL_ALPHA, Stage::Alpha), (ALL_BETA, Stage::Beta)] {
            let Some(on) = given.get(all) else { continue };
            for gate in table::GATES.iter().filter(|gate| gate.stage == stage) {
                gates.set.entry(gate.name).or_insert(*on);
            }
        }
        if errors.is_empty() {
            errors.extend(table::DEPENDENCIES.iter().filter_map(|(name, needed)| gates.lacking(name, needed)));
        }
        if errors.is_empty() { Ok(gates) } else { Err(Aggregate(errors)) }
    }

    fn lacking(&self, name: &str, needed: &[&str]) -> Option<String> {
        let lacking: Vec<&str> = needed.iter().copied().filter(|needed| !self.enabled(needed)).collect();
        let told = format!("{name} is enabled, but depends on features that are disabled: [{}]", lacking.join(" "));
        (self.enabled(name) && !lacking.is_empty()).then_some(told)
    }
}

fn find(name: &str) -> Option<&'static Gate> {
    let at = table::GATES.binary_search_by(|gate| gate.name.cmp(name)).ok()?;
    table::GATES.get(at)
}

/// What Go's `strconv.ParseBool` takes.
pub(crate) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_found_by_name() {
        assert!(table::GATES.is_sorted_by_key(|gate| gate.name));
        for (name, needed) in table::DEPENDENCIES {
            assert!(find(name).is_some(), "{name}");
            assert!(needed.iter().all(|needed| find(needed).is_some()), "{name}: {needed:?}");
        }
        assert!(table::DEPENDENCIES.iter().all(|(name, needed)| Gates::default().lacking(name, needed).is_none()));
    }

    #[test]
    fn the_flag_is_read_as_kubernetes_does() {
        let check = |values: &[&str], expected: Result<&[(&str, bool)], &str>| match (
            Gates::parse(values.iter().copied()),
            expected,
        ) {
            (Ok(gates), Ok(expected)) => {
                for (name, on) in expected {
                    assert_eq!(gates.enabled(name), *on, "{values:?}: {name}");
                }
            }
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected, "{values:?}"),
            (found, expected) => panic!("{values:?}: {found:?} instead of {expected:?}"),
        };
        check(&[], Ok(&[(GANG_SCHEDULING, false), (SCHEDULER_ASYNC_PREEMPTION, true), ("Nothing", false)]));
        check(&["GenericWorkload=true,GangScheduling=true"], Ok(&[(GANG_SCHEDULING, true)]));
        check(&["kube:GenericWorkload=true", "kube:GangScheduling=T"], Ok(&[(GANG_SCHEDULING, true)]));
        check(
            &["GangScheduling=true"],
            Err("GangScheduling is enabled, but depends on features that are disabled: [GenericWorkload]"),
        );
        check(&["OpportunisticBatching=false"], Ok(&[(OPPORTUNISTIC_BATCHING, false)]));
        check(
            &["DynamicResourceAllocation=false"],
            Err("cannot set feature gate DynamicResourceAllocation to false, feature is locked to true"),
        );
        check(&["DynamicResourceAllocation=true"], Ok(&[(DYNAMIC_RESOURCE_ALLOCATION, true)]));
        check(&["Nothing=true"], Err("unrecognized feature gate: Nothing"));
        check(&["GenericWorkload"], Err("missing bool value for GenericWorkload"));
        check(
            &["GenericWorkload=maybe"],
            Err("invalid value of GenericWorkload=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax"),
        );
        check(&["wardle:A=true"], Err("component not registered: wardle"));
        check(
            &["kube:GenericWorkload=true,GangScheduling=true"],
            Err("set kube feature gates with default empty prefix or kube: prefix consistently, do not mix use"),
        );
        check(
            &["AllAlpha=true,GangScheduling=false,WorkloadAwarePreemption=false"],
            Ok(&[(GENERIC_WORKLOAD, true), (GANG_SCHEDULING, false)]),
        );
    }
}
