//! Service Maintenance: facts about the member, its hash, its alarms.

use std::{pin::Pin, sync::Arc};

use etcd_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse,
    SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse, alarm_request::AlarmAction,
    maintenance_server::Maintenance,
};
use futures::Stream;
use tonic::{Request, Response, Status, async_trait};

use crate::{codes, shared::Shared};

pub(crate) struct Service(pub Arc<Shared>);

#[async_trait]
impl Maintenance for Service {
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    /// Lists the alarms. They stand as long as their cause does, so there is nothing to raise or to disarm by hand:
    /// both answer with what stands.
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let request = request.into_inner();
        if request.action == i32::from(AlarmAction::Activate) {
            return Err(codes::unimplemented("raising an alarm"));
        }
        let status = self.0.status().await?;
        let wanted = |alarm: &AlarmMember| request.alarm == 0 || request.alarm == alarm.alarm;
        let alarms = alarms(&status).into_iter().filter(wanted).collect();
        Ok(Response::new(AlarmResponse { header: self.0.header(status.revision), alarms }))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = self.0.status().await?;
        Ok(Response::new(StatusResponse {
            header: self.0.header(status.revision),
            version: status.version,
            db_size: status.db_size,
            leader: status.leader,
            raft_index: status.raft_index,
            raft_term: status.raft_term,
            raft_applied_index: status.raft_index,
            errors: status.errors,
            db_size_in_use: status.db_size_in_use,
            is_learner: false,
        }))
    }

    async fn defragment(&self, _request: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        Err(codes::unimplemented("defragmentation by hand"))
    }

    async fn hash(&self, _request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        Err(codes::unimplemented("the hash of the backend's files"))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let hash = self.0.store.hash_kv(request.into_inner().revision).await.map_err(|e| codes::status(&e))?;
        Ok(Response::new(HashKvResponse {
            header: self.0.header(hash.revision),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        }))
    }

    async fn snapshot(&self, _request: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(codes::unimplemented("a snapshot over the network"))
    }

    async fn move_leader(&self, _request: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(codes::bad_leader_transferee())
    }

    async fn downgrade(&self, _request: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(codes::unimplemented("a downgrade"))
    }
}

/// A store tells its alarms in words; etcd's two kinds are recognised by theirs.
pub(crate) fn alarms(status: &store_api::Status) -> Vec<AlarmMember> {
    let named = |word: &str| status.errors.iter().any(|error| error.to_ascii_uppercase().contains(word));
    let kinds = [(AlarmType::Nospace, "NOSPACE"), (AlarmType::Corrupt, "CORRUPT")];
    let standing = kinds.into_iter().filter(|(_, word)| named(word));
    standing.map(|(kind, _)| AlarmMember { member_id: status.member_id, alarm: kind.into() }).collect()
}
