//! The command lines of `import` and `export`, with the flags of `etcdutl snapshot restore` and `etcdctl`. Pure.

use std::path::PathBuf;

use store::Bootstrap;

use crate::{
    bootstrap::{self, BootstrapError},
    remote::{Flags, Remote, list},
    url::{self, Url},
};

pub const IMPORT_USAGE: &str = "\
usage: plinth store import --from-snapshot FILE | --from-endpoints URL[,URL] | --from-data-dir DIR
    [--data-dir DIR] [--wal-dir DIR] [--name default] [--initial-cluster default=http://localhost:2380]
    [--initial-cluster-token etcd-cluster] [--initial-advertise-peer-urls http://localhost:2380]
    [--skip-hash-check] [--without-auth] [--cacert FILE] [--cert FILE --key FILE] [--user NAME:PASSWORD]";
pub const EXPORT_USAGE: &str = "\
usage: plinth store export FILE --endpoints URL[,URL] | --data-dir DIR [--wal-dir DIR]
    [--cacert FILE] [--cert FILE --key FILE] [--user NAME:PASSWORD]";

/// `plinth store import`: fills an empty data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub source: Source,
    pub data_dir: PathBuf,
    /// A folder of its own for the log.
    pub wal_dir: Option<PathBuf>,
    pub cluster: Cluster,
    pub skip_hash_check: bool,
    pub without_auth: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of `etcdctl snapshot save`.
    Snapshot(PathBuf),
    /// A running cluster.
    Endpoints(Remote),
    /// The data folder of a stopped etcd.
    DataDir(PathBuf),
}

/// The cluster that begins with the imported data; every member of it is given the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    pub members: String,
    pub token: String,
    pub advertise_peer_urls: String,
}

/// `plinth store export`: writes a file that `etcdutl snapshot restore` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub file: PathBuf,
    pub from: From,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Endpoints(Remote),
    /// The data folder of a stopped member, and that of its log if it is kept apart.
    DataDir(PathBuf, Option<PathBuf>),
}

/// Reads what follows `import`; the error is what to tell.
pub fn import(arguments: &[String]) -> Result<Import, String> {
    let mut flags = Flags::read(arguments, IMPORT_USAGE)?;
    let mut sources = Vec::new();
    let mut remote = flags.remote()?;
    sources.extend(flags.take("from-snapshot").map(|file| Source::Snapshot(file.into())));
    sources.extend(flags.take("from-data-dir").map(|folder| Source::DataDir(folder.into())));
    if let Some(urls) = flags.take("from-endpoints") {
        remote.endpoints = list(&urls);
        sources.push(Source::Endpoints(remote));
    } else if remote != Remote::default() {
        return Err(flags.wrong("--cacert, --cert, --key and --user go with --from-endpoints"));
    }
    let name = flags.take("name").unwrap_or_else(|| "default".to_owned());
    let data_dir = flags.take("data-dir").unwrap_or_else(|| format!("{name}.etcd")).into();
    let wal_dir = flags.take("wal-dir").map(PathBuf::from);
    let peers = "http://localhost:2380";
    let cluster = Cluster {
        members: flags.take("initial-cluster").unwrap_or_else(|| format!("default={peers}")),
        token: flags.take("initial-cluster-token").unwrap_or_else(|| "etcd-cluster".to_owned()),
        advertise_peer_urls: flags.take("initial-advertise-peer-urls").unwrap_or_else(|| peers.to_owned()),
        name,
    };
    let (skip_hash_check, without_auth) = (flags.switch("skip-hash-check")?, flags.switch("without-auth")?);
    flags.end(0)?;
    match (sources.pop(), sources.is_empty()) {
        (Some(source), true) => Ok(Import { source, data_dir, wal_dir, cluster, skip_hash_check, without_auth }),
        _ => Err(flags.wrong("import takes one of --from-snapshot, --from-endpoints and --from-data-dir")),
    }
}

/// Reads what follows `export`; the error is what to tell.
pub fn export(arguments: &[String]) -> Result<Export, String> {
    let mut flags = Flags::read(arguments, EXPORT_USAGE)?;
    let mut remote = flags.remote()?;
    let (endpoints, data_dir) = (flags.take("endpoints"), flags.take("data-dir"));
    let wal_dir = flags.take("wal-dir").map(PathBuf::from);
    flags.end(1)?;
    let file = flags.rest.remove(0).into();
    match (endpoints, data_dir) {
        (Some(_), _) if wal_dir.is_some() => Err(flags.wrong("--wal-dir goes with --data-dir")),
        (Some(urls), None) => {
            remote.endpoints = list(&urls);
            Ok(Export { file, from: From::Endpoints(remote) })
        }
        (None, Some(folder)) if remote == Remote::default() => {
            Ok(Export { file, from: From::DataDir(folder.into(), wal_dir) })
        }
        (None, Some(_)) => Err(flags.wrong("--cacert, --cert, --key and --user go with --endpoints")),
        _ => Err(flags.wrong("export takes one of --endpoints and --data-dir")),
    }
}

impl Cluster {
    /// The members as the store begins with them, under the ids that etcd gives them.
    pub fn bootstrap(&self) -> Result<Bootstrap, BootstrapError> {
        let members = url::parse_cluster(&self.members)?;
        let own = members.get(&self.name).ok_or_else(|| BootstrapError::NoSuchMember(self.name.clone()))?;
        let advertised = Url::parse_list(&self.advertise_peer_urls)?;
        bootstrap::matches(&self.name, &advertised, own, &|host| Some(host.to_owned()))?;
        let founders: Vec<_> = members
            .iter()
            .map(|(name, urls)| {
                let peer_urls = url::texts(urls);
                let id = store::member_id(&peer_urls, &self.token);
                store_api::Member { id, name: name.clone(), peer_urls, ..Default::default() }
            })
            .collect();
        let me = store::member_id(&url::texts(own), &self.token);
        let cluster = store::cluster_id(founders.iter().map(|member| member.id));
        Ok(Bootstrap::New { me, cluster, members: founders })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::User;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn imports() {
        let check = |line: &str, expected: Result<Source, &str>| match (import(&words(line)), expected) {
            (Ok(import), Ok(source)) => assert_eq!(import.source, source, "{line}"),
            (Err(why), Err(part)) => assert!(why.contains(part) && why.ends_with(IMPORT_USAGE), "{line}: {why}"),
            (found, expected) => panic!("{line}: {found:?}, expected {expected:?}"),
        };
        check("--from-snapshot s --data-dir=d", Ok(Source::Snapshot("s".into())));
        check("-from-data-dir d", Ok(Source::DataDir("d".into())));
        let endpoints = vec!["http://a:1".to_owned(), "http://b:1".to_owned()];
        let user = Some(User { name: "root".to_owned(), password: "a:b".to_owned() });
        let remote = Remote { endpoints, user, ca_file: Some("c".into()), ..Remote::default() };
        check("--from-endpoints http://a:1,http://b:1 --user root:a:b --cacert c", Ok(Source::Endpoints(remote)));
        check("--from-snapshot a --from-endpoints b", Err("one of --from-snapshot"));
        check("--from-snapshot a --from-snapshot b", Err("--from-snapshot is given twice"));
        check("--from-snapshot a --cacert c", Err("go with --from-endpoints"));
        check("--from-snapshot a b", Err("1 arguments where 0 are expected"));
        check("--from-snapshot", Err("flag needs an argument: --from-snapshot"));
        check("--from-snapshot a --frm b", Err("unknown flag: --frm"));
        check("--from-snapshot a --skip-hash-check=maybe", Err("invalid boolean value \"maybe\""));
        check("", Err("one of --from-snapshot"));
        let import = import(&words("--skip-hash-check --from-snapshot a --name x")).unwrap();
        assert!(import.skip_hash_check && !import.without_auth);
        assert_eq!(import.data_dir, PathBuf::from("x.etcd"));
    }

    #[test]
    fn exports() {
        let check = |line: &str, expected: Result<From, &str>| match (export(&words(line)), expected) {
            (Ok(export), Ok(from)) => assert_eq!((export.file, export.from), ("f".into(), from), "{line}"),
            (Err(why), Err(part)) => assert!(why.contains(part) && why.ends_with(EXPORT_USAGE), "{line}: {why}"),
            (found, expected) => panic!("{line}: {found:?}, expected {expected:?}"),
        };
        check("f --data-dir d", Ok(From::DataDir("d".into(), None)));
        check("f --data-dir d --wal-dir w", Ok(From::DataDir("d".into(), Some("w".into()))));
        check("f --endpoints a:1 --wal-dir w", Err("--wal-dir goes with --data-dir"));
        let remote = Remote { endpoints: vec!["a:1".to_owned()], ..Remote::default() };
        check("--endpoints a:1 f", Ok(From::Endpoints(remote)));
        check("f", Err("one of --endpoints and --data-dir"));
        check("--data-dir d", Err("0 arguments where 1 are expected"));
        check("f --data-dir d --cert c", Err("go with --endpoints"));
        check("f --endpoints a:1 --user root", Err("--user takes NAME:PASSWORD"));
    }

    #[test]
    fn the_new_cluster() {
        let check = |flags: &str, expected: Result<(&str, usize), &str>| {
            let cluster = import(&words(&format!("--from-snapshot f {flags}"))).unwrap().cluster;
            match (cluster.bootstrap(), expected) {
                (Ok(Bootstrap::New { me, members, .. }), Ok((id, count))) => {
                    assert_eq!((format!("{me:x}").as_str(), members.len()), (id, count), "{flags}");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{flags}: {error}"),
                (found, expected) => panic!("{flags}: {found:?}, expected {expected:?}"),
            }
        };
        // The id that etcd prints for its defaults.
        check("", Ok(("8e9e05c52164694d", 1)));
        let three = "--initial-cluster default=http://localhost:2380,b=http://b:1,c=http://c:1";
        check(three, Ok(("8e9e05c52164694d", 3)));
        check(&format!("{three} --name d"), Err("couldn't find local name \"d\""));
        check("--initial-advertise-peer-urls http://a:1", Err("--initial-advertise-peer-urls"));
        check("--initial-cluster default=a", Err("URL scheme must be"));
    }
}
