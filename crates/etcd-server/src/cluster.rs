//! Service Cluster: who the members are, and changes of that. A store without a cluster is its own only member.

use std::sync::Arc;

use etcd_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
    ResponseHeader, cluster_server::Cluster,
};
use store_api::{Demand, Revision, StoreError};
use tonic::{Request, Response, Status, async_trait};

use crate::{codes, members, shared::Shared};

/// These answers are about the cluster and name no revision of the data.
const NO_REVISION: Revision = 0;

pub(crate) struct Service(pub Arc<Shared>);

#[async_trait]
impl Cluster for Service {
    async fn member_list(&self, request: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        self.0.demand(&request, Demand::Caller).await?;
        let members = match &self.0.cluster {
            Some(cluster) => wire(cluster.members(request.get_ref().linearizable).await.map_err(told)?),
            None => vec![self.only_member().await?],
        };
        Ok(Response::new(MemberListResponse { header: self.header(), members }))
    }

    async fn member_add(&self, request: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        self.0.demand(&request, Demand::Admin).await?;
        let request = request.into_inner();
        let urls = members::peer_urls(request.peer_ur_ls).map_err(|error| told(error.into()))?;
        let (member, members) = self.cluster()?.member_add(urls, request.is_learner).await.map_err(told)?;
        let (member, members) = (Some(wire_member(member)), wire(members));
        Ok(Response::new(MemberAddResponse { header: self.header(), member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        self.0.demand(&request, Demand::Admin).await?;
        let members = wire(self.cluster()?.member_remove(request.get_ref().id).await.map_err(told)?);
        Ok(Response::new(MemberRemoveResponse { header: self.header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        self.0.demand(&request, Demand::Admin).await?;
        let request = request.into_inner();
        let urls = members::peer_urls(request.peer_ur_ls).map_err(|error| told(error.into()))?;
        let members = wire(self.cluster()?.member_update(request.id, urls).await.map_err(told)?);
        Ok(Response::new(MemberUpdateResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.0.demand(&request, Demand::Admin).await?;
        let members = wire(self.cluster()?.member_promote(request.get_ref().id).await.map_err(told)?);
        Ok(Response::new(MemberPromoteResponse { header: self.header(), members }))
    }
}

impl Service {
    fn cluster(&self) -> Result<&dyn store_api::Cluster, Status> {
        self.0.cluster.as_deref().ok_or_else(|| codes::unimplemented("changing the membership"))
    }

    fn header(&self) -> Option<ResponseHeader> {
        self.0.header(NO_REVISION)
    }

    async fn only_member(&self) -> Result<Member, Status> {
        let (name, client_ur_ls) = (self.0.name.clone(), self.0.client_urls.clone());
        let id = self.0.status().await?.member_id;
        Ok(Member { id, name, peer_ur_ls: Vec::new(), client_ur_ls, is_learner: false })
    }
}

fn wire(members: Vec<store_api::Member>) -> Vec<Member> {
    members.into_iter().map(wire_member).collect()
}

fn wire_member(member: store_api::Member) -> Member {
    Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}

fn told(error: StoreError) -> Status {
    codes::status(&error)
}
