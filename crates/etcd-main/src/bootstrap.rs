//! Whether the initial cluster and what this member advertises fit together, in etcd's order and words. Names are
//! resolved by a function that the caller brings.

use crate::{
    config::{ClusterState, Config},
    go,
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
    let Err(reason) = same(&urls, own, resolve) else { return Ok(()) };
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

/// Whether two lists name the same places; names are resolved only where the texts differ.
fn same(ours: &[Url], theirs: &[Url], resolve: Resolve<'_>) -> Result<(), String> {
    if ours.len() != theirs.len() {
        let list = |urls: &[Url]| go::quoted_list(&url::texts(urls));
        return Err(format!("len({}) != len({})", list(ours), list(theirs)));
    }
    if ours == theirs {
        return Ok(());
    }
    let (ours, theirs) = (resolved(ours, resolve)?, resolved(theirs, resolve)?);
    match ours.iter().zip(&theirs).find(|(one, other)| one != other) {
        Some((one, other)) => Err(format!("resolved urls: {one:?} != {other:?}")),
        None => Ok(()),
    }
}

/// URLs with addresses for names, in order. `localhost` stays what it is.
fn resolved(urls: &[Url], resolve: Resolve<'_>) -> Result<Vec<String>, String> {
    let one = |url: &Url| {
        if url.scheme.is_unix() || url.hostname() == "localhost" {
            return Ok(url.as_str().to_owned());
        }
        let failed = || format!("failed to resolve {:?} (no such host)", url.as_str());
        let address = resolve(&url.host).ok_or_else(failed)?;
        Ok(url.as_str().replacen(&url.host, &address, 1))
    };
    let mut resolved = urls.iter().map(one).collect::<Result<Vec<_>, String>>()?;
    resolved.sort();
    Ok(resolved)
}

/// Hosts that [`check`] will ask for.
pub fn to_resolve(config: &Config) -> Vec<String> {
    let Ok(cluster) = config.initial_cluster() else { return Vec::new() };
    let own = cluster.get(&config.name).map(Vec::as_slice).unwrap_or_default();
    let urls = config.advertise_peer_urls.iter().chain(own);
    let named = urls.filter(|url| !url.scheme.is_unix() && url.hostname().parse::<std::net::IpAddr>().is_err());
    let mut hosts: Vec<String> =
        named.filter(|url| url.hostname() != "localhost").map(|url| url.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    if same(&config.advertise_peer_urls, own, &|host| Some(host.to_owned())).is_ok() { Vec::new() } else { hosts }
}

#[cfg(test)]
mod tests {
    use crate::parse::{Command, Machine, parse};

    fn check(line: &str, expected: Result<(), &str>) {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let machine = Machine { environment: &[], read: &|_| Ok(String::new()), host: &|| None };
        let Ok(Command::Serve(config)) = parse(&arguments, false, &machine).outcome else { panic!("{line}") };
        let resolve = |host: &str| match host.split_once(':').unwrap() {
            ("named", port) => Some(format!("10.0.0.1:{port}")),
            ("unknown", _) => None,
            _ => Some(host.to_owned()),
        };
        let found = super::check(&config, &resolve).map(drop).map_err(|error| error.to_string());
        assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|words| *words), "{line}");
    }

    #[test]
    fn what_is_advertised_is_in_the_cluster() {
        let advertise =
            |urls: &str, cluster: &str| format!("--initial-advertise-peer-urls {urls} --initial-cluster {cluster}");
        check(&advertise("http://a:1", "default=http://a:1"), Ok(()));
        check(&advertise("http://named:1", "default=http://10.0.0.1:1"), Ok(()));
        check(&advertise("http://b:1,http://a:1", "default=http://a:1,default=http://b:1,x=http://c:1"), Ok(()));
        check(
            &advertise("http://a:1", "default=http://a:2"),
            Err("--initial-cluster has default=http://a:2 but missing from --initial-advertise-peer-urls=http://a:1 \
                 (resolved urls: \"http://a:1\" != \"http://a:2\")"),
        );
        check(
            &advertise("http://a:1,http://a:2", "default=http://a:1"),
            Err("--initial-advertise-peer-urls has http://a:2 but missing from \
                 --initial-cluster=default=http://a:1,default=http://a:2"),
        );
        check(
            &advertise("http://unknown:1", "default=http://10.0.0.1:1"),
            Err("--initial-cluster has default=http://10.0.0.1:1 but missing from \
                 --initial-advertise-peer-urls=http://unknown:1 (failed to resolve \"http://unknown:1\" (no such host))"),
        );
        check(
            &advertise("http://a:1", "x=http://a:1"),
            Err("couldn't find local name \"default\" in the initial cluster configuration"),
        );
    }
}
