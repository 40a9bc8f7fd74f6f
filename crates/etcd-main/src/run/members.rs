//! Who this member is and whom it begins with: from the flags, or from the members of the cluster that it joins.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use peers::{Joining, Network, Options, PeerError};
use replica::{GroupId, cluster_id, member_id};
use store::{Bootstrap, Store};
use store_api::{Member, StoreError};

use super::{Layers, data_dir::Found};
use crate::{
    config::{ClusterState, Config},
    tls::{self, TlsError},
    url::{self, Cluster},
};

/// How long the members of a cluster are asked before a member that joins gives up, and how often.
const ASK_TIMES: u32 = 15;
const ASK_PAUSE: Duration = Duration::from_secs(1);
/// How long one attempt to tell the others of this member may take.
const PUBLISH_LIMIT: Duration = Duration::from_secs(3600);
const PUBLISH_PAUSE: Duration = Duration::from_millis(100);

/// Why a member cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs: {0}"
    )]
    Unreachable(PeerError),
    #[error("error validating peerURLs: member count is unequal: {told} in --initial-cluster, {known} in the cluster")]
    Count { told: usize, known: usize },
    #[error("error validating peerURLs: unmatched member while checking PeerURLs: {0}")]
    Unmatched(String),
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NoName(String),
}

/// How a member begins.
pub struct Origin {
    pub bootstrap: Bootstrap,
    /// How the cluster that is joined has divided its keys.
    pub groups: Option<GroupId>,
    /// Members that one without a state has been told of.
    pub known: Vec<Member>,
}

/// The way to the other members.
pub fn network(config: &Config, tasks: &Layers) -> Result<Arc<Network>, TlsError> {
    let tls = tls::connector(&config.peer_tls, &config.tls)?;
    Ok(Network::new(Options { tasks: tasks.peers.clone(), tls }))
}

pub async fn origin(config: &Config, found: Found, cluster: &Cluster, network: &Network) -> Result<Origin, JoinError> {
    if found == Found::Member {
        // The data folder knows; only a member that joined and was sent nothing yet needs to be told of somebody.
        let told = config.initial_cluster().unwrap_or_default();
        let known = match told.len() {
            0 | 1 => Vec::new(),
            _ => network.discover(&others(config, &told)).await.map(|found| found.members).unwrap_or_default(),
        };
        return Ok(Origin { bootstrap: Bootstrap::Join { me: 0, cluster: 0 }, groups: None, known });
    }
    if config.cluster_state == ClusterState::Existing {
        return join(config, cluster, network).await;
    }
    let members: Vec<Member> = cluster.iter().map(|(name, urls)| founder(config, name, urls)).collect();
    let me = members.iter().find(|m| m.name == config.name).map(|m| m.id);
    let me = me.ok_or_else(|| JoinError::NoName(config.name.clone()))?;
    let cluster = cluster_id(members.iter().map(|m| m.id));
    Ok(Origin { bootstrap: Bootstrap::New { me, cluster, members }, groups: None, known: Vec::new() })
}

/// Makes this member the only one, before its store is opened.
pub async fn force_new_cluster(config: &Config) -> Result<(), StoreError> {
    let (folder, wal) = (config.member_dir(), config.wal_dir.clone());
    let forced = runtime::blocking(move || store::force_new_cluster(&folder, wal.as_deref())).await?;
    tracing::warn!(
        "cluster-id" = format!("{:x}", forced.cluster),
        "local-member-id" = format!("{:x}", forced.member),
        "commit-index" = forced.index,
        "forcing restart member: all other members are removed from the cluster"
    );
    Ok(())
}

fn founder(config: &Config, name: &str, urls: &[url::Url]) -> Member {
    let peer_urls = url::texts(urls);
    let id = member_id(&peer_urls, &config.cluster_token);
    Member { id, name: name.to_owned(), peer_urls, ..Default::default() }
}

async fn join(config: &Config, cluster: &Cluster, network: &Network) -> Result<Origin, JoinError> {
    let urls = others(config, cluster);
    let mut asked = 0;
    let Joining { cluster: id, members, groups } = loop {
        match network.discover(&urls).await {
            Ok(found) => break found,
            Err(error) if asked >= ASK_TIMES => return Err(JoinError::Unreachable(error)),
            Err(error) => tracing::warn!(%error, "the members of the cluster do not answer yet"),
        }
        asked += 1;
        tokio::time::sleep(ASK_PAUSE).await;
    };
    if members.len() != cluster.len() {
        return Err(JoinError::Count { told: cluster.len(), known: members.len() });
    }
    let set = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<_>>();
    for urls in cluster.values() {
        let told = url::texts(urls);
        if !members.iter().any(|m| set(&m.peer_urls) == set(&told)) {
            return Err(JoinError::Unmatched(told.join(",")));
        }
    }
    let own = cluster.get(&config.name).ok_or_else(|| JoinError::NoName(config.name.clone()))?;
    let own = set(&url::texts(own));
    let me = members.iter().find(|m| set(&m.peer_urls) == own).map_or(0, |m| m.id);
    Ok(Origin { bootstrap: Bootstrap::Join { me, cluster: id }, groups: Some(groups), known: members })
}

/// The peer URLs of all members but this one.
fn others(config: &Config, cluster: &Cluster) -> Vec<String> {
    cluster.iter().filter(|(name, _)| **name != config.name).flat_map(|(_, urls)| url::texts(urls)).collect()
}

/// Waits for a leader and tells the cluster this member's name and where clients reach it. A learner cannot write:
/// it is done when it has been sent the state.
pub async fn publish(config: &Config, store: &Store) -> Result<(), StoreError> {
    loop {
        store.ready(PUBLISH_LIMIT).await?;
        match store.publish(&config.name, url::texts(&config.advertise_client_urls)).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Stopped) => return Err(StoreError::Stopped),
            Err(error) => {
                tracing::debug!(%error, "the cluster could not be told of this member yet");
                tokio::time::sleep(PUBLISH_PAUSE).await;
            }
        }
    }
}
