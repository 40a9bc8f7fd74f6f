//! Which keys a running store has where, and having some of them moved.

use std::time::Duration;

use etcd_proto::shardspb::{self as pb, ListRequest, MoveRequest, shards_client::ShardsClient};
use store_api::Shard;

use crate::{
    ConnectError, Options,
    snapshot::within,
    user::{Session, User},
};

/// How long a shard may be on its way.
const MOVE_LIMIT: Duration = Duration::from_secs(3600);

/// The shards in the order of their prefixes.
pub async fn shards(options: &Options, user: Option<&User>) -> Result<Vec<Shard>, ConnectError> {
    let session = Session::open(options, user).await?;
    let mut client = ShardsClient::new(session.channel.clone());
    let listed = within(options.request_timeout, client.list(session.request(ListRequest {}))).await;
    Ok(plain(listed.map_err(|source| session.failed(source))?.shards))
}

/// Has the keys of a prefix kept by a group; returns all shards when they are there.
pub async fn shard_move(
    options: &Options,
    user: Option<&User>,
    prefix: Vec<u8>,
    group: u32,
) -> Result<Vec<Shard>, ConnectError> {
    let session = Session::open(options, user).await?;
    let mut client = ShardsClient::new(session.channel.clone());
    let moved = within(MOVE_LIMIT, client.r#move(session.request(MoveRequest { prefix: prefix.into(), group }))).await;
    Ok(plain(moved.map_err(|source| session.failed(source))?.shards))
}

fn plain(shards: Vec<pb::Shard>) -> Vec<Shard> {
    let plain = |shard: pb::Shard| Shard { prefix: shard.prefix, group: shard.group, moving_to: shard.moving_to };
    shards.into_iter().map(plain).collect()
}
