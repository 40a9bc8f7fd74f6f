//! Ids as etcd derives them, so that the same flags give the same ids: the first eight bytes of a SHA-1.

use bytes::Bytes;
use sha1::{Digest, Sha1};

use crate::GroupId;

/// The id of a member that listens at `peer_urls`. `token` is that of the initial cluster; a member that is added while
/// the cluster runs has the seconds of that moment, in decimal, as its own.
pub fn member_id(peer_urls: &[String], token: &str) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    first_eight(Sha1::new().chain_update(sorted.concat()).chain_update(token))
}

/// The id of a cluster that begins with these members.
pub fn cluster_id(members: impl IntoIterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = members.into_iter().collect();
    sorted.sort_unstable();
    first_eight(sorted.iter().fold(Sha1::new(), |sha, id| sha.chain_update(id.to_be_bytes())))
}

/// The id of a cluster whose keys are divided: members that were told of other groups or shards are strangers to each
/// other.
pub fn divided_cluster_id(cluster: u64, groups: GroupId, shards: &[(Bytes, GroupId)]) -> u64 {
    if groups == 1 {
        return cluster;
    }
    let mut sorted: Vec<_> = shards.iter().collect();
    sorted.sort_unstable();
    let sha = Sha1::new().chain_update(cluster.to_be_bytes()).chain_update(groups.to_be_bytes());
    first_eight(sorted.into_iter().fold(sha, |sha, (prefix, group)| {
        sha.chain_update(prefix.len().to_be_bytes()).chain_update(prefix).chain_update(group.to_be_bytes())
    }))
}

fn first_eight(sha: Sha1) -> u64 {
    let digest = sha.finalize();
    // 0 means "none" everywhere.
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 has twenty bytes")).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_etcd() {
        // As etcd 3.5 prints them for its defaults.
        let member = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(format!("{member:x}"), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id([member])), "cdf818194e3a8c32");
    }
}
