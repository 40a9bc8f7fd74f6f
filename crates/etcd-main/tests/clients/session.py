"""A session with the library etcd3 (grpcio). What it prints holds for any etcd: no ids, no times.

Usage: session.py PORT, of a member that was just made.
"""

import io
import sys
import threading

import etcd3
import etcd3.etcdrpc as rpc
import grpc
from etcd3.etcdrpc.auth_pb2 import Permission

PORT = int(sys.argv[1])
WAIT = 20


def say(*words):
    print(*words, flush=True)


def told(what, call):
    """What a call answers, or the code and the words of its refusal."""
    try:
        say(what, call())
    except grpc.RpcError as error:
        say(what, error.code().name, error.details())
    except etcd3.exceptions.Etcd3Exception as error:
        say(what, type(error).__name__)


def meta(pair):
    value, of = pair
    return None if value is None else (of.key, value, of.create_revision, of.mod_revision, of.version, of.lease_id != 0)


def reads(client):
    for n in range(5):
        say("put", client.put(f"fruit/{n}", str(9 - n)).header.revision)
    client.put("fruit/1", "again")
    say("get", meta(client.get("fruit/1")), meta(client.get("fruit/1", serializable=True)), client.get("none"))
    say("prefix", [meta(pair) for pair in client.get_prefix("fruit/")])
    say("keys only", [meta(pair) for pair in client.get_prefix("fruit/", keys_only=True)])
    say("range", [meta(pair) for pair in client.get_range("fruit/1", "fruit/3")])
    for target in ["key", "version", "create", "mod", "value"]:
        for order in ["ascend", "descend"]:
            found = client.get_prefix("fruit/", sort_order=order, sort_target=target)
            say("sorted by", target, order, [of.key for _, of in found])
    say("all", len(list(client.get_all())), "previous", client.put("fruit/0", "x", prev_kv=True).prev_kv.value)
    answer = client.kvstub.Range(rpc.RangeRequest(key=b"fruit/", range_end=b"fruit0", limit=2, revision=3))
    say("a limit", [kv.key for kv in answer.kvs], answer.more, answer.count)
    say("count", client.kvstub.Range(rpc.RangeRequest(key=b"\0", range_end=b"\0", count_only=True)).count)


def changes(client):
    say("delete", client.delete("fruit/4"), client.delete("fruit/4"), client.delete_prefix("fruit/3").deleted)
    say("if not exists", client.put_if_not_exists("once", "1"), client.put_if_not_exists("once", "2"))
    say("replace", client.replace("once", "1", "3"), client.replace("once", "1", "4"), client.get("once")[0])
    of = client.transactions
    inner = of.txn(compare=[of.value("once") == "3"], success=[of.put("inner", "yes")], failure=[])
    for wanted in ["3", "5"]:
        ok, answers = client.transaction(
            compare=[of.value("once") == wanted, of.version("once") > 0, of.create("none") == 0],
            success=[of.put("t/1", "a"), of.get("once"), inner],
            failure=[of.delete("t/1"), of.get("t/1")],
        )
        shown = [[meta(pair) for pair in answer] if isinstance(answer, list) else type(answer).__name__ for answer in answers]
        say("txn", ok, shown)
    twice = [of.put("t/2", "a"), of.put("t/2", "b")]
    told("the same key twice", lambda: client.transaction(compare=[], success=twice, failure=[]))
    told("no key", lambda: client.put("", "x"))
    told("too large", lambda: client.put("large", "x" * (1600 << 10)))
    told("too large for a message", lambda: client.put("large", "x" * (3 << 20)))
    packed = grpc.insecure_channel(f"127.0.0.1:{PORT}", compression=grpc.Compression.Gzip)
    for size in [1000, 1600 << 10, 3 << 20]:
        put = rpc.PutRequest(key=b"packed", value=b"x" * size)
        told(f"{size} bytes packed", lambda: rpc.KVStub(packed).Put(put).header.revision - client.get("packed")[1].mod_revision)
    told("a packed lease", lambda: rpc.LeaseStub(packed).LeaseGrant(rpc.LeaseGrantRequest(TTL=300)).TTL)
    told("packed members", lambda: len(rpc.ClusterStub(packed).MemberList(rpc.MemberListRequest()).members))
    packed.close()


def watches(client):
    events, cancel = client.watch_prefix("w/", prev_kv=True)
    client.put("w/1", "a")
    client.put("w/1", "b")
    client.delete("w/1")
    for _ in range(3):
        event = next(events)
        say("event", type(event).__name__, event.key, event.value, event.prev_value, event.mod_revision)
    cancel()
    first = client.put("w/2", "1").header.revision
    client.put("w/2", "2")
    events, cancel = client.watch("w/2", start_revision=first)
    say("history", [(event.value, event.mod_revision - first) for event in (next(events), next(events))])
    cancel()
    seen, done = [], threading.Event()
    watch = client.add_watch_callback("w/3", lambda answer: (seen.extend(answer.events), done.set()))
    client.put("w/3", "c")
    say("called back", done.wait(WAIT), [event.value for event in seen])
    client.cancel_watch(watch)


def leases(client):
    lease = client.lease(300)
    client.put("l/1", "x", lease=lease)
    say("lease", lease.ttl, lease.granted_ttl, lease.remaining_ttl > 290, lease.keys, meta(client.get("l/1"))[-1])
    say("refreshed", [answer.TTL for answer in lease.refresh()])
    lease.revoke()
    say("revoked", client.get("l/1"), lease.granted_ttl, lease.remaining_ttl)
    told("of no lease", lambda: client.put("l/2", "x", lease=12345))
    told("granted twice", lambda: [client.lease(300, 7).id, client.lease(300, 7).id])
    told("no such lease", lambda: client.revoke_lease(8))
    short = client.lease(1)
    events, cancel = client.watch("l/3")
    client.put("l/3", "x", lease=short)
    say("it ends by itself", [type(next(events)).__name__ for _ in range(2)])
    cancel()
    with client.lock("door", ttl=30) as lock:
        say("lock", lock.is_acquired(), client.lock("door", ttl=30).acquire(timeout=0))
    say("unlocked", lock.is_acquired(), client.lock("door", ttl=30).acquire(timeout=WAIT))


def upkeep(client):
    now = client.put("u", "1").header.revision
    client.compact(now)
    told("compacted again", lambda: client.compact(now))
    told("compacted in the future", lambda: client.compact(now + 100))
    events, cancel = client.watch("u", start_revision=1)
    told("a watch from before", lambda: next(events))
    old = rpc.RangeRequest(key=b"u", revision=now - 1)
    told("a read of before", lambda: client.kvstub.Range(old).count)
    members = list(client.members)
    say("members", [(m.name, len(m.peer_urls), m.client_urls == [f"http://127.0.0.1:{PORT}"]) for m in members])
    status = client.status()
    say("status", status.version, status.leader.id == members[0].id, status.db_size > 0, status.raft_term > 0)
    say("alarms", list(client.list_alarms()), [a.alarm_type for a in client.create_alarm(members[0].id)])
    told("no space", lambda: client.put("u", "2"))
    say("disarmed", len(list(client.disarm_alarm(members[0].id))), list(client.list_alarms()))
    client.defragment()
    backup = io.BytesIO()
    client.snapshot(backup)
    say("snapshot", backup.tell() > 1000, backup.tell() % 512, "hash", client.hash() > 0)


def login(user, password):
    client = etcd3.client(port=PORT, user=user, password=password)
    # grpcio gives credentials to connections with TLS only; the token goes along as metadata, too.
    client.call_credentials = None
    return client


def users(client):
    auth = rpc.AuthStub(client.channel)
    for name, password in [("root", "secret"), ("alice", "pass")]:
        auth.UserAdd(rpc.AuthUserAddRequest(name=name, password=password))
    told("twice", lambda: auth.UserAdd(rpc.AuthUserAddRequest(name="root", password="x")))
    auth.RoleAdd(rpc.AuthRoleAddRequest(name="own"))
    granted = Permission(permType=Permission.READWRITE, key=b"own/", range_end=b"own0")
    auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="own", perm=granted))
    auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="alice", role="own"))
    told("no root", lambda: auth.AuthEnable(rpc.AuthEnableRequest()))
    auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    auth.AuthEnable(rpc.AuthEnableRequest())
    told("nobody", lambda: client.put("own/1", "x"))
    told("a wrong password", lambda: login("alice", "x"))
    alice = login("alice", "pass")
    say("alice", alice.put("own/1", "x") is not None, alice.get("own/1")[0])
    told("alice elsewhere", lambda: alice.put("other", "x"))
    told("alice looks", lambda: alice.get("other"))
    root = login("root", "secret")
    say("root", root.put("other", "x") is not None)
    listed = rpc.AuthStub(root.channel)
    call = dict(metadata=root.metadata)
    say("users", list(listed.UserList(rpc.AuthUserListRequest(), **call).users))
    say("roles", list(listed.RoleList(rpc.AuthRoleListRequest(), **call).roles))
    listed.AuthDisable(rpc.AuthDisableRequest(), **call)
    say("open again", client.get("other")[0])


with etcd3.client(port=PORT, timeout=WAIT) as connection:
    for part in [reads, changes, watches, leases, upkeep, users]:
        say("--", part.__name__)
        part(connection)
