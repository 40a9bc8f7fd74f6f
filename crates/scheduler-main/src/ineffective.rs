//! What a configuration may say and has no effect here, so that nobody counts on it: told in the log at the start.

use sched_config::{
    Configuration, Gates,
    v1::{ClientConnectionConfiguration, DynamicResourcesArgs},
};

/// Feature gates of kube-scheduler's that switch nothing here: what they bring is either always so or not there at all.
const GATES: [&str; 8] = [
    "NominatedNodeNameForExpectation",
    "OpportunisticBatching",
    "PodLevelResources",
    "SchedulerAsyncAPICalls",
    "SchedulerAsyncPreemption",
    "SchedulerPopFromBackoffQ",
    "TaintTolerationComparisonOperators",
    "WorkloadAwarePreemption",
];

/// The settings that were changed in vain, as sentences.
pub fn settings(configuration: &Configuration) -> Vec<String> {
    let usual = Gates::default();
    let changed = GATES.into_iter().filter(|gate| configuration.gates.enabled(gate) != usual.enabled(gate));
    let mut told: Vec<String> = changed.map(|gate| format!("feature gate {gate}")).collect();
    let (given, usual) = (&configuration.client_connection, ClientConnectionConfiguration::default());
    let connection = [
        ("qps", given.qps != usual.qps),
        ("burst", given.burst != usual.burst),
        ("contentType", given.content_type != usual.content_type),
        ("acceptContentTypes", given.accept_content_types != usual.accept_content_types),
    ];
    told.extend(connection.iter().filter(|(_, set)| *set).map(|(field, _)| format!("clientConnection.{field}")));
    for profile in &configuration.profiles {
        let (name, args) = (&profile.scheduler_name, &profile.args);
        let timeout = args.dynamic_resources.filter_timeout.unwrap_or(DynamicResourcesArgs::FILTER_TIMEOUT);
        let fields = [
            ("DynamicResources: filterTimeout", timeout != DynamicResourcesArgs::FILTER_TIMEOUT),
            ("VolumeBinding: shape", !args.volume_binding.shape.is_empty()),
        ];
        told.extend(fields.iter().filter(|(_, set)| *set).map(|(field, _)| format!("{field} (profile {name})")));
    }
    told.iter().map(|setting| format!("{setting} is known and has no effect")).collect()
}

#[cfg(test)]
mod tests {
    use sched_config::{Catalogue, GoDuration};

    use super::*;

    fn check(text: &str, gates: &[&str], expected: &[&str]) {
        let gates = Gates::parse(gates.iter().copied()).unwrap();
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        let document = sched_config::read(format!("{head}{text}").as_bytes(), &gates).unwrap();
        let unschedulable = GoDuration::seconds(300);
        let configuration = Configuration::new(&document, unschedulable, &gates, &Catalogue::in_tree()).unwrap();
        let told = settings(&configuration);
        let expected: Vec<String> =
            expected.iter().map(|setting| format!("{setting} is known and has no effect")).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_changed_in_vain_is_told() {
        check("", &[], &[]);
        check("clientConnection: {qps: 50, burst: 7}", &[], &["clientConnection.burst"]);
        check("", &["SchedulerAsyncPreemption=false"], &["feature gate SchedulerAsyncPreemption"]);
        let config = |timeout: &str| {
            let args = format!("{{name: DynamicResources, args: {{filterTimeout: {timeout}}}}}");
            format!("profiles: [{{schedulerName: one, pluginConfig: [{args}]}}]")
        };
        check(&config("10s"), &[], &[]);
        check(&config("3s"), &[], &["DynamicResources: filterTimeout (profile one)"]);
    }
}
