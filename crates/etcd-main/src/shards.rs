//! `plinth store shards`: which group keeps which keys, and having some of them kept by another one.

use std::process::ExitCode;

use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};
use store_api::Shard;

use crate::{
    remote::{Flags, Remote, list},
    transfer::end,
};

pub const USAGE: &str = "\
usage: plinth store shards [list] | plinth store shards move PREFIX GROUP
    [--endpoints http://127.0.0.1:2379[,URL]] [--write-out simple|table|json]
    [--cacert FILE] [--cert FILE --key FILE] [--user NAME:PASSWORD]";
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:2379";
/// The lines of a table as etcdctl draws them.
const LINES: &str = "||--+-++|    ++++++";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub remote: Remote,
    pub format: Format,
    /// A prefix, and the group that is to keep its keys; none: only list.
    pub target: Option<(String, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    Table,
    Json,
}

/// Reads what follows `shards`; the error is what to tell.
pub fn command(arguments: &[String]) -> Result<Command, String> {
    let mut flags = Flags::read(arguments, USAGE)?;
    let mut remote = flags.remote()?;
    remote.endpoints = list(&flags.take("endpoints").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()));
    let format = match flags.take("write-out").or_else(|| flags.take("w")).as_deref() {
        None | Some("simple") => Format::Simple,
        Some("table") => Format::Table,
        Some("json") => Format::Json,
        Some(other) => return Err(flags.wrong(&format!("unknown output format {other:?}"))),
    };
    let target = match flags.rest.first().map(String::as_str) {
        None => None,
        Some("list") => {
            flags.end(1)?;
            None
        }
        Some("move") => {
            flags.end(3)?;
            let group = flags.rest[2].parse().map_err(|_| flags.wrong(&format!("{:?} is no group", flags.rest[2])))?;
            Some((flags.rest[1].clone(), group))
        }
        Some(other) => return Err(flags.wrong(&format!("unknown command {other:?}"))),
    };
    flags.end(flags.rest.len())?;
    Ok(Command { remote, format, target })
}

#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    #[error(transparent)]
    Connect(#[from] etcd_client::ConnectError),
    #[error("the async runtime cannot be started")]
    Runtime(#[source] std::io::Error),
}

/// Lists, or moves and then lists.
pub fn run(command: &Command) -> ExitCode {
    // Whoever has installed one before has installed the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    end("shards", ask(command).map(|shards| show(&shards, command.format)))
}

fn ask(Command { remote, target, .. }: &Command) -> Result<Vec<Shard>, ShardsError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ShardsError::Runtime)?;
    let (options, user) = (remote.options(), remote.user.as_ref());
    let shards = runtime.block_on(async {
        match target {
            None => etcd_client::shards(&options, user).await,
            Some((prefix, group)) => etcd_client::shard_move(&options, user, prefix.clone().into_bytes(), *group).await,
        }
    });
    Ok(shards?)
}

fn show(shards: &[Shard], format: Format) -> String {
    let prefix = |shard: &Shard| String::from_utf8_lossy(&shard.prefix).into_owned();
    let moving = |shard: &Shard| shard.moving_to.map_or(String::new(), |to| to.to_string());
    match format {
        Format::Json => {
            let one =
                |shard: &Shard| json!({"prefix": prefix(shard), "group": shard.group, "movingTo": shard.moving_to});
            json!({"shards": shards.iter().map(one).collect::<Vec<Value>>()}).to_string()
        }
        Format::Simple => {
            let line = |shard: &Shard| format!("{}, {}, {}", shard.group, moving(shard), prefix(shard));
            shards.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Format::Table => {
            let row = |shard: &Shard| [shard.group.to_string(), moving(shard), prefix(shard)];
            table(["GROUP", "MOVING TO", "PREFIX"], shards.iter().map(row))
        }
    }
}

/// Rows below a head, as etcdctl draws them.
fn table(head: [&str; 3], rows: impl Iterator<Item = [String; 3]>) -> String {
    let mut table = Table::new();
    table.load_preset(LINES).set_header(head).add_rows(rows);
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let check = |line: &str, expected: Result<Option<(&str, u32)>, &str>| match (command(&words(line)), expected) {
            (Ok(command), Ok(target)) => {
                assert_eq!(command.target, target.map(|(prefix, group)| (prefix.to_owned(), group)), "{line}");
            }
            (Err(why), Err(part)) => assert!(why.contains(part) && why.ends_with(USAGE), "{line}: {why}"),
            (found, expected) => panic!("{line}: {found:?}, expected {expected:?}"),
        };
        check("", Ok(None));
        check("list --endpoints http://a:1 -w json", Ok(None));
        check("move /a/ 2", Ok(Some(("/a/", 2))));
        check("move /a/", Err("2 arguments where 3 are expected"));
        check("move /a/ b", Err("\"b\" is no group"));
        check("swap", Err("unknown command \"swap\""));
        check("--write-out xml", Err("unknown output format \"xml\""));
        check("--prefix a", Err("unknown flag: --prefix"));
    }

    #[test]
    fn tables_are_those_of_etcdctl() {
        let shard = |prefix: &'static str, group, moving_to| Shard { prefix: prefix.into(), group, moving_to };
        let shards = [shard("", 0, None), shard("/a/", 1, Some(12))];
        let expected = "\
+-------+-----------+--------+
| GROUP | MOVING TO | PREFIX |
+-------+-----------+--------+
|     0 |           |        |
|     1 |        12 |    /a/ |
+-------+-----------+--------+";
        assert_eq!(show(&shards, Format::Table), expected);
        assert_eq!(show(&shards, Format::Simple), "0, , \n1, 12, /a/");
        let json = r#"{"shards":[{"group":0,"movingTo":null,"prefix":""},{"group":1,"movingTo":12,"prefix":"/a/"}]}"#;
        assert_eq!(show(&shards, Format::Json), json);
    }
}
