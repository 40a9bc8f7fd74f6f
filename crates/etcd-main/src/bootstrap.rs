//! Whether the initial cluster and what this member advertises fit together, in etcd's order and words. Names are
//! resolved by a function that the caller brings.

use crate::{
    config::{ClusterState, Config},
    url::{self, Cluster, Url},
};

/// Why a member cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    #[error("error setting up initial cluster: {0}")]
    Cluster(#[from] url::UrlError),
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NoSuchMember(String),
    #[error("--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({reason})")]
    NotAdvertised { missing: String, advertised: String, reason: String },
    #[error("--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}")]
    NotInCluster { missing: String, cluster: String },
    #[error("failed to resolve {advertised} to match --initial-cluster={cluster} ({reason})")]
    Unresolved { advertised: String, cluster: String, reason: String },
    #[error("initial cluster {0} has duplicate url")]
    Duplicate(String),
    #[error("initial cluster unset and no discovery URL found")]
    Unset,
}

impl BootstrapError {
    /// The mistakes that are made most often, which come with hints.
    pub fn is_mismatch(&self) -> bool {
        matches!(self, BootstrapError::NotAdvertised { .. } | BootstrapError::NotInCluster { .. })
    }
}

/// Resolves `host:port` to an address of the same form.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Checks a member that has no data yet.
pub fn check(config: &Config, resolve: Resolve<'_>) -> Result<Cluster, BootstrapError> {
    let cluster = config.initial_cluster()?;
    let Some(own) = cluster.get(&config.name) else {
        return Err(BootstrapError::NoSuchMember(config.name.clone()));
    };
    if config.cluster_state == ClusterState::New {
        matches(&config.name, &config.advertise_peer_urls, own, resolve)?;
    }
    let mut urls: Vec<&Url> = cluster.values().flatten().collect();
    let count = urls.len();
    urls.sort();
    urls.dedup();
    if urls.len() < count {
        return Err(BootstrapError::Duplicate(url::cluster_text(&cluster)));
    }
    if cluster.is_empty() {
        return Err(BootstrapError::Unset);
    }
    Ok(cluster)
}

fn matches(name: &str, advertised: &[Url], own: &[Url], resolve: Resolve<'_>) -> Result<(), BootstrapError> {
    let mut urls = advertised.to_vec();
    urls.sort();
    let reason = match (resolved(&urls, resolve), resolved(own, resolve)) {
        (Ok(ours), Ok(theirs)) if ours == theirs => return Ok(()),
        (Ok(_), Ok(_)) => format!("resolved urls: {:?} != {:?}", url::joined(&urls), url::joined(own)),
        (Err(reason), _) | (_, Err(reason)) => reason,
    };
    let apart = |some: &[Url], others: &[Url]| -> Vec<String> {
        some.iter().filter(|url| !others.contains(url)).map(|url| url.as_str().to_owned()).collect()
    };
    let cluster = || url::cluster_text(&Cluster::from([(name.to_owned(), urls.clone())]));
    let missing = apart(own, &urls);
    if !missing.is_empty() {
        let missing: Vec<String> = missing.into_iter().map(|url| format!("{name}={url}")).collect();
        let (missing, advertised) = (missing.join(","), url::joined(&urls));
        return Err(BootstrapError::NotAdvertised { missing, advertised, reason });
    }
    let missing = apart(&urls, own);
    if !missing.is_empty() {
        return Err(BootstrapError::NotInCluster { missing: missing.join(","), cluster: cluster() });
    }
    Err(BootstrapError::Unresolved { advertised: url::joined(&urls), cluster: cluster(), reason })
}

/// URLs with addresses for names, in order.
fn resolved(urls: &[Url], resolve: Resolve<'_>) -> Result<Vec<(url::Scheme, String)>, String> {
    let one = |url: &Url| {
        let address = if url.scheme.is_unix() { Some(url.socket()) } else { resolve(&url.host) };
        let address = address.ok_or_else(|| format!("failed to resolve {}", url.as_str()))?;
        Ok((url.scheme, address))
    };
    let mut resolved = urls.iter().map(one).collect::<Result<Vec<_>, String>>()?;
    resolved.sort();
    Ok(resolved)
}
