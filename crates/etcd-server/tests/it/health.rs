//! Health checks, version and metrics in plain HTTP.

use hyper::Method;
use store_api::{Alarm, AlarmKind, Cluster};

use crate::{plain, served::Served};

const TEXT: &str = "text/plain; charset=utf-8";

/// Asks with GET.
async fn check(served: &Served, path: &str, code: u16, kind: &str, body: &str) {
    let answer = plain::ask(&served.tasks, &served.url, Method::GET, path, "").await;
    assert_eq!(answer, (code, kind.to_owned(), body.to_owned()), "{path}");
}

#[tokio::test]
async fn a_healthy_member_says_so() {
    let served = Served::start().await;
    check(&served, "/health", 200, TEXT, r#"{"health":"true","reason":""}"#).await;
    check(&served, "/health?serializable=true", 200, TEXT, r#"{"health":"true","reason":""}"#).await;
    check(&served, "/livez", 200, TEXT, "ok\n").await;
    check(&served, "/livez?verbose", 200, TEXT, "[+]serializable_read ok\nok\n").await;
    check(&served, "/readyz/linearizable_read?verbose", 200, TEXT, "[+]linearizable_read ok\nok\n").await;
    check(&served, "/readyz/nothing", 404, TEXT, "404 page not found\n").await;
    check(&served, "/nothing", 404, TEXT, "404 page not found\n").await;
    let version = r#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#;
    check(&served, "/version", 200, "application/json", version).await;
    for path in ["/health", "/livez", "/readyz", "/version"] {
        let answer = plain::ask(&served.tasks, &served.url, Method::POST, path, "").await;
        assert_eq!(answer, (405, TEXT.to_owned(), "Method Not Allowed\n".to_owned()), "{path}");
    }
    let (code, _, metrics) = plain::ask(&served.tasks, &served.url, Method::GET, "/metrics", "").await;
    assert_eq!(code, 200);
    for line in [
        "etcd_server_version{server_version=\"3.5.30\"} 1",
        "etcd_cluster_version{cluster_version=\"3.5\"} 1",
        "etcd_server_health_success 2",
        "etcd_server_healthcheck{type=\"readyz\",name=\"linearizable_read\"} 1",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn an_alarm_is_told_until_it_is_excluded_or_disarmed() {
    let served = Served::clustered().await;
    let cluster = served.cluster.clone().unwrap();
    let alarm = |kind| Alarm { member: 5, kind };
    cluster.alarm_raise(alarm(AlarmKind::NoSpace)).await.unwrap();
    let full = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n";
    check(&served, "/health", 503, TEXT, full).await;
    check(&served, "/health?exclude=NOSPACE", 200, TEXT, r#"{"health":"true","reason":""}"#).await;
    check(&served, "/readyz", 200, TEXT, "ok\n").await;
    cluster.alarm_raise(alarm(AlarmKind::Corrupt)).await.unwrap();
    let report = "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
                  [+]linearizable_read ok\n[+]non_learner ok\n\n";
    check(&served, "/readyz", 503, TEXT, report).await;
    check(&served, "/readyz?exclude=data_corruption", 200, TEXT, "ok\n").await;
    check(&served, "/livez", 200, TEXT, "ok\n").await;
    for kind in [AlarmKind::NoSpace, AlarmKind::Corrupt] {
        cluster.alarm_disarm(alarm(kind)).await.unwrap();
    }
    check(&served, "/health", 200, TEXT, r#"{"health":"true","reason":""}"#).await;
    check(&served, "/readyz", 200, TEXT, "ok\n").await;
}
