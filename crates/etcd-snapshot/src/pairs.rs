//! Facts as keys and values of their buckets, and back.
//!
//! Knows the bytes of each bucket but `key`'s.

use crate::{
    facts::{Alarm, Facts, Lease, Member},
    record::{decode_revision, encode_revision},
    wire::{Field, Fields, put_int},
};

pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

pub const KEY: &str = "key";
pub const ALARM: &str = "alarm";
pub const AUTH: &str = "auth";
pub const AUTH_ROLES: &str = "authRoles";
pub const AUTH_USERS: &str = "authUsers";
pub const CLUSTER: &str = "cluster";
pub const LEASE: &str = "lease";
pub const MEMBERS: &str = "members";
pub const MEMBERS_REMOVED: &str = "members_removed";
pub const META: &str = "meta";

/// The buckets in the order of their names, those before `key` and those after it.
pub const BEFORE: [&str; 5] = [ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER];
pub const AFTER: [&str; 4] = [LEASE, MEMBERS, MEMBERS_REMOVED, META];

const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const CONF_STATE: &[u8] = b"confState";
const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
const STORAGE_VERSION: &[u8] = b"storageVersion";
const CLUSTER_VERSION: &[u8] = b"clusterVersion";
const DOWNGRADE: &[u8] = b"downgrade";
const REMOVED: &[u8] = b"removed";

/// A bucket's content, in the order of its keys.
pub fn encode(facts: &Facts, bucket: &str) -> Pairs {
    let mut pairs: Pairs = match bucket {
        ALARM => facts.alarms.iter().map(|alarm| (encode_alarm(alarm), Vec::new())).collect(),
        AUTH => facts.auth.clone(),
        AUTH_ROLES => facts.auth_roles.clone(),
        AUTH_USERS => facts.auth_users.clone(),
        CLUSTER => cluster(facts),
        LEASE => facts.leases.iter().map(encode_lease).collect(),
        MEMBERS => facts.members.iter().map(|member| (id_key(member.id), json(member))).collect(),
        MEMBERS_REMOVED => facts.removed_members.iter().map(|id| (id_key(*id), REMOVED.to_vec())).collect(),
        META => meta(facts),
        _ => unreachable!("no such bucket"),
    };
    pairs.sort();
    pairs
}

fn cluster(facts: &Facts) -> Pairs {
    let version =
        facts.cluster_version.as_ref().map(|version| (CLUSTER_VERSION.to_vec(), version.clone().into_bytes()));
    let downgrade = facts.downgrade.as_ref().map(|asked| (DOWNGRADE.to_vec(), asked.clone()));
    version.into_iter().chain(downgrade).collect()
}

fn meta(facts: &Facts) -> Pairs {
    let mut pairs = Vec::new();
    let mut put = |key: &[u8], value: Vec<u8>| pairs.push((key.to_vec(), value));
    for (key, n) in [(CONSISTENT_INDEX, facts.consistent_index), (TERM, facts.term)] {
        if n != 0 {
            put(key, n.to_be_bytes().to_vec());
        }
    }
    for (key, revision) in [(SCHEDULED_COMPACT, facts.scheduled_compact), (FINISHED_COMPACT, facts.finished_compact)] {
        if revision != 0 {
            put(key, encode_revision(revision, 0).to_vec());
        }
    }
    if let Some(state) = &facts.conf_state {
        put(CONF_STATE, json(state));
    }
    if let Some(version) = &facts.storage_version {
        put(STORAGE_VERSION, version.clone().into_bytes());
    }
    pairs
}

/// Takes one key of a bucket. What this version does not know is passed over, as etcd does.
pub fn decode(facts: &mut Facts, bucket: &str, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    let raw = || (key.to_vec(), value.to_vec());
    match bucket {
        ALARM => facts.alarms.push(decode_alarm(key)?),
        AUTH => facts.auth.push(raw()),
        AUTH_ROLES => facts.auth_roles.push(raw()),
        AUTH_USERS => facts.auth_users.push(raw()),
        CLUSTER if key == CLUSTER_VERSION => facts.cluster_version = Some(text(value)?),
        CLUSTER if key == DOWNGRADE => facts.downgrade = Some(value.to_vec()),
        LEASE => facts.leases.push(decode_lease(value)?),
        MEMBERS => facts.members.push(decode_member(key, value)?),
        MEMBERS_REMOVED => facts.removed_members.push(id_of(key)?),
        META => decode_meta(facts, key, value)?,
        _ => {}
    }
    Ok(())
}

fn decode_meta(facts: &mut Facts, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    match key {
        CONSISTENT_INDEX => facts.consistent_index = number(value)?,
        TERM => facts.term = number(value)?,
        SCHEDULED_COMPACT => facts.scheduled_compact = decode_revision(value)?.0,
        FINISHED_COMPACT => facts.finished_compact = decode_revision(value)?.0,
        CONF_STATE => facts.conf_state = Some(serde_json::from_slice(value).map_err(|_| "not a raftpb.ConfState")?),
        STORAGE_VERSION => facts.storage_version = Some(text(value)?),
        _ => {}
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers, strings and lists always have a JSON form")
}

fn text(value: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(value.to_vec()).map_err(|_| "not a text")
}

fn number(value: &[u8]) -> Result<u64, &'static str> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| "not a number of eight bytes")
}

/// An id as etcd prints it: hex without leading zeros.
fn id_key(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

fn id_of(key: &[u8]) -> Result<u64, &'static str> {
    let id = std::str::from_utf8(key).ok().and_then(|key| u64::from_str_radix(key, 16).ok());
    id.ok_or("not a member's id")
}

fn decode_member(key: &[u8], value: &[u8]) -> Result<Member, &'static str> {
    let member: Member = serde_json::from_slice(value).map_err(|_| "not a membership.Member")?;
    if member.id == id_of(key)? { Ok(member) } else { Err("another member's id") }
}

fn encode_alarm(alarm: &Alarm) -> Vec<u8> {
    let mut out = Vec::new();
    put_int(&mut out, 1, alarm.member.cast_signed());
    put_int(&mut out, 2, alarm.kind.into());
    out
}

fn decode_alarm(key: &[u8]) -> Result<Alarm, &'static str> {
    let mut alarm = Alarm::default();
    let mut fields = Fields(key);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Int(n)) => alarm.member = n.cast_unsigned(),
            (2, Field::Int(n)) => alarm.kind = i32::try_from(n).map_err(|_| "no kind of alarm")?,
            (1 | 2, _) => return Err("a field of another type"),
            _ => {}
        }
    }
    Ok(alarm)
}

fn encode_lease(lease: &Lease) -> (Vec<u8>, Vec<u8>) {
    let mut out = Vec::new();
    for (field, n) in [(1, lease.id), (2, lease.ttl), (3, lease.remaining_ttl)] {
        put_int(&mut out, field, n);
    }
    (lease.id.to_be_bytes().to_vec(), out)
}

fn decode_lease(value: &[u8]) -> Result<Lease, &'static str> {
    let mut lease = Lease::default();
    let mut fields = Fields(value);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Int(n)) => lease.id = n,
            (2, Field::Int(n)) => lease.ttl = n,
            (3, Field::Int(n)) => lease.remaining_ttl = n,
            (1..=3, _) => return Err("a field of another type"),
            _ => {}
        }
    }
    Ok(lease)
}
