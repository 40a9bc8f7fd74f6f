//! The wire's messages to the store's types and back. Values move by reference count; only what a store will keep is
//! copied once, so that a small value does not hold the buffer it arrived in.

use bytes::Bytes;
use etcd_proto::{etcdserverpb as pb, mvccpb};
use store_api as api;
use tonic::Status;

use crate::{codes, fast::reply::inner_head};

pub(crate) fn range_request(r: pb::RangeRequest) -> Result<api::RangeRequest, Status> {
    use pb::range_request::{SortOrder, SortTarget};
    let order = match SortOrder::try_from(r.sort_order).map_err(|_| codes::invalid_sort_option())? {
        SortOrder::None => api::SortOrder::None,
        SortOrder::Ascend => api::SortOrder::Ascend,
        SortOrder::Descend => api::SortOrder::Descend,
    };
    let target = match SortTarget::try_from(r.sort_target).map_err(|_| codes::invalid_sort_option())? {
        SortTarget::Key => api::SortTarget::Key,
        SortTarget::Version => api::SortTarget::Version,
        SortTarget::Create => api::SortTarget::Create,
        SortTarget::Mod => api::SortTarget::Mod,
        SortTarget::Value => api::SortTarget::Value,
    };
    Ok(api::RangeRequest {
        key: r.key,
        range_end: r.range_end,
        limit: r.limit,
        revision: r.revision,
        sort_order: order,
        sort_target: target,
        serializable: r.serializable,
        keys_only: r.keys_only,
        count_only: r.count_only,
        skip_count: false,
        min_mod_revision: r.min_mod_revision,
        max_mod_revision: r.max_mod_revision,
        min_create_revision: r.min_create_revision,
        max_create_revision: r.max_create_revision,
    })
}

pub(crate) fn put_request(r: pb::PutRequest) -> api::PutRequest {
    api::PutRequest {
        key: Bytes::copy_from_slice(&r.key),
        value: Bytes::copy_from_slice(&r.value),
        lease: r.lease,
        prev_kv: r.prev_kv,
        ignore_value: r.ignore_value,
        ignore_lease: r.ignore_lease,
    }
}

pub(crate) fn delete_request(r: pb::DeleteRangeRequest) -> api::DeleteRangeRequest {
    api::DeleteRangeRequest { key: r.key, range_end: r.range_end, prev_kv: r.prev_kv }
}

pub(crate) fn txn_request(r: pb::TxnRequest) -> Result<api::TxnRequest, Status> {
    Ok(api::TxnRequest {
        compare: r.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: r.success.into_iter().map(operation).collect::<Result<_, _>>()?,
        failure: r.failure.into_iter().map(operation).collect::<Result<_, _>>()?,
    })
}

fn operation(op: pb::RequestOp) -> Result<api::RequestOp, Status> {
    use pb::request_op::Request;
    Ok(match op.request.ok_or_else(codes::empty_operation)? {
        Request::RequestRange(r) => api::RequestOp::Range(range_request(r)?),
        Request::RequestPut(r) => api::RequestOp::Put(put_request(r)),
        Request::RequestDeleteRange(r) => api::RequestOp::DeleteRange(delete_request(r)),
        Request::RequestTxn(r) => api::RequestOp::Txn(txn_request(r)?),
    })
}

/// The target says what is compared; a union that is absent or of another kind stands for zero, as in etcd.
fn compare(c: pb::Compare) -> Result<api::Compare, Status> {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion as Union};
    let result = match CompareResult::try_from(c.result).map_err(|_| codes::invalid_compare("result"))? {
        CompareResult::Equal => api::CompareResult::Equal,
        CompareResult::Greater => api::CompareResult::Greater,
        CompareResult::Less => api::CompareResult::Less,
        CompareResult::NotEqual => api::CompareResult::NotEqual,
    };
    let target = match CompareTarget::try_from(c.target).map_err(|_| codes::invalid_compare("target"))? {
        CompareTarget::Version => api::CompareTarget::Version(match c.target_union {
            Some(Union::Version(n)) => n,
            _ => 0,
        }),
        CompareTarget::Create => api::CompareTarget::CreateRevision(match c.target_union {
            Some(Union::CreateRevision(n)) => n,
            _ => 0,
        }),
        CompareTarget::Mod => api::CompareTarget::ModRevision(match c.target_union {
            Some(Union::ModRevision(n)) => n,
            _ => 0,
        }),
        CompareTarget::Lease => api::CompareTarget::Lease(match c.target_union {
            Some(Union::Lease(n)) => n,
            _ => 0,
        }),
        CompareTarget::Value => api::CompareTarget::Value(match c.target_union {
            Some(Union::Value(value)) => value,
            _ => Bytes::new(),
        }),
    };
    Ok(api::Compare { key: c.key, range_end: c.range_end, result, target })
}

pub(crate) fn key_value(kv: api::KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub(crate) fn range_response(head: pb::ResponseHeader, r: api::RangeResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(head),
        kvs: r.kvs.into_iter().map(key_value).collect(),
        more: r.more,
        count: r.count,
    }
}

pub(crate) fn put_response(head: pb::ResponseHeader, r: api::PutResponse) -> pb::PutResponse {
    pb::PutResponse { header: Some(head), prev_kv: r.prev_kv.map(key_value) }
}

pub(crate) fn delete_response(head: pb::ResponseHeader, r: api::DeleteRangeResponse) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(head),
        deleted: r.deleted,
        prev_kvs: r.prev_kvs.into_iter().map(key_value).collect(),
    }
}

pub(crate) fn txn_response(head: pb::ResponseHeader, r: api::TxnResponse) -> pb::TxnResponse {
    use pb::response_op::Response;
    let responses = r.responses.into_iter().map(|response| pb::ResponseOp {
        response: Some(match response {
            api::ResponseOp::Range(r) => Response::ResponseRange(range_response(inner_head(r.revision), r)),
            api::ResponseOp::Put(r) => Response::ResponsePut(put_response(inner_head(r.revision), r)),
            api::ResponseOp::DeleteRange(r) => {
                Response::ResponseDeleteRange(delete_response(inner_head(r.revision), r))
            }
            api::ResponseOp::Txn(r) => Response::ResponseTxn(txn_response(inner_head(r.revision), r)),
        }),
    });
    pb::TxnResponse { responses: responses.collect(), header: Some(head), succeeded: r.succeeded }
}

pub(crate) fn event(e: api::Event) -> mvccpb::Event {
    let kind = match e.kind {
        api::EventKind::Put => mvccpb::event::EventType::Put,
        api::EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event { r#type: kind.into(), kv: Some(key_value(e.kv)), prev_kv: e.prev_kv.map(key_value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_protocol_does_not_have_is_refused_in_etcds_words() {
        let sort = range_request(pb::RangeRequest { key: "a".into(), sort_order: 9, ..Default::default() });
        assert_eq!(sort.unwrap_err().message(), "etcdserver: invalid sort option");
        let empty =
            txn_request(pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() });
        assert_eq!(empty.unwrap_err().message(), "etcdserver: key not found");
    }

    #[test]
    fn the_target_decides_and_a_missing_operand_is_zero() {
        use pb::compare::TargetUnion;
        let check = |target: i32, union: Option<TargetUnion>, expected: api::CompareTarget| {
            let c = pb::Compare { target, target_union: union, key: "k".into(), ..Default::default() };
            assert_eq!(compare(c).unwrap().target, expected);
        };
        check(0, Some(TargetUnion::Version(4)), api::CompareTarget::Version(4));
        check(2, None, api::CompareTarget::ModRevision(0));
        check(2, Some(TargetUnion::Version(4)), api::CompareTarget::ModRevision(0));
        check(3, Some(TargetUnion::Value("v".into())), api::CompareTarget::Value("v".into()));
        check(4, Some(TargetUnion::Lease(9)), api::CompareTarget::Lease(9));
    }
}
