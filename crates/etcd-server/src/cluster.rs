//! Service Cluster: the member list, which has one member until there is consensus.

use std::sync::Arc;

use etcd_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
    cluster_server::Cluster,
};
use tonic::{Request, Response, Status, async_trait};

use crate::{codes, shared::Shared};

pub(crate) struct Service(pub Arc<Shared>);

const MEMBERSHIP: &str = "changing the membership";

#[async_trait]
impl Cluster for Service {
    async fn member_list(&self, _request: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        let status = self.0.status().await?;
        let member = Member {
            id: status.member_id,
            name: self.0.name.clone(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: self.0.client_urls.clone(),
            is_learner: false,
        };
        Ok(Response::new(MemberListResponse { header: self.0.header(status.revision), members: vec![member] }))
    }

    async fn member_add(&self, _request: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        Err(codes::unimplemented(MEMBERSHIP))
    }

    async fn member_remove(
        &self,
        _request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(codes::unimplemented(MEMBERSHIP))
    }

    async fn member_update(
        &self,
        _request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(codes::unimplemented(MEMBERSHIP))
    }

    async fn member_promote(
        &self,
        _request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(codes::unimplemented(MEMBERSHIP))
    }
}
