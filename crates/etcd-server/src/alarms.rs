//! Alarms: etcd's two kinds on the wire, in the words of a status, and as a store without a cluster tells them.

use etcd_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, alarm_request::AlarmAction};
use store_api::{Alarm, AlarmKind, Cluster, Status as StoreStatus, StoreError};
use tonic::Status;

use crate::{codes, shared::Shared};

/// Carries a request out and returns the alarms that it is about: those that stand, or those that it has changed.
pub(crate) async fn carry_out(shared: &Shared, request: &AlarmRequest) -> Result<Vec<AlarmMember>, Status> {
    let action = AlarmAction::try_from(request.action).map_err(|_| codes::unknown_method())?;
    let kind = kind(request.alarm)?;
    let alarms = match (action, kind) {
        (AlarmAction::Get, kind) => {
            let mut alarms = standing(shared).await?;
            alarms.retain(|alarm| kind.is_none_or(|kind| alarm.kind == kind));
            alarms
        }
        // As in etcd: there is nothing to change without a kind.
        (AlarmAction::Activate | AlarmAction::Deactivate, None) => Vec::new(),
        (change, Some(kind)) => {
            let alarm = Alarm { member: request.member_id, kind };
            self::change(shared, change, alarm).await?
        }
    };
    Ok(alarms.into_iter().map(wire).collect())
}

async fn change(shared: &Shared, change: AlarmAction, alarm: Alarm) -> Result<Vec<Alarm>, Status> {
    match (&shared.cluster, change) {
        (Some(cluster), AlarmAction::Activate) => told(cluster.alarm_raise(alarm).await),
        (Some(cluster), _) => told(cluster.alarm_disarm(alarm).await),
        // Without a cluster alarms stand as long as their cause does, and nobody can raise or disarm one by hand.
        (None, AlarmAction::Activate) => Err(codes::unimplemented("raising an alarm")),
        (None, _) => {
            let mut alarms = standing(shared).await?;
            alarms.retain(|standing| standing.kind == alarm.kind);
            Ok(alarms)
        }
    }
}

/// The alarms that stand.
pub(crate) async fn standing(shared: &Shared) -> Result<Vec<Alarm>, Status> {
    all(&shared.status().await?, shared.cluster.as_deref()).await
}

/// Those that the cluster has raised, and what this member's store says of itself before it is raised.
async fn all(status: &StoreStatus, cluster: Option<&dyn Cluster>) -> Result<Vec<Alarm>, Status> {
    let mut alarms = match cluster {
        Some(cluster) => told(cluster.alarms().await)?,
        None => Vec::new(),
    };
    for alarm in of_words(status) {
        if !alarms.contains(&alarm) {
            alarms.push(alarm);
        }
    }
    Ok(alarms)
}

/// What a status lists as errors: that there is no leader, the alarms as etcd writes them, and what else the store says.
pub(crate) async fn errors(status: &StoreStatus, cluster: Option<&dyn Cluster>) -> Result<Vec<String>, Status> {
    let alarms = all(status, cluster).await?;
    let no_leader = (status.leader == 0).then(|| codes::status(&StoreError::NoLeader).message().to_owned());
    let words = alarms.iter().map(|alarm| format!("memberID:{} alarm:{} ", alarm.member, name(alarm.kind)));
    let others = status.errors.iter().filter(|error| !KINDS.iter().any(|kind| names(error, *kind))).cloned();
    Ok(no_leader.into_iter().chain(words).chain(others).collect())
}

pub(crate) fn name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

const KINDS: [AlarmKind; 2] = [AlarmKind::NoSpace, AlarmKind::Corrupt];

/// A store tells its own alarms in words; etcd's kinds are recognised by theirs.
fn of_words(status: &StoreStatus) -> Vec<Alarm> {
    let standing = KINDS.into_iter().filter(|kind| status.errors.iter().any(|error| names(error, *kind)));
    standing.map(|kind| Alarm { member: status.member_id, kind }).collect()
}

fn names(error: &str, kind: AlarmKind) -> bool {
    error.to_ascii_uppercase().contains(name(kind))
}

fn kind(wire: i32) -> Result<Option<AlarmKind>, Status> {
    match AlarmType::try_from(wire) {
        Ok(AlarmType::None) => Ok(None),
        Ok(AlarmType::Nospace) => Ok(Some(AlarmKind::NoSpace)),
        Ok(AlarmType::Corrupt) => Ok(Some(AlarmKind::Corrupt)),
        Err(_) => Err(Status::invalid_argument("etcdserver: unknown alarm type")),
    }
}

fn wire(alarm: Alarm) -> AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => AlarmType::Nospace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    };
    AlarmMember { member_id: alarm.member, alarm: kind.into() }
}

fn told<T>(answer: Result<T, StoreError>) -> Result<T, Status> {
    answer.map_err(|error| codes::status(&error))
}
