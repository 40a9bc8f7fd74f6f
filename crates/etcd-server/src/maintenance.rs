//! Service Maintenance: facts about the member, its hash, its alarms, backups, and who leads.

use std::{pin::Pin, sync::Arc};

use etcd_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeRequest, DowngradeResponse,
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest,
    SnapshotResponse, StatusRequest, StatusResponse, alarm_request::AlarmAction, downgrade_request::DowngradeAction,
    maintenance_server::Maintenance,
};
use futures::Stream;
use store_api::{Demand, HashKv, MembershipError, Revision, StoreError};
use tonic::{Request, Response, Status, async_trait};

use crate::{alarms, codes, downgrade::Version, shared::Shared, snapshot};

/// The compact revision that etcd tells as long as nothing has been compacted.
const NEVER_COMPACTED: Revision = -1;

pub(crate) struct Service(pub Arc<Shared>);

#[async_trait]
impl Maintenance for Service {
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let asks = request.get_ref().action == i32::from(AlarmAction::Get);
        self.0.demand(&request, if asks { Demand::Caller } else { Demand::Admin }).await?;
        let alarms = alarms::carry_out(&self.0, request.get_ref()).await?;
        Ok(Response::new(AlarmResponse { header: self.0.header_now().await?, alarms }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.0.demand(&request, Demand::Admin).await?;
        let status = self.0.status().await?;
        let errors = alarms::errors(&status, self.0.cluster.as_deref()).await?;
        Ok(Response::new(StatusResponse {
            header: self.0.header(status.revision),
            version: status.version,
            db_size: status.db_size,
            leader: status.leader,
            raft_index: status.raft_index,
            raft_term: status.raft_term,
            raft_applied_index: status.raft_applied_index,
            errors,
            db_size_in_use: status.db_size_in_use,
            is_learner: status.is_learner,
        }))
    }

    async fn defragment(&self, request: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        self.0.demand_admin_bluntly(&request).await?;
        let Some(cluster) = &self.0.cluster else { return Err(codes::unimplemented("defragmentation by hand")) };
        cluster.defragment().await.map_err(|e| codes::status(&e))?;
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    /// etcd hashes its file here. What can be compared between members is the data, so that is hashed.
    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.0.demand_admin_bluntly(&request).await?;
        let hash = self.hash_at(0).await?;
        Ok(Response::new(HashResponse { header: self.0.header(hash.revision), hash: hash.hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        self.0.demand_admin_bluntly(&request).await?;
        let hash = self.hash_at(request.into_inner().revision).await?;
        let compact_revision = if hash.compact_revision == 0 { NEVER_COMPACTED } else { hash.compact_revision };
        Ok(Response::new(HashKvResponse {
            header: self.0.header(hash.revision),
            hash: hash.hash,
            compact_revision,
            hash_revision: hash.hash_revision,
        }))
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        self.0.demand_admin_bluntly(&request).await?;
        let Some(cluster) = &self.0.cluster else { return Err(codes::unimplemented("a snapshot over the network")) };
        let backup = cluster.backup().await.map_err(|e| codes::status(&e))?;
        Ok(Response::new(Box::pin(snapshot::send(backup))))
    }

    async fn move_leader(&self, request: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        self.0.demand(&request, Demand::Admin).await?;
        let target = request.into_inner().target_id;
        let status = self.0.status().await?;
        let moved = match &self.0.cluster {
            _ if status.leader != status.member_id => Err(StoreError::NotLeader),
            _ if target == status.member_id => Ok(()),
            Some(cluster) => cluster.move_leader(target).await,
            None => Err(MembershipError::BadTransferee.into()),
        };
        moved.map_err(|e| codes::status(&e))?;
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn downgrade(&self, request: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        self.0.demand(&request, Demand::Admin).await?;
        let request = request.into_inner();
        let action = DowngradeAction::try_from(request.action).map_err(|_| codes::unknown_method())?;
        let status = self.0.status().await?;
        let version = Version::read(&status.version).ok_or_else(codes::no_cluster_version)?;
        let downgrade = &self.0.downgrade;
        match action {
            DowngradeAction::Validate => downgrade.validate(version, &request.version).map(|_| ()),
            DowngradeAction::Enable => downgrade.enable(version, &request.version),
            DowngradeAction::Cancel => downgrade.cancel(),
        }?;
        Ok(Response::new(DowngradeResponse { header: self.0.header(status.revision), version: version.to_string() }))
    }
}

impl Service {
    async fn hash_at(&self, revision: Revision) -> Result<HashKv, Status> {
        self.0.store.hash_kv(revision).await.map_err(|e| codes::status(&e))
    }
}
