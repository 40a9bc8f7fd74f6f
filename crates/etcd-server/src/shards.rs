//! Our own service Shards: which keys are kept by which Raft group, and having them kept by another one.

use std::sync::Arc;

use etcd_proto::shardspb::{
    ListRequest, ListResponse, MoveRequest, MoveResponse, Shard, shards_server::Shards as ShardsService,
};
use store_api::{Cluster, Demand};
use tonic::{Request, Response, Status, async_trait};

use crate::{codes, shared::Shared};

pub(crate) struct Service(pub Arc<Shared>);

#[async_trait]
impl ShardsService for Service {
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        self.0.demand(&request, Demand::Caller).await?;
        let shards = match &self.0.cluster {
            Some(cluster) => cluster.shards().await.map_err(|error| codes::status(&error))?,
            None => vec![store_api::Shard::default()],
        };
        Ok(Response::new(ListResponse { shards: wire(shards) }))
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<MoveResponse>, Status> {
        self.0.demand(&request, Demand::Admin).await?;
        let MoveRequest { prefix, group } = request.into_inner();
        let shards = self.cluster()?.shard_move(prefix, group).await.map_err(|error| codes::status(&error))?;
        Ok(Response::new(MoveResponse { shards: wire(shards) }))
    }
}

impl Service {
    fn cluster(&self) -> Result<&dyn Cluster, Status> {
        self.0.cluster.as_deref().ok_or_else(|| codes::unimplemented("moving shards"))
    }
}

fn wire(shards: Vec<store_api::Shard>) -> Vec<Shard> {
    let wire = |shard: store_api::Shard| Shard { prefix: shard.prefix, group: shard.group, moving_to: shard.moving_to };
    shards.into_iter().map(wire).collect()
}
