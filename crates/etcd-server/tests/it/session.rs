//! One language for sessions with users and permissions, spoken to any etcd over gRPC: `who> command` and one line of
//! answer. What is run before this project's server is run before a real etcd in the same words.

use std::collections::HashMap;

use bytes::Bytes;
use etcd_proto::{
    authpb,
    etcdserverpb::{
        self as pb, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op::Request as Op,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

/// Long enough that no lease ends during a session.
const LEASE_TTL: i64 = 600;

/// A connection, and the tokens of those who have logged in.
pub struct Session {
    channel: Channel,
    pub tokens: HashMap<String, String>,
}

type Answer = Result<String, Status>;

impl Session {
    pub async fn open(url: &str) -> Self {
        let channel = Endpoint::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
        Session { channel, tokens: HashMap::new() }
    }

    /// `who> command`; who is `-` without a token, and `?` with one that nobody has given out.
    pub async fn run(&mut self, line: &str) -> String {
        let (who, command) = line.split_once("> ").unwrap_or_else(|| panic!("not of the form `who> command`: {line}"));
        let words: Vec<&str> = command.split(' ').collect();
        let answer = match words[0] {
            "login" => self.login(words[1], words.get(2).copied().unwrap_or_default()).await,
            "auth" | "user" | "role" => self.users(who, &words).await,
            "put" | "get" | "del" | "txn" | "compact" => self.keys(who, command, &words).await,
            "lease" => self.leases(who, &words).await,
            "watch" => self.watch(who, &words).await,
            _ => self.member(who, command).await,
        };
        answer.unwrap_or_else(|status| format!("{:?} {}", status.code(), status.message()))
    }

    fn request<T>(&self, who: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = match who {
            "-" => None,
            "?" => Some("nobody-gave-this"),
            who => Some(self.tokens.get(who).map_or("nobody-gave-this", String::as_str)),
        };
        if let Some(token) = token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    async fn login(&mut self, name: &str, password: &str) -> Answer {
        let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
        let answer = AuthClient::new(self.channel.clone()).authenticate(request).await?;
        self.tokens.insert(name.into(), answer.into_inner().token);
        done()
    }

    async fn users(&self, who: &str, words: &[&str]) -> Answer {
        let mut auth = AuthClient::new(self.channel.clone());
        let text = |i: usize| words.get(i).copied().unwrap_or_default().to_owned();
        let (name, role) = (text(2), text(3));
        macro_rules! ask {
            ($method:ident, $message:expr) => {
                auth.$method(self.request(who, $message)).await?.into_inner()
            };
        }
        match [words[0], words[1]] {
            ["auth", "enable"] => {
                ask!(auth_enable, pb::AuthEnableRequest {});
            }
            ["auth", "disable"] => {
                ask!(auth_disable, pb::AuthDisableRequest {});
            }
            ["auth", "status"] => {
                let answer = ask!(auth_status, pb::AuthStatusRequest {});
                return Ok(format!("enabled={} revision={}", answer.enabled, answer.auth_revision));
            }
            ["user", "add"] => {
                let options = Some(authpb::UserAddOptions { no_password: words.len() == 3 });
                ask!(user_add, pb::AuthUserAddRequest { name, password: role, options, ..Default::default() });
            }
            ["user", "del"] => {
                ask!(user_delete, pb::AuthUserDeleteRequest { name });
            }
            ["user", "passwd"] => {
                let request = pb::AuthUserChangePasswordRequest { name, password: role, ..Default::default() };
                ask!(user_change_password, request);
            }
            ["user", "get"] => return Ok(listed(ask!(user_get, pb::AuthUserGetRequest { name }).roles)),
            ["user", "list"] => return Ok(listed(ask!(user_list, pb::AuthUserListRequest {}).users)),
            ["user", "grant"] => {
                ask!(user_grant_role, pb::AuthUserGrantRoleRequest { user: name, role });
            }
            ["user", "revoke"] => {
                ask!(user_revoke_role, pb::AuthUserRevokeRoleRequest { name, role });
            }
            ["role", "add"] => {
                ask!(role_add, pb::AuthRoleAddRequest { name });
            }
            ["role", "del"] => {
                ask!(role_delete, pb::AuthRoleDeleteRequest { role: name });
            }
            ["role", "list"] => return Ok(listed(ask!(role_list, pb::AuthRoleListRequest {}).roles)),
            ["role", "get"] => {
                let answer = ask!(role_get, pb::AuthRoleGetRequest { role: name });
                return Ok(listed(answer.perm.iter().map(permission)));
            }
            ["role", "allow"] => {
                let perm = words.get(3).map(|kind| authpb::Permission {
                    perm_type: ["r", "w", "rw"].iter().position(|k| k == kind).unwrap() as i32,
                    key: key(words, 4),
                    range_end: key(words, 5),
                });
                ask!(role_grant_permission, pb::AuthRoleGrantPermissionRequest { name, perm });
            }
            ["role", "forbid"] => {
                let (key, range_end) = (key(words, 3), key(words, 4));
                let request = pb::AuthRoleRevokePermissionRequest { role: name, key, range_end };
                ask!(role_revoke_permission, request);
            }
            other => panic!("{other:?}"),
        }
        done()
    }

    async fn keys(&self, who: &str, command: &str, words: &[&str]) -> Answer {
        let mut kv = KvClient::new(self.channel.clone());
        if words[0] == "compact" {
            let request = pb::CompactionRequest { revision: words[1].parse().unwrap(), physical: false };
            kv.compact(self.request(who, request)).await?;
            return done();
        }
        Ok(match operation(command) {
            Op::RequestRange(r) => pairs(&kv.range(self.request(who, r)).await?.into_inner().kvs),
            Op::RequestPut(r) => {
                let prev: Vec<_> = kv.put(self.request(who, r)).await?.into_inner().prev_kv.into_iter().collect();
                format!("ok {}", pairs(&prev)).trim_end().to_owned()
            }
            Op::RequestDeleteRange(r) => {
                let answer = kv.delete_range(self.request(who, r)).await?.into_inner();
                format!("deleted {} {}", answer.deleted, pairs(&answer.prev_kvs)).trim_end().to_owned()
            }
            Op::RequestTxn(r) => {
                let answer = kv.txn(self.request(who, r)).await?.into_inner();
                format!("succeeded={} responses={}", answer.succeeded, answer.responses.len())
            }
        })
    }

    async fn leases(&self, who: &str, words: &[&str]) -> Answer {
        let mut lease = LeaseClient::new(self.channel.clone());
        let id = words.get(2).map_or(0, |id| id.parse().unwrap());
        match words[1] {
            "grant" => {
                let request = pb::LeaseGrantRequest { id, ttl: LEASE_TTL };
                lease.lease_grant(self.request(who, request)).await?;
            }
            "revoke" => drop(lease.lease_revoke(self.request(who, pb::LeaseRevokeRequest { id })).await?),
            "renew" => {
                let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
                let mut answers = lease.lease_keep_alive(self.request(who, requests)).await?.into_inner();
                let answer = answers.message().await?.expect("one answer for one request");
                return Ok(format!("ttl={}", answer.ttl));
            }
            "ttl" => {
                let request = pb::LeaseTimeToLiveRequest { id, keys: words.get(3) == Some(&"keys") };
                let answer = lease.lease_time_to_live(self.request(who, request)).await?.into_inner();
                let keys = answer.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned());
                // etcd tells them in any order.
                let keys: std::collections::BTreeSet<String> = keys.collect();
                return Ok(format!("granted={} {}", answer.granted_ttl, listed(keys)));
            }
            _ => {
                let answer = lease.lease_leases(self.request(who, pb::LeaseLeasesRequest {})).await?.into_inner();
                let mut ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
                ids.sort_unstable();
                return Ok(listed(ids));
            }
        }
        done()
    }

    async fn watch(&self, who: &str, words: &[&str]) -> Answer {
        let create = pb::WatchCreateRequest { key: key(words, 1), range_end: key(words, 2), ..Default::default() };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The stream stays open until the answer is there.
        let requests = futures::StreamExt::chain(tokio_stream::iter([request]), tokio_stream::pending());
        let mut watch = WatchClient::new(self.channel.clone());
        let mut answers = watch.watch(self.request(who, requests)).await?.into_inner();
        let answer = answers.message().await?.expect("every request is answered");
        Ok(if answer.canceled { format!("canceled {} {}", answer.watch_id, answer.cancel_reason) } else { "ok".into() })
    }

    async fn member(&self, who: &str, command: &str) -> Answer {
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        match command {
            "status" => drop(maintenance.status(self.request(who, pb::StatusRequest {})).await?),
            "alarms" => drop(maintenance.alarm(self.request(who, pb::AlarmRequest::default())).await?),
            "hash" => drop(maintenance.hash_kv(self.request(who, pb::HashKvRequest { revision: 0 })).await?),
            "disarm" => {
                let request = pb::AlarmRequest { action: 2, ..Default::default() };
                drop(maintenance.alarm(self.request(who, request)).await?);
            }
            "members" => {
                let mut cluster = ClusterClient::new(self.channel.clone());
                drop(cluster.member_list(self.request(who, pb::MemberListRequest::default())).await?);
            }
            other => panic!("no such command: {other}"),
        }
        done()
    }
}

/// `get KEY [END]`, `put KEY VALUE [LEASE] [prev]`, `del KEY [END] [prev]`,
/// `txn KEY: OPERATION, OPERATION | OPERATION`, which goes the first way if the key does not exist.
fn operation(text: &str) -> Op {
    let words: Vec<&str> = text.split(' ').collect();
    let prev_kv = words.last() == Some(&"prev");
    let words = if prev_kv { &words[..words.len() - 1] } else { &words[..] };
    match words[0] {
        "get" => {
            Op::RequestRange(pb::RangeRequest { key: key(words, 1), range_end: key(words, 2), ..Default::default() })
        }
        "put" => Op::RequestPut(pb::PutRequest {
            key: key(words, 1),
            value: key(words, 2),
            lease: words.get(3).map_or(0, |lease| lease.parse().unwrap()),
            prev_kv,
            ..Default::default()
        }),
        "del" => {
            Op::RequestDeleteRange(pb::DeleteRangeRequest { key: key(words, 1), range_end: key(words, 2), prev_kv })
        }
        _ => {
            let (compared, ops) = text.strip_prefix("txn ").unwrap().split_once(": ").unwrap();
            let (success, failure) = ops.split_once(" | ").unwrap_or((ops, ""));
            let list = |text: &str| {
                let texts = text.split(", ").filter(|text| !text.is_empty());
                texts.map(|text| pb::RequestOp { request: Some(operation(text)) }).collect()
            };
            let compare = pb::Compare {
                key: compared.to_owned().into(),
                target: pb::compare::CompareTarget::Create.into(),
                ..Default::default()
            };
            Op::RequestTxn(pb::TxnRequest { compare: vec![compare], success: list(success), failure: list(failure) })
        }
    }
}

/// A word as a key; `\0` stands for the byte 0.
fn key(words: &[&str], i: usize) -> Bytes {
    words.get(i).map_or(Bytes::new(), |word| word.replace("\\0", "\0").into())
}

fn permission(permission: &authpb::Permission) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "\\0");
    let (key, end) = (text(&permission.key), text(&permission.range_end));
    format!("{}:{key}..{end}", ["r", "w", "rw"][permission.perm_type as usize])
}

fn pairs(kvs: &[etcd_proto::mvccpb::KeyValue]) -> String {
    let pair = |kv: &etcd_proto::mvccpb::KeyValue| {
        format!("{}={}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value))
    };
    kvs.iter().map(pair).collect::<Vec<_>>().join(" ")
}

fn listed(names: impl IntoIterator<Item = impl ToString>) -> String {
    format!("[{}]", names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" "))
}

fn done() -> Answer {
    Ok("ok".to_owned())
}
