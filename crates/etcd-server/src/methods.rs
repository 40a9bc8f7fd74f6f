//! Every method that is served: its kind, and the paths below `/v3/` at which the JSON gateway has it.

/// How gRPC's metrics call the kinds of methods.
const UNARY: &str = "unary";
const SERVER_STREAM: &str = "server_stream";
const BIDI_STREAM: &str = "bidi_stream";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub name: &'static str,
    pub kind: &'static str,
    /// None for a method that JSON cannot ask for.
    pub paths: &'static [&'static str],
}

pub(crate) struct Service {
    pub name: &'static str,
    pub methods: &'static [Method],
}

const fn unary(name: &'static str, paths: &'static [&'static str]) -> Method {
    Method { name, kind: UNARY, paths }
}

const fn stream(name: &'static str, kind: &'static str, paths: &'static [&'static str]) -> Method {
    Method { name, kind, paths }
}

const SERVICES: [Service; 9] = [
    Service {
        name: "etcdserverpb.KV",
        methods: &[
            unary("Range", &["kv/range"]),
            stream("RangeStream", SERVER_STREAM, &[]),
            unary("Put", &["kv/put"]),
            unary("DeleteRange", &["kv/deleterange"]),
            unary("Txn", &["kv/txn"]),
            unary("Compact", &["kv/compaction"]),
        ],
    },
    Service { name: "etcdserverpb.Watch", methods: &[stream("Watch", BIDI_STREAM, &["watch"])] },
    Service {
        name: "etcdserverpb.Lease",
        methods: &[
            unary("LeaseGrant", &["lease/grant"]),
            unary("LeaseRevoke", &["lease/revoke", "kv/lease/revoke"]),
            stream("LeaseKeepAlive", BIDI_STREAM, &["lease/keepalive"]),
            unary("LeaseTimeToLive", &["lease/timetolive", "kv/lease/timetolive"]),
            unary("LeaseLeases", &["lease/leases", "kv/lease/leases"]),
        ],
    },
    Service {
        name: "etcdserverpb.Cluster",
        methods: &[
            unary("MemberAdd", &["cluster/member/add"]),
            unary("MemberRemove", &["cluster/member/remove"]),
            unary("MemberUpdate", &["cluster/member/update"]),
            unary("MemberList", &["cluster/member/list"]),
            unary("MemberPromote", &["cluster/member/promote"]),
        ],
    },
    Service {
        name: "etcdserverpb.Maintenance",
        methods: &[
            unary("Alarm", &["maintenance/alarm"]),
            unary("Status", &["maintenance/status"]),
            unary("Defragment", &["maintenance/defragment"]),
            unary("Hash", &["maintenance/hash"]),
            unary("HashKV", &["maintenance/hashkv"]),
            stream("Snapshot", SERVER_STREAM, &["maintenance/snapshot"]),
            unary("MoveLeader", &["maintenance/transfer-leadership"]),
            unary("Downgrade", &["maintenance/downgrade"]),
        ],
    },
    Service {
        name: "etcdserverpb.Auth",
        methods: &[
            unary("AuthEnable", &["auth/enable"]),
            unary("AuthDisable", &["auth/disable"]),
            unary("AuthStatus", &["auth/status"]),
            unary("Authenticate", &["auth/authenticate"]),
            unary("UserAdd", &["auth/user/add"]),
            unary("UserGet", &["auth/user/get"]),
            unary("UserList", &["auth/user/list"]),
            unary("UserDelete", &["auth/user/delete"]),
            unary("UserChangePassword", &["auth/user/changepw"]),
            unary("UserGrantRole", &["auth/user/grant"]),
            unary("UserRevokeRole", &["auth/user/revoke"]),
            unary("RoleAdd", &["auth/role/add"]),
            unary("RoleGet", &["auth/role/get"]),
            unary("RoleList", &["auth/role/list"]),
            unary("RoleDelete", &["auth/role/delete"]),
            unary("RoleGrantPermission", &["auth/role/grant"]),
            unary("RoleRevokePermission", &["auth/role/revoke"]),
        ],
    },
    Service { name: "grpc.health.v1.Health", methods: &[unary("Check", &[]), stream("Watch", SERVER_STREAM, &[])] },
    Service { name: "v3lockpb.Lock", methods: &[unary("Lock", &["lock/lock"]), unary("Unlock", &["lock/unlock"])] },
    Service {
        name: "v3electionpb.Election",
        methods: &[
            unary("Campaign", &["election/campaign"]),
            unary("Proclaim", &["election/proclaim"]),
            unary("Leader", &["election/leader"]),
            stream("Observe", SERVER_STREAM, &["election/observe"]),
            unary("Resign", &["election/resign"]),
        ],
    },
];

/// The method at a gRPC path, `/service/method`.
pub(crate) fn at(path: &str) -> Option<(&'static str, Method)> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    let service = SERVICES.iter().find(|known| known.name == service)?;
    let method = service.methods.iter().find(|known| known.name == name)?;
    Some((service.name, *method))
}

/// All methods with their services.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Method)> {
    SERVICES.iter().flat_map(|service| service.methods.iter().map(|method| (service.name, *method)))
}

/// The method at a path of the JSON gateway, without the version.
pub(crate) fn at_gateway(path: &str) -> Option<(&'static str, Method)> {
    SERVICES.iter().find_map(|service| {
        let method = service.methods.iter().find(|method| method.paths.contains(&path))?;
        Some((service.name, *method))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_by_both_kinds_of_paths() {
        let name = |found: Option<(&'static str, Method)>| found.map(|(service, method)| (service, method.name));
        assert_eq!(name(at("/etcdserverpb.KV/Range")), Some(("etcdserverpb.KV", "Range")));
        assert_eq!(name(at("/etcdserverpb.KV/Nothing")), None);
        assert_eq!(name(at("/metrics")), None);
        assert_eq!(name(at_gateway("kv/lease/revoke")), Some(("etcdserverpb.Lease", "LeaseRevoke")));
        assert_eq!(name(at_gateway("kv/nothing")), None);
    }
}
