//! Commands as bytes. The first byte says which command; fields follow in the order of their declaration.

use bytes::Bytes;
use store_api::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, LeaseId, PutRequest, RangeRequest, RequestOp, SortOrder,
    SortTarget, TxnRequest,
};

use super::Command;
use crate::{
    check::MAX_TXN_DEPTH,
    codec::{DecodeError, Reader, put_bytes, put_i64, put_u64},
};

impl Command {
    /// The command's bytes, in one exact allocation; values in the decoded command share it.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.size_hint());
        match self {
            Command::Put(put) => tagged(&mut out, 1, |o| put_put(o, put)),
            Command::DeleteRange(delete) => tagged(&mut out, 2, |o| put_delete(o, delete)),
            Command::Txn(txn) => tagged(&mut out, 3, |o| put_txn(o, txn)),
            Command::Compact(revision) => tagged(&mut out, 4, |o| put_i64(o, *revision)),
            Command::LeaseGrant { id, ttl } => tagged(&mut out, 5, |o| {
                put_i64(o, *id);
                put_i64(o, *ttl);
            }),
            Command::LeaseRevoke { id } => tagged(&mut out, 6, |o| put_i64(o, *id)),
            Command::LeaseCheckpoint(left) => tagged(&mut out, 7, |o| put_left(o, left)),
        }
        out.into()
    }

    /// Reads what [`Command::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let command = match r.u8()? {
            1 => Command::Put(put(r)?),
            2 => Command::DeleteRange(delete(r)?),
            3 => Command::Txn(txn(r, 0)?),
            4 => Command::Compact(r.i64()?),
            5 => Command::LeaseGrant { id: r.i64()?, ttl: r.i64()? },
            6 => Command::LeaseRevoke { id: r.i64()? },
            7 => Command::LeaseCheckpoint(left(r)?),
            _ => return Err(DecodeError("unknown command")),
        };
        if reader.is_empty() { Ok(command) } else { Err(DecodeError("bytes after the command")) }
    }

    /// Bytes that the encoded command takes at most, near enough to be a sensible allocation.
    pub fn size_hint(&self) -> usize {
        match self {
            Command::Put(put) => 24 + put.key.len() + put.value.len(),
            Command::DeleteRange(delete) => 24 + delete.key.len() + delete.range_end.len(),
            Command::Txn(txn) => 1 + txn_size(txn),
            Command::LeaseCheckpoint(left) => 24 + 20 * left.len(),
            _ => 24,
        }
    }
}

/// Leases, each with what was left of it.
pub(crate) fn put_left(out: &mut Vec<u8>, left: &[(LeaseId, i64)]) {
    put_u64(out, left.len() as u64);
    for (id, left) in left {
        put_i64(out, *id);
        put_i64(out, *left);
    }
}

/// Reads what [`put_left`] wrote.
pub(crate) fn left(r: &mut Reader) -> Result<Vec<(LeaseId, i64)>, DecodeError> {
    (0..r.count()?).map(|_| Ok((r.i64()?, r.i64()?))).collect()
}

fn txn_size(txn: &TxnRequest) -> usize {
    let compares = txn.compare.iter().map(|c| {
        let value = if let CompareTarget::Value(value) = &c.target { value.len() } else { 0 };
        24 + c.key.len() + c.range_end.len() + value
    });
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        RequestOp::Range(r) => 32 + r.key.len() + r.range_end.len(),
        RequestOp::Put(p) => 24 + p.key.len() + p.value.len(),
        RequestOp::DeleteRange(d) => 24 + d.key.len() + d.range_end.len(),
        RequestOp::Txn(t) => 1 + txn_size(t),
    });
    16 + compares.sum::<usize>() + ops.sum::<usize>()
}

fn tagged(out: &mut Vec<u8>, tag: u8, rest: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    rest(out);
}

fn flags<const N: usize>(bits: [bool; N]) -> u8 {
    bits.iter().enumerate().fold(0, |sum, (i, bit)| sum | (u8::from(*bit) << i))
}

fn flag_byte(r: &mut Reader, known: u8) -> Result<u8, DecodeError> {
    let byte = r.u8()?;
    if byte & !known == 0 { Ok(byte) } else { Err(DecodeError("unknown flags")) }
}

fn put_put(out: &mut Vec<u8>, put: &PutRequest) {
    out.push(flags([put.prev_kv, put.ignore_value, put.ignore_lease]));
    put_i64(out, put.lease);
    put_bytes(out, &put.key);
    put_bytes(out, &put.value);
}

fn put(r: &mut Reader) -> Result<PutRequest, DecodeError> {
    let flags = flag_byte(r, 7)?;
    let (lease, key, value) = (r.i64()?, r.bytes()?, r.bytes()?);
    let (prev_kv, ignore_value, ignore_lease) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
    Ok(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
}

fn put_delete(out: &mut Vec<u8>, delete: &DeleteRangeRequest) {
    out.push(flags([delete.prev_kv]));
    put_bytes(out, &delete.key);
    put_bytes(out, &delete.range_end);
}

fn delete(r: &mut Reader) -> Result<DeleteRangeRequest, DecodeError> {
    let flags = flag_byte(r, 1)?;
    Ok(DeleteRangeRequest { key: r.bytes()?, range_end: r.bytes()?, prev_kv: flags & 1 != 0 })
}

fn put_range(out: &mut Vec<u8>, range: &RangeRequest) {
    out.push(flags([range.serializable, range.keys_only, range.count_only]));
    out.push(range.sort_order as u8);
    out.push(range.sort_target as u8);
    put_bytes(out, &range.key);
    put_bytes(out, &range.range_end);
    for n in [
        range.limit,
        range.revision,
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ] {
        put_i64(out, n);
    }
}

fn range(r: &mut Reader) -> Result<RangeRequest, DecodeError> {
    let flags = flag_byte(r, 7)?;
    let sort_order = match r.u8()? {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        _ => return Err(DecodeError("unknown sort order")),
    };
    let sort_target = match r.u8()? {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        _ => return Err(DecodeError("unknown sort target")),
    };
    Ok(RangeRequest {
        serializable: flags & 1 != 0,
        keys_only: flags & 2 != 0,
        count_only: flags & 4 != 0,
        skip_count: false,
        sort_order,
        sort_target,
        key: r.bytes()?,
        range_end: r.bytes()?,
        limit: r.i64()?,
        revision: r.i64()?,
        min_mod_revision: r.i64()?,
        max_mod_revision: r.i64()?,
        min_create_revision: r.i64()?,
        max_create_revision: r.i64()?,
    })
}

fn put_compare(out: &mut Vec<u8>, compare: &Compare) {
    out.push(match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    });
    put_bytes(out, &compare.key);
    put_bytes(out, &compare.range_end);
    match &compare.target {
        CompareTarget::Version(n) => tagged(out, 0, |o| put_i64(o, *n)),
        CompareTarget::CreateRevision(n) => tagged(out, 1, |o| put_i64(o, *n)),
        CompareTarget::ModRevision(n) => tagged(out, 2, |o| put_i64(o, *n)),
        CompareTarget::Value(value) => tagged(out, 3, |o| put_bytes(o, value)),
        CompareTarget::Lease(n) => tagged(out, 4, |o| put_i64(o, *n)),
    }
}

fn compare(r: &mut Reader) -> Result<Compare, DecodeError> {
    let result = match r.u8()? {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        _ => return Err(DecodeError("unknown compare result")),
    };
    let (key, range_end) = (r.bytes()?, r.bytes()?);
    let target = match r.u8()? {
        0 => CompareTarget::Version(r.i64()?),
        1 => CompareTarget::CreateRevision(r.i64()?),
        2 => CompareTarget::ModRevision(r.i64()?),
        3 => CompareTarget::Value(r.bytes()?),
        4 => CompareTarget::Lease(r.i64()?),
        _ => return Err(DecodeError("unknown compare target")),
    };
    Ok(Compare { key, range_end, result, target })
}

fn put_txn(out: &mut Vec<u8>, txn: &TxnRequest) {
    put_u64(out, txn.compare.len() as u64);
    txn.compare.iter().for_each(|c| put_compare(out, c));
    for ops in [&txn.success, &txn.failure] {
        put_u64(out, ops.len() as u64);
        for op in ops {
            match op {
                RequestOp::Range(range) => tagged(out, 0, |o| put_range(o, range)),
                RequestOp::Put(put) => tagged(out, 1, |o| put_put(o, put)),
                RequestOp::DeleteRange(delete) => tagged(out, 2, |o| put_delete(o, delete)),
                RequestOp::Txn(txn) => tagged(out, 3, |o| put_txn(o, txn)),
            }
        }
    }
}

fn txn(r: &mut Reader, depth: usize) -> Result<TxnRequest, DecodeError> {
    if depth > MAX_TXN_DEPTH {
        return Err(DecodeError("transactions nested too deeply"));
    }
    let compare = (0..r.count()?).map(|_| compare(r)).collect::<Result<_, _>>()?;
    let mut ops = || {
        (0..r.count()?)
            .map(|_| {
                Ok(match r.u8()? {
                    0 => RequestOp::Range(range(r)?),
                    1 => RequestOp::Put(put(r)?),
                    2 => RequestOp::DeleteRange(delete(r)?),
                    3 => RequestOp::Txn(txn(r, depth + 1)?),
                    _ => return Err(DecodeError("unknown operation")),
                })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(TxnRequest { compare, success: ops()?, failure: ops()? })
}
