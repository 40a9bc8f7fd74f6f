//! The same command lines and configurations for ours and for a real kube-scheduler: what is refused is refused in the
//! same words, what is written is the same byte for byte.

use std::path::Path;

use crate::{
    refused::{self, REFUSED},
    scheduler::{last_words, ours, real, run},
};

/// Configurations, good and bad, without their heads.
const CONFIGURATIONS: [&str; 41] = [
    "",
    "parallelism: 3\npercentageOfNodesToScore: 7\nenableProfiling: false\n",
    "leaderElection: {leaderElect: false, leaseDuration: 90s}\n",
    "podInitialBackoffSeconds: 3\npodMaxBackoffSeconds: 30\ndelayCacheUntilActive: true\n",
    "clientConnection: {qps: 0.5, burst: 7, contentType: application/json}\n",
    "profiles: [{schedulerName: a}, {schedulerName: 'b: c', percentageOfNodesToScore: 0}]\n",
    "profiles: [{schedulerName: 'yes'}]\n",
    "profiles: [{schedulerName: '007'}]\n",
    "profiles: [{schedulerName: '*a'}]\n",
    "profiles: [{plugins: {score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit, weight: 5}]}}}]\n",
    "profiles: [{plugins: {multiPoint: {enabled: [{name: ImageLocality, weight: 7}], disabled: [{name: NodeName}]}}}]\n",
    "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {ignoredResources: [a.b/c], scoringStrategy: {type: \
     MostAllocated, resources: [{name: cpu}, {name: a.b/c, weight: 4}]}}}]}]\n",
    "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio, \
     requestedToCapacityRatio: {shape: [{utilization: 0, score: 10}, {utilization: 100, score: 0}]}}}}]}]\n",
    "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultingType: List, defaultConstraints: [{maxSkew: \
     1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}}]}]\n",
    "profiles: [{pluginConfig: [{name: NodeAffinity, args: {addedAffinity: \
     {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, \
     values: ['1']}]}]}}}}]}]\n",
    "profiles: [{pluginConfig: [{name: DynamicResources, args: {filterTimeout: 3s}}]}]\n",
    "profiles: [{pluginConfig: [{name: Elsewhere, args: {a: 1}}]}]\n",
    "extenders: [{urlPrefix: 'http://127.0.0.1:1', filterVerb: f, prioritizeVerb: p, weight: 2, httpTimeout: 3s, \
     managedResources: [{name: a.b/c, ignoredByScheduler: true}], ignorable: true, tlsConfig: {insecure: true}}]\n",
    // What is wrong from here on.
    "foo: 1\nprofiles: [{bar: 1}]\n",
    "parallelism: 1\nparallelism: 2\n",
    "parallelism: x\n",
    "parallelism: 1.5\n",
    "parallelism: 0\npercentageOfNodesToScore: 101\n",
    "profiles: {}\n",
    "profiles: [{schedulerName: 1}]\n",
    "leaderElection: {leaseDuration: 5}\n",
    "leaderElection: {leaseDuration: 5x}\n",
    "leaderElection: {leaseDuration: 5s, resourceLock: endpoints, retryPeriod: -1s}\n",
    "profiles: [{schedulerName: a}, {}, {schedulerName: a}]\n",
    "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {foo: 1}}]}]\n",
    "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {kind: VolumeBindingArgs}}]}]\n",
    "profiles: [{pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: soon}}]}]\n",
    "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Most}}}]}]\n",
    "profiles: [{pluginConfig: [{name: DefaultPreemption, args: {minCandidateNodesPercentage: 0, \
     minCandidateNodesAbsolute: 0}}]}]\n",
    "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultConstraints: [{maxSkew: 0, topologyKey: '', \
     whenUnsatisfiable: Never, labelSelector: {}}]}}]}]\n",
    "profiles: [{pluginConfig: [{name: VolumeBinding, args: {shape: [{utilization: 1, score: 2}]}}]}]\n",
    "profiles: [{plugins: {filter: {enabled: [{name: Nothing}]}}}]\n",
    "profiles: [{plugins: {filter: {enabled: [{name: ImageLocality}]}}}]\n",
    "profiles: [{plugins: {bind: {disabled: [{name: '*'}]}}}]\n",
    "profiles: [{plugins: {queueSort: {disabled: [{name: '*'}]}}}]\n",
    "extenders: [{prioritizeVerb: p, bindVerb: b}, {bindVerb: b, managedResources: [{name: cpu}]}]\n",
];

/// What is written for a configuration, or why nothing is.
fn written(program: &Path, lines: &str, dir: &Path) -> Result<String, String> {
    let (config, to) = (dir.join("config.yaml"), dir.join("written.yaml"));
    let kubeconfig = refused::words("KUBECONFIG", dir).remove(0);
    let lines = match lines.split_once("clientConnection: {") {
        Some((before, after)) => format!("{before}clientConnection: {{kubeconfig: {kubeconfig}, {after}"),
        None => format!("clientConnection: {{kubeconfig: {kubeconfig}}}\n{lines}"),
    };
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    std::fs::write(&config, format!("{head}{lines}")).unwrap();
    let _ = std::fs::remove_file(&to);
    let (config, to) = (config.to_str().unwrap(), to.to_str().unwrap());
    let output = run(program, &["--config", config, "--write-config-to", to, "--secure-port", "0"]);
    match output.status.code() {
        Some(0) => Ok(std::fs::read_to_string(to).unwrap()),
        _ => Err(last_words(&output)),
    }
}

#[test]
fn configurations_are_read_and_refused_as_by_a_real_one() {
    let Some(real) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let differs = |lines: &&&str| {
        let (own, other) = (written(&ours(), lines, dir.path()), written(&real, lines, dir.path()));
        if own != other {
            println!("---- {lines}\nours: {own:?}\nreal: {other:?}");
        }
        own != other
    };
    assert_eq!(CONFIGURATIONS.iter().filter(differs).count(), 0, "of them differ");
}

#[test]
fn command_lines_are_refused_as_by_a_real_one() {
    let Some(real) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let differs = |line: &&&str| {
        let words = refused::words(line, dir.path());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (own, other) = (run(&ours(), &words), run(&real, &words));
        let (own, other) = ((own.status.code(), last_words(&own)), (other.status.code(), last_words(&other)));
        if own != other {
            println!("---- {line}\nours: {own:?}\nreal: {other:?}");
        }
        own != other
    };
    assert_eq!(REFUSED.iter().filter(differs).count(), 0, "of them differ");
}
