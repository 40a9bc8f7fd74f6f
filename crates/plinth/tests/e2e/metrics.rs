//! What Prometheus finds at `/metrics`: the figures of every part, under the names that the peers give them.

use crate::{apply_example, cluster, wait_for_web_pods};

/// Families and a label or value's beginning that a sample of each has once the example has run.
const SAMPLES: [&str; 33] = [
    "apiserver_request_total{verb=\"POST\",",
    "apiserver_request_duration_seconds_bucket{",
    "apiserver_current_inflight_requests{request_kind=\"mutating\"}",
    "apiserver_longrunning_requests ",
    "apiserver_storage_objects{resource=\"pods\"}",
    "apiserver_watch_events_total{",
    "etcd_disk_wal_fsync_duration_seconds_count ",
    "etcd_disk_wal_write_bytes_total ",
    "etcd_mvcc_put_total ",
    "etcd_mvcc_txn_total ",
    "etcd_mvcc_db_total_size_in_bytes ",
    "etcd_server_has_leader 1",
    "etcd_server_proposals_committed_total ",
    "etcd_server_proposals_failed_total ",
    "etcd_debugging_mvcc_watcher_total ",
    "scheduler_schedule_attempts_total{result=\"scheduled\",profile=\"default-scheduler\"}",
    "scheduler_scheduling_attempt_duration_seconds_count{result=\"scheduled\",",
    "scheduler_pending_pods{queue=\"active\"}",
    "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"}",
    "workqueue_depth{name=\"deployment\"} 0",
    "workqueue_adds_total{name=\"replicaset\"}",
    "workqueue_retries_total{name=\"job\"}",
    "workqueue_queue_duration_seconds_bucket{le=",
    "workqueue_work_duration_seconds_count{name=\"endpoint_slice\"}",
    "kubelet_running_pods 3",
    "kubelet_started_containers_total 3",
    "kubelet_pod_start_duration_seconds_count 3",
    "prober_probe_total{probe_type=\"Readiness\",result=\"successful\",",
    "kubeproxy_sync_proxy_rules_duration_seconds_count ",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total ",
    "coredns_cache_entries ",
    "process_resident_memory_bytes ",
    "process_cpu_seconds_total ",
];

#[test]
fn every_part_is_measured_under_its_peers_names() {
    let cluster = cluster();
    apply_example(&cluster);
    wait_for_web_pods(&cluster, 3);
    let text = cluster.kubectl.ok("get --raw /metrics");
    let missing: Vec<_> =
        SAMPLES.iter().filter(|sample| !text.lines().any(|line| line.starts_with(**sample))).collect();
    assert!(missing.is_empty(), "missing: {missing:?} in\n{text}");
    // The Prometheus text format, as kubectl does not ask for OpenMetrics.
    assert!(text.contains("# TYPE apiserver_request_total counter\n") && !text.contains("# EOF"), "{text}");
    let mut types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let families = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), families, "each family is described once");
}
