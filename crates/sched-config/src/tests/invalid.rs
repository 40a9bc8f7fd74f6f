//! What is wrong with a configuration, in Kubernetes' words.

use super::parsed;
use crate::{Gates, MAX_BYTES, read};

/// The whole document is `text`.
fn check_document(text: &str, expected: &str) {
    let error = read(text.as_bytes(), &Gates::default()).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{text}: {error}");
}

#[test]
fn other_documents_are_refused() {
    check_document("", "Object 'Kind' is missing in ''");
    check_document("parallelism: 1", "Object 'Kind' is missing in 'parallelism: 1'");
    check_document("kind: KubeSchedulerConfiguration", "Object 'apiVersion' is missing in 'kind: Kube");
    check_document("apiVersion: v1\nkind: Pod", "no kind \"Pod\" is registered for version \"v1\"");
    check_document(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: NodeAffinityArgs",
        "couldn't decode as KubeSchedulerConfiguration, got kubescheduler.config.k8s.io/v1, Kind=NodeAffinityArgs: ",
    );
    check_document("{", "json: ");
    check_document("a: [", "yaml: ");
    check_document(&" ".repeat(MAX_BYTES + 1), "the document has more than");
    check_document(&format!("a: {}", "[".repeat(1000)), "yaml: ");
    check_document(&format!("{{\"a\": {}", "[".repeat(1000)), "json: recursion limit exceeded");
    let bomb = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
    check_document(bomb, "yaml: ");
}

/// The document has these lines besides its kind.
fn check(lines: &str, expected: &str) {
    assert_eq!(parsed(lines, &Gates::default()).unwrap_err(), expected, "{lines}");
}

#[test]
fn fields_are_read_strictly() {
    check("foo: 1", "strict decoding error: unknown field \"foo\"");
    check(
        "profiles: [{plugins: {score: {enabled: [{name: A, wait: 1}]}}, x: {}}]",
        "strict decoding error: unknown field \"profiles[0].plugins.score.enabled[0].wait\", unknown field \
         \"profiles[0].x\"",
    );
    check(
        "parallelism: 1\nparallelism: 2",
        "strict decoding error: yaml: unmarshal errors:\n  line 4: key \"parallelism\" \
         already set in map",
    );
    check(
        "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {foo: 1}}]}]",
        "strict decoding error: decoding .profiles[0].pluginConfig[0]: strict decoding error: decoding args for plugin \
         NodeResourcesFit: strict decoding error: unknown field \"foo\"",
    );
    check(
        "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultConstraints: [{maxSkou: 1}]}}]}]",
        "strict decoding error: decoding .profiles[0].pluginConfig[0]: strict decoding error: decoding args for plugin \
         PodTopologySpread: strict decoding error: unknown field \"defaultConstraints[0].maxSkou\"",
    );
    let json = r#"{"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
                   "leaderElection": {"resourceName": "a", "resourceName": "b"}}"#;
    check_document(json, "strict decoding error: duplicate field \"leaderElection.resourceName\"");
}

#[test]
fn values_have_their_fields_types() {
    let go = |what: &str, field: &str, of: &str| {
        format!("json: cannot unmarshal {what} into Go struct field {field} of type {of}")
    };
    check("parallelism: x", &go("string", "KubeSchedulerConfiguration.parallelism", "int32"));
    check("parallelism: 1.5", &go("number 1.5", "KubeSchedulerConfiguration.parallelism", "int32"));
    check("parallelism: 3000000000", &go("number 3000000000", "KubeSchedulerConfiguration.parallelism", "int32"));
    check("profiles: {}", &go("object", "KubeSchedulerConfiguration.profiles", "[]v1.KubeSchedulerProfile"));
    check("profiles: [{schedulerName: 1}]", &go("number", "KubeSchedulerProfile.profiles.schedulerName", "string"));
    check(
        "leaderElection: 1",
        &go("number", "KubeSchedulerConfiguration.leaderElection", "v1.LeaderElectionConfiguration"),
    );
    check("enableProfiling: 1", &go("number", "KubeSchedulerConfiguration.enableProfiling", "bool"));
    check(
        "leaderElection: {leaseDuration: 5}",
        &go("number", "LeaderElectionConfiguration.leaderElection.leaseDuration", "string"),
    );
    check("leaderElection: {leaseDuration: 5x}", "time: unknown unit \"x\" in duration \"5x\"");
    check("extenders: [{tlsConfig: {caData: '?'}}]", "illegal base64 data at input byte 0");
    check(
        "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {kind: VolumeBindingArgs}}]}]",
        "decoding .profiles[0].pluginConfig[0]: args for plugin NodeResourcesFit were not of type \
         NodeResourcesFitArgs.kubescheduler.config.k8s.io, got VolumeBindingArgs.kubescheduler.config.k8s.io",
    );
    check(
        "profiles: [{pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: soon}}]}]",
        "decoding .profiles[0].pluginConfig[0]: decoding args for plugin VolumeBinding: json: cannot unmarshal string \
         into Go struct field VolumeBindingArgs.bindTimeoutSeconds of type int64",
    );
}

#[test]
fn values_obey_kubernetes_rules() {
    check("parallelism: 0", "parallelism: Invalid value: 0: should be an integer value greater than zero");
    check("percentageOfNodesToScore: 101", "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]");
    check("podInitialBackoffSeconds: 0", "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0");
    check(
        "podInitialBackoffSeconds: 5\npodMaxBackoffSeconds: 4\nclientConnection: {burst: -1}",
        "[clientConnection.burst: Invalid value: -1: must be non-negative, podMaxBackoffSeconds: Invalid value: 4: must \
         be greater than or equal to PodInitialBackoffSeconds]",
    );
    check(
        "leaderElection: {leaseDuration: 5s, resourceLock: endpoints, retryPeriod: -1s}",
        "[leaderElection.retryPeriod: Invalid value: \"-1s\": must be greater than zero, leaderElection.leaseDuration: \
         Invalid value: \"10s\": must be greater than `RenewDeadline`, leaderElection.resourceLock: Invalid value: \
         \"endpoints\": resourceLock value must be \"leases\"]",
    );
    check(
        "profiles: [{schedulerName: a}, {}, {schedulerName: a, percentageOfNodesToScore: -1}]",
        "[profiles[1].schedulerName: Required value, profiles[2].percentageOfNodesToScore: Invalid value: -1: not in \
         valid range [0-100], profiles[2].schedulerName: Duplicate value: {}]",
    );
    check(
        "profiles: [{plugins: {filter: {enabled: [{name: EBSLimits}]}}}]",
        "profiles[0].plugins.filter.enabled[0]: Invalid value: \"EBSLimits\": was invalid in version \"v1\" \
         (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")",
    );
    check("profiles: [{pluginConfig: [{name: A}, {name: A}]}]", "profiles[0].pluginConfig[1]: Duplicate value: \"A\"");
    check(
        "profiles: [{schedulerName: a}, {schedulerName: b, plugins: {queueSort: {enabled: [{name: Q}], disabled: [{name: '*'}]}}}]",
        "profiles[1].plugins.queueSort: Invalid value: {\"Enabled\":[{\"Name\":\"Q\",\"Weight\":0}],\"Disabled\":\
         [{\"Name\":\"*\",\"Weight\":0}]}: must be the same for all profiles",
    );
}

#[test]
fn extenders_obey_kubernetes_rules() {
    check(
        "extenders: [{prioritizeVerb: p, bindVerb: b}, {bindVerb: b}]",
        "[extenders[0].weight: Invalid value: 0: must have a positive weight applied to it, extenders: Invalid value: \
         \"found 2 extenders implementing bind\": only one extender can implement bind]",
    );
    check(
        "extenders: [{managedResources: [{name: example.com/a}, {name: cpu}]}, {managedResources: [{name: example.com/a}]}]",
        "[extenders[0].managedResources[1].name: Invalid value: \"cpu\": is an invalid extended resource name, \
         extenders[1].managedResources[0].name: Invalid value: \"example.com/a\": duplicate extender managed resource \
         name]",
    );
}

#[test]
fn arguments_obey_kubernetes_rules() {
    let check = |plugin: &str, args: &str, expected: &str| {
        let lines = format!("profiles: [{{pluginConfig: [{{name: {plugin}, args: {args}}}]}}]");
        let found = parsed(&lines, &Gates::default()).unwrap_err();
        assert_eq!(found.replace("profiles[0].pluginConfig[0].args.", ""), expected, "{plugin}: {args}");
    };
    check(
        "DefaultPreemption",
        "{minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}",
        "[minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as minCandidateNodesAbsolute, \
         minCandidateNodesAbsolute: Invalid value: 0: cannot be zero at the same time as minCandidateNodesPercentage]",
    );
    check(
        "InterPodAffinity",
        "{hardPodAffinityWeight: 101}",
        "hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
    );
    check(
        "NodeResourcesBalancedAllocation",
        "{resources: [{name: a, weight: 2}]}",
        "resources[0].weight: Invalid value: 2: must be 1",
    );
    check(
        "VolumeBinding",
        "{bindTimeoutSeconds: -1}",
        "bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value",
    );
    check(
        "VolumeBinding",
        "{shape: [{utilization: 1, score: 2}]}",
        "shape: Invalid value: [{\"Utilization\":1,\"Score\":2}]: unexpected field `shape`, remove it or turn on the \
         feature gate StorageCapacityScoring",
    );
    check(
        "DynamicResources",
        "{bindingTimeout: 10ms}",
        "bindingTimeout: Invalid value: \"10ms\": must be at least 1 second",
    );
    check(
        "PodTopologySpread",
        "{defaultConstraints: [{maxSkew: 0, topologyKey: '', whenUnsatisfiable: Never, labelSelector: {}}]}",
        "[defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty, \
         defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf), \
         defaultConstraints[0].topologyKey: Required value: can not be empty, defaultConstraints[0].whenUnsatisfiable: \
         Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\", \
         defaultConstraints[0].labelSelector: Forbidden: constraint must not define a selector, as they deduced for \
         each pod]",
    );
    check(
        "NodeAffinity",
        "{addedAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: \
         [{key: k, operator: Gt, values: [x]}], matchFields: [{key: f, operator: Exists}]}}]}}",
        "[addedAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].matchExpressions[0].values[0]: Invalid value: \
         \"x\": for 'Gt', 'Lt' operators, the value must be an integer, \
         addedAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].matchFields[0].operator: Unsupported value: \
         \"Exists\": supported values: \"In\", \"NotIn\"]",
    );
}
