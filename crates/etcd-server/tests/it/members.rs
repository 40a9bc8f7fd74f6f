//! Membership, alarms, backups and leadership, over a cluster that is made up, with `etcdctl` and message by message.

use std::sync::atomic::Ordering;

use etcd_proto::etcdserverpb::{
    self as pb, cluster_client::ClusterClient, downgrade_request::DowngradeAction,
    maintenance_client::MaintenanceClient,
};
use sha2::{Digest, Sha256};
use store_api::Cluster;
use tonic::{Code, Status};

use crate::{etcdctl, fake::backup_bytes, served::Served};

fn told<T>(answer: Result<T, Status>) -> (Code, String) {
    match answer {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

#[tokio::test]
async fn members_come_and_go() {
    let served = Served::clustered().await;
    let mut client = ClusterClient::new(served.channel().await);
    let add = |url: &str, is_learner| pb::MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner };
    let added = client.member_add(add("http://127.0.0.1:2", true)).await.unwrap().into_inner();
    let member = added.member.unwrap();
    assert_eq!((member.is_learner, member.peer_ur_ls.len(), added.members.len()), (true, 1, 2));
    let header = added.header.unwrap();
    assert_eq!((header.revision, header.cluster_id == 0), (0, false));

    let bad = (Code::InvalidArgument, "etcdserver: given member URLs are invalid".to_owned());
    for url in ["x", "http://127.0.0.1", "http://127.0.0.1:1/path"] {
        assert_eq!(told(client.member_add(add(url, false)).await), bad);
        let update = pb::MemberUpdateRequest { id: member.id, peer_ur_ls: vec![url.to_owned()] };
        assert_eq!(told(client.member_update(update).await), bad);
    }
    let there = (Code::FailedPrecondition, "etcdserver: Peer URLs already exists".to_owned());
    assert_eq!(told(client.member_add(add("http://127.0.0.1:2", false)).await), there);
    let many = (Code::FailedPrecondition, "etcdserver: too many learner members in cluster".to_owned());
    assert_eq!(told(client.member_add(add("http://127.0.0.1:3", true)).await), many);

    let id = member.id;
    let update = pb::MemberUpdateRequest { id, peer_ur_ls: vec!["http://127.0.0.1:4".to_owned()] };
    assert_eq!(client.member_update(update).await.unwrap().into_inner().members[1].peer_ur_ls, ["http://127.0.0.1:4"]);
    let promoted = client.member_promote(pb::MemberPromoteRequest { id }).await.unwrap().into_inner();
    assert!(!promoted.members[1].is_learner);
    let voter = (Code::FailedPrecondition, "etcdserver: can only promote a learner member".to_owned());
    assert_eq!(told(client.member_promote(pb::MemberPromoteRequest { id }).await), voter);
    assert_eq!(client.member_remove(pb::MemberRemoveRequest { id }).await.unwrap().into_inner().members.len(), 1);
    let gone = (Code::NotFound, "etcdserver: member not found".to_owned());
    assert_eq!(told(client.member_remove(pb::MemberRemoveRequest { id }).await), gone);
    let listed = client.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!(listed.members[0].client_ur_ls, [served.url.as_str()]);
}

#[tokio::test]
async fn leadership_goes_to_a_voter_only() {
    let served = Served::clustered().await;
    let cluster = served.cluster.clone().unwrap();
    let mut client = MaintenanceClient::new(served.channel().await);
    let own = cluster.members(false).await.unwrap()[0].id;
    let (other, _) = cluster.member_add(vec!["http://127.0.0.1:2".into()], false).await.unwrap();
    let bad = (Code::FailedPrecondition, "etcdserver: bad leader transferee".to_owned());
    assert_eq!(told(client.move_leader(pb::MoveLeaderRequest { target_id: 7 }).await), bad);
    let moved = client.move_leader(pb::MoveLeaderRequest { target_id: other.id }).await;
    assert_eq!((moved.is_ok(), cluster.moved_to.load(Ordering::Relaxed)), (true, other.id));
    assert!(client.move_leader(pb::MoveLeaderRequest { target_id: own }).await.is_ok());
}

#[tokio::test]
async fn a_backup_ends_with_its_checksum() {
    let served = Served::clustered().await;
    let mut client = MaintenanceClient::new(served.channel().await);
    let mut messages = client.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let (mut bytes, mut left) = (Vec::new(), Vec::new());
    while let Some(message) = messages.message().await.unwrap() {
        bytes.extend_from_slice(&message.blob);
        left.push(message.remaining_bytes);
    }
    let data = backup_bytes();
    assert_eq!(bytes.len(), data.len() + 32);
    assert_eq!(bytes[data.len()..], Sha256::digest(&data)[..]);
    assert!(bytes[..data.len()] == data[..]);
    assert!(left.windows(2).all(|pair| pair[0] >= pair[1]) && left[left.len() - 1] == 0, "{left:?}");
}

#[tokio::test]
async fn a_downgrade_is_one_job_at_a_time() {
    let served = Served::start().await;
    let mut client = MaintenanceClient::new(served.channel().await);
    let mut ask = async |action: DowngradeAction, version: &str| {
        let request = pb::DowngradeRequest { action: action.into(), version: version.to_owned() };
        match client.downgrade(request).await {
            Ok(response) => response.into_inner().version,
            Err(status) => status.message().to_owned(),
        }
    };
    assert_eq!(ask(DowngradeAction::Validate, "3.4").await, "3.5.0");
    assert_eq!(ask(DowngradeAction::Validate, "3.3").await, "etcdserver: invalid downgrade target version");
    assert_eq!(ask(DowngradeAction::Enable, "3.4.0").await, "3.5.0");
    assert_eq!(ask(DowngradeAction::Enable, "3.4").await, "etcdserver: cluster has a downgrade job in progress");
    assert_eq!(ask(DowngradeAction::Cancel, "").await, "3.5.0");
    assert_eq!(ask(DowngradeAction::Cancel, "").await, "etcdserver: no inflight downgrade job");
}

#[tokio::test]
async fn etcdctl_runs_the_cluster() {
    let served = Served::clustered().await;
    let ctl = etcdctl::Ctl::new(&served.url);
    let cluster = served.cluster.clone().unwrap();
    let own = cluster.members(false).await.unwrap()[0].id;
    ctl.told("member list", &format!("{own:x}, started, default, http://127.0.0.1:1, {}, false", served.url)).await;
    ctl.told("member add other --peer-urls=http://127.0.0.1:2 --learner", "added to cluster").await;
    let other = cluster.members(false).await.unwrap()[1].id;
    ctl.told("member list", &format!("{other:x}, unstarted, , http://127.0.0.1:2, , true")).await;
    ctl.told(&format!("member promote {other:x}"), "promoted in cluster").await;
    ctl.told(&format!("member update {other:x} --peer-urls=http://127.0.0.1:3"), "updated in cluster").await;
    ctl.told(&format!("move-leader {other:x}"), "Leadership transferred").await;
    ctl.told(&format!("member remove {other:x}"), "removed from cluster").await;
    ctl.told("member remove 7", "etcdserver: member not found").await;

    let status = ctl.run("endpoint status -w json").await;
    assert!(status.contains(&format!(r#""leader":{own}"#)) && !status.contains("errors"), "{status}");
    let alarm = pb::AlarmRequest { action: 1, member_id: 5, alarm: 1 };
    MaintenanceClient::new(served.channel().await).alarm(alarm).await.unwrap();
    ctl.check("alarm list", "memberID:5 alarm:NOSPACE").await;
    ctl.told("endpoint status -w json", r#""errors":["memberID:5 alarm:NOSPACE "]"#).await;
    ctl.told("endpoint health", "is unhealthy").await;
    ctl.check("alarm disarm", "memberID:5 alarm:NOSPACE").await;
    ctl.check("alarm list", "").await;
    ctl.told("endpoint health", "is healthy").await;
    ctl.told("defrag", "Finished defragmenting etcd member").await;
    assert_eq!(cluster.defragmented.load(Ordering::Relaxed), 1);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    ctl.told(&format!("snapshot save {}", file.display()), "Snapshot saved at").await;
    let saved = std::fs::read(file).unwrap();
    let data = backup_bytes();
    assert!(saved[..data.len()] == data[..] && saved[data.len()..] == Sha256::digest(&data)[..]);
}
