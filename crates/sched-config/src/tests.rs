//! Configurations, what becomes of them, and what kube-scheduler says about those that are none.

mod invalid;
mod plugins;
mod properties;

use crate::{
    Catalogue, Configuration, Gates, GoDuration, KubeSchedulerConfiguration, default, read, v1::Args, validate, write,
};

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

/// A configuration of these lines, read and validated, or the first thing that is wrong with it.
fn parsed(lines: &str, gates: &Gates) -> Result<KubeSchedulerConfiguration, String> {
    let configuration = read(format!("{HEAD}{lines}").as_bytes(), gates).map_err(|error| error.to_string())?;
    validate(&configuration, gates).map_err(|errors| errors.to_string())?;
    Ok(configuration)
}

fn resolved(lines: &str, gates: &Gates, catalogue: &Catalogue) -> Result<Configuration, String> {
    let configuration = parsed(lines, gates)?;
    Configuration::new(&configuration, GoDuration::seconds(300), gates, catalogue).map_err(|error| error.to_string())
}

#[test]
fn nothing_but_the_kind_is_the_default() {
    let gates = Gates::default();
    let of_nothing = parsed("", &gates).unwrap();
    assert_eq!(of_nothing, default(&gates));
    assert_eq!(parsed("profiles: []\nextenders: null\n", &gates).unwrap(), of_nothing);
    assert_eq!((of_nothing.parallelism, of_nothing.enable_contention_profiling), (16, Some(true)));
    assert_eq!(of_nothing.profiles[0].scheduler_name.as_deref(), Some("default-scheduler"));
    let election = &of_nothing.leader_election;
    assert_eq!(
        (election.resource_namespace.as_str(), election.lease_duration),
        ("kube-system", GoDuration::seconds(15))
    );
}

#[test]
fn json_is_read_as_well() {
    let json = r#" {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
                    "parallelism": 3, "clientConnection": {"qps": 7.5}}"#;
    let configuration = read(json.as_bytes(), &Gates::default()).unwrap();
    assert_eq!((configuration.parallelism, configuration.client_connection.qps), (3, 7.5));
}

#[test]
fn every_field_is_read() {
    let text = "\
parallelism: 4
leaderElection: {leaderElect: false, leaseDuration: 1m, renewDeadline: 40s, retryPeriod: 5s, resourceLock: leases, \
                resourceName: sched, resourceNamespace: space}
clientConnection: {kubeconfig: /k, acceptContentTypes: a, contentType: application/json, qps: 1000, burst: 2000}
enableProfiling: false
percentageOfNodesToScore: 40
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
delayCacheUntilActive: true
profiles:
- schedulerName: one
  percentageOfNodesToScore: 0
  pluginConfig:
  - {name: DefaultPreemption, args: {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 7}}
  - {name: InterPodAffinity, args: {hardPodAffinityWeight: 0, ignorePreferredTermsOfExistingPods: true}}
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]
  - {name: NodeResourcesBalancedAllocation, args: {resources: [{name: cpu}]}}
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      ignoredResources: [example.com/a]
      ignoredResourceGroups: [example.com]
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: cpu, weight: 3}, {name: example.com/g}]
        requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
  - {name: VolumeBinding, args: {bindTimeoutSeconds: 9}}
  - {name: DynamicResources, args: {filterTimeout: 0s, bindingTimeout: 1m30s}}
  - {name: Talkative, args: {anything: [1, {goes: here}]}}
extenders:
- urlPrefix: http://127.0.0.1:1/x
  filterVerb: f
  preemptVerb: p
  prioritizeVerb: s
  weight: 5
  bindVerb: b
  enableHTTPS: true
  tlsConfig: {insecure: true, serverName: host, certFile: c, keyFile: k, caFile: a, certData: YQ==, keyData: Yg==, caData: Yw==}
  httpTimeout: 2s
  nodeCacheCapable: true
  managedResources: [{name: example.com/g, ignoredByScheduler: true}]
  ignorable: true
- {urlPrefix: http://second}
";
    let gates = Gates::default();
    let all = resolved(text, &gates, &Catalogue::in_tree()).unwrap();
    let args = &all.profiles[0].args;
    assert_eq!((all.parallelism, all.percentage_of_nodes_to_score), (4, 40));
    assert_eq!((all.enable_profiling, all.enable_contention_profiling), (false, false));
    assert_eq!((all.pod_initial_backoff, all.pod_max_backoff), (GoDuration::seconds(2), GoDuration::seconds(20)));
    assert_eq!((all.profiles[0].percentage_of_nodes_to_score, all.delay_cache_until_active), (Some(0), true));
    assert_eq!(
        (args.default_preemption.min_candidate_nodes_percentage, args.volume_binding.bind_timeout_seconds),
        (0, 9)
    );
    assert!(
        args.inter_pod_affinity.ignore_preferred_terms_of_existing_pods && args.node_affinity.added_affinity.is_some()
    );
    assert_eq!(args.node_resources_balanced_allocation.resources[0].weight, 1);
    assert_eq!(args.dynamic_resources.binding_timeout, Some(GoDuration::seconds(90)));
    assert_eq!(args.pod_topology_spread.default_constraints[0].max_skew, 2);
    assert!(args.other["Talkative"].get("anything").is_some());
    // What an extender looks after takes the place of what the plugin was told to ignore.
    assert_eq!(args.node_resources_fit.ignored_resources, ["example.com/g"]);
    assert_eq!(args.node_resources_fit.scoring_strategy.resources[1].weight, 1);
    // The one that can be ignored is asked last.
    assert_eq!((all.extenders[0].url_prefix.as_str(), all.extenders[1].ignorable), ("http://second", true));
    assert_eq!(all.extenders[1].tls_config.as_ref().unwrap().key_data.0, b"b");
    let parsed = parsed(text, &gates).unwrap();
    assert_eq!(read(write(&parsed).as_bytes(), &gates).unwrap(), parsed);
}

#[test]
fn gates_change_defaults() {
    let gates = Gates::parse(["StorageCapacityScoring=true,DRASchedulerFilterTimeout=false"]).unwrap();
    let configuration = parsed("", &gates).unwrap();
    let args = |name: &str| configuration.profiles[0].plugin_config.iter().find(|config| config.name == name).unwrap();
    let Args::VolumeBinding(volumes) = &args("VolumeBinding").args else { panic!("{configuration:?}") };
    assert_eq!(volumes.shape.len(), 2);
    let Args::DynamicResources(devices) = &args("DynamicResources").args else { panic!("{configuration:?}") };
    assert_eq!((devices.filter_timeout, devices.binding_timeout), (None, Some(GoDuration::seconds(600))));
}

#[test]
fn a_configuration_is_written_as_kubernetes_does() {
    let text = write(
        &parsed(
            "profiles: [{plugins: {multiPoint: {disabled: [{name: '*'}], enabled: [{name: A}]}}}]\n",
            &Gates::default(),
        )
        .unwrap(),
    );
    let expected = "\
apiVersion: kubescheduler.config.k8s.io/v1
clientConnection:
  acceptContentTypes: \"\"
  burst: 100
  contentType: application/vnd.kubernetes.protobuf
  kubeconfig: \"\"
  qps: 50
enableContentionProfiling: true
enableProfiling: true
kind: KubeSchedulerConfiguration
leaderElection:
  leaderElect: true
  leaseDuration: 15s
  renewDeadline: 10s
  resourceLock: leases
  resourceName: kube-scheduler
  resourceNamespace: kube-system
  retryPeriod: 2s
parallelism: 16
percentageOfNodesToScore: 0
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 10
profiles:
- plugins:
    bind: {}
    filter: {}
    multiPoint:
      disabled:
      - name: '*'
        weight: 0
      enabled:
      - name: A
        weight: 0
    permit: {}
    placementGenerate: {}
    placementScore: {}
    postBind: {}
    postFilter: {}
    preBind: {}
    preEnqueue: {}
    preFilter: {}
    preScore: {}
    queueSort: {}
    reserve: {}
    score: {}
  schedulerName: default-scheduler
";
    assert_eq!(text, expected);
}
