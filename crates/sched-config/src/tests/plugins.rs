//! Which plugins a profile ends up with.

use super::resolved;
use crate::{Catalogue, Enabling, Gates, Point};

/// The plugins of a profile at a point, as `Name` or `Name=weight`.
fn told(plugins: &Enabling, point: Point) -> String {
    let of = |enabled: &crate::Enabled| match enabled.weight {
        0 => enabled.name.clone(),
        weight => format!("{}={weight}", enabled.name),
    };
    plugins.at(point).iter().map(of).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_default_plugins_are_those_of_kubernetes() {
    let all = resolved("", &Gates::default(), &Catalogue::in_tree()).unwrap();
    let check = |point, expected: &str| assert_eq!(told(&all.profiles[0].plugins, point), expected, "{point}");
    check(Point::PreEnqueue, "SchedulingGates DynamicResources DefaultPreemption");
    check(Point::QueueSort, "PrioritySort");
    check(
        Point::PreFilter,
        "NodeAffinity NodePorts NodeResourcesFit VolumeRestrictions NodeVolumeLimits VolumeBinding VolumeZone \
         PodTopologySpread InterPodAffinity DynamicResources NodeDeclaredFeatures",
    );
    check(
        Point::Filter,
        "NodeUnschedulable NodeName TaintToleration NodeAffinity NodePorts NodeResourcesFit VolumeRestrictions \
         NodeVolumeLimits VolumeBinding VolumeZone PodTopologySpread InterPodAffinity DynamicResources \
         NodeDeclaredFeatures",
    );
    check(Point::PostFilter, "DynamicResources DefaultPreemption");
    check(
        Point::PreScore,
        "TaintToleration NodeAffinity NodeResourcesFit VolumeBinding PodTopologySpread InterPodAffinity \
         NodeResourcesBalancedAllocation",
    );
    check(
        Point::Score,
        "TaintToleration=3 NodeAffinity=2 NodeResourcesFit=1 VolumeBinding=1 PodTopologySpread=2 InterPodAffinity=2 \
         DynamicResources=2 NodeResourcesBalancedAllocation=1 ImageLocality=1",
    );
    check(Point::Reserve, "VolumeBinding DynamicResources");
    check(Point::Permit, "");
    check(Point::PreBind, "VolumeBinding DynamicResources");
    check(Point::Bind, "DefaultBinder");
    check(Point::PostBind, "");
    check(Point::PlacementGenerate, "");
    check(Point::PlacementScore, "NodeResourcesFit=1");
}

#[test]
fn gates_add_plugins() {
    let gates = "GenericWorkload=true,GangScheduling=true,TopologyAwareWorkloadScheduling=true";
    let gates = Gates::parse([gates]).unwrap();
    let all = resolved("", &gates, &Catalogue::in_tree()).unwrap();
    let check = |point, expected: &str| assert_eq!(told(&all.profiles[0].plugins, point), expected, "{point}");
    check(Point::PreEnqueue, "SchedulingGates DynamicResources DefaultPreemption GangScheduling");
    check(Point::Permit, "GangScheduling");
    check(Point::PlacementGenerate, "TopologyPlacementGenerator");
    check(Point::PlacementScore, "NodeResourcesFit=1 PodGroupPodsCount=1");
}

/// What `lines` below `plugins` make of a catalogue with two plugins more: `A` at PreFilter, Filter and Score, `B` at
/// Score.
fn check(lines: &str, point: Point, expected: Result<&str, &str>) {
    let mut catalogue = Catalogue::in_tree();
    assert!(catalogue.add("A", [Point::PreFilter, Point::Filter, Point::Score]) && catalogue.add("B", [Point::Score]));
    assert!(!catalogue.add("B", []), "the name is taken");
    let text = format!("profiles: [{{schedulerName: s, plugins: {lines}}}]\n");
    let result = resolved(&text, &Gates::default(), &catalogue).map(|all| told(&all.profiles[0].plugins, point));
    assert_eq!(result.as_deref().map_err(String::as_str), expected, "{lines}");
}

#[test]
fn plugins_are_enabled_and_disabled_as_in_kubernetes() {
    let minimal = "multiPoint: {disabled: [{name: '*'}], enabled: [{name: PrioritySort}, {name: DefaultBinder}";
    // A plugin for all points goes to those that it has, behind the default ones.
    check("{multiPoint: {enabled: [{name: A, weight: 4}]}}", Point::Permit, Ok(""));
    check(&format!("{{{minimal}, {{name: A, weight: 4}}]}}}}"), Point::Score, Ok("A=4"));
    check(&format!("{{{minimal}, {{name: A}}]}}}}"), Point::Filter, Ok("A"));
    // A default plugin that is enabled again keeps its place and gets the new weight.
    check(
        "{multiPoint: {enabled: [{name: ImageLocality, weight: 7}, {name: TaintToleration}]}}",
        Point::Score,
        Ok("TaintToleration=1 NodeAffinity=2 NodeResourcesFit=1 VolumeBinding=1 PodTopologySpread=2 \
            InterPodAffinity=2 DynamicResources=2 NodeResourcesBalancedAllocation=1 ImageLocality=7"),
    );
    // A point's own list comes first where it overrides, last where it adds; its weights win.
    check(
        &format!(
            "{{{minimal}, {{name: NodeAffinity, weight: 2}}, {{name: B, weight: 3}}]}}, \
                  score: {{enabled: [{{name: A}}, {{name: B, weight: 9}}]}}}}"
        ),
        Point::Score,
        Ok("B=9 NodeAffinity=2 A=1"),
    );
    check(
        &format!("{{{minimal}, {{name: A}}, {{name: B}}]}}, score: {{disabled: [{{name: A}}]}}}}"),
        Point::Score,
        Ok("B=1"),
    );
    check(
        &format!("{{{minimal}, {{name: A}}]}}, score: {{disabled: [{{name: '*'}}], enabled: [{{name: B}}]}}}}"),
        Point::Score,
        Ok("B=1"),
    );
    check(
        "{score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit, weight: 5}]}}",
        Point::Score,
        Ok("NodeResourcesFit=5"),
    );
    check("{multiPoint: {disabled: [{name: DefaultPreemption}]}}", Point::PostFilter, Ok("DynamicResources"));
}

#[test]
fn plugins_that_cannot_be_are_told_in_kube_schedulers_words() {
    let profile = "initializing profiles: creating profile for scheduler name s: ";
    let check = |lines: &str, expected: &str| check(lines, Point::Score, Err(&format!("{profile}{expected}")));
    check("{filter: {enabled: [{name: Nothing}]}}", "FilterPlugin \"Nothing\" does not exist");
    check("{multiPoint: {enabled: [{name: Nothing}]}}", "PreFilterPlugin \"Nothing\" does not exist");
    check("{filter: {enabled: [{name: B}]}}", "plugin \"B\" does not extend FilterPlugin plugin");
    check("{score: {enabled: [{name: B}, {name: B}]}}", "plugin \"B\" already registered as \"ScorePlugin\"");
    check("{multiPoint: {enabled: [{name: B}, {name: B}]}}", "plugin \"B\" already registered as \"ScorePlugin\"");
    check(
        "{queueSort: {disabled: [{name: '*'}]}}",
        "only one queue sort plugin required for profile with scheduler name \"s\", but got 0",
    );
    check(
        "{bind: {disabled: [{name: DefaultBinder}]}}",
        "at least one bind plugin is needed for profile with scheduler name \"s\"",
    );
}

#[test]
fn arguments_of_fit_are_checked_when_it_is_set_up() {
    let check = |args: &str, expected: &str| {
        let text =
            format!("profiles: [{{schedulerName: s, pluginConfig: [{{name: NodeResourcesFit, args: {args}}}]}}]\n");
        let error = resolved(&text, &Gates::default(), &Catalogue::in_tree()).unwrap_err();
        let before = "initializing profiles: creating profile for scheduler name s: initializing plugin \
                      \"NodeResourcesFit\": ";
        assert_eq!(error.strip_prefix(before), Some(expected), "{args}: {error}");
    };
    check(
        "{scoringStrategy: {type: Most}}",
        "scoringStrategy.type: Unsupported value: \"Most\": supported values: \"LeastAllocated\", \"MostAllocated\", \
         \"RequestedToCapacityRatio\"",
    );
    check(
        "{scoringStrategy: {resources: [{name: cpu, weight: 101}]}}",
        "scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range (0, 100]",
    );
    check(
        "{scoringStrategy: {type: RequestedToCapacityRatio}}",
        "scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is \
         RequestedToCapacityRatio",
    );
    check(
        "{scoringStrategy: {requestedToCapacityRatio: {shape: []}}}",
        "scoringStrategy.requestedToCapacityRatio: Forbidden: must be nil when type is not RequestedToCapacityRatio",
    );
    check(
        "{scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 5}, \
         {utilization: 5, score: 11}]}}}",
        "[scoringStrategy.requestedToCapacityRatio.shape[1].utilization: Invalid value: 5: values must be sorted in \
         increasing order, scoringStrategy.requestedToCapacityRatio.shape[1].score: Invalid value: 11: not in valid \
         range [0, 10]]",
    );
    check(
        "{ignoredResourceGroups: [a/b]}",
        "ignoredResourceGroups[0]: Invalid value: \"a/b\": resource group name can't contain '/'",
    );
}
