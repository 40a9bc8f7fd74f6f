//! The store's types to the wire's messages and back. Values move by reference count.

use etcd_proto::{etcdserverpb as pb, mvccpb};
use store_api::{self as api, Revision, StoreError};

pub(crate) fn revision(header: Option<&pb::ResponseHeader>) -> Revision {
    header.map_or(0, |header| header.revision)
}

pub(crate) fn range_request(r: api::RangeRequest) -> pb::RangeRequest {
    use pb::range_request::{SortOrder, SortTarget};
    let order = match r.sort_order {
        api::SortOrder::None => SortOrder::None,
        api::SortOrder::Ascend => SortOrder::Ascend,
        api::SortOrder::Descend => SortOrder::Descend,
    };
    let target = match r.sort_target {
        api::SortTarget::Key => SortTarget::Key,
        api::SortTarget::Version => SortTarget::Version,
        api::SortTarget::Create => SortTarget::Create,
        api::SortTarget::Mod => SortTarget::Mod,
        api::SortTarget::Value => SortTarget::Value,
    };
    pb::RangeRequest {
        key: r.key,
        range_end: r.range_end,
        limit: r.limit,
        revision: r.revision,
        sort_order: order.into(),
        sort_target: target.into(),
        serializable: r.serializable,
        keys_only: r.keys_only,
        count_only: r.count_only,
        min_mod_revision: r.min_mod_revision,
        max_mod_revision: r.max_mod_revision,
        min_create_revision: r.min_create_revision,
        max_create_revision: r.max_create_revision,
    }
}

pub(crate) fn put_request(r: api::PutRequest) -> pb::PutRequest {
    pb::PutRequest {
        key: r.key,
        value: r.value,
        lease: r.lease,
        prev_kv: r.prev_kv,
        ignore_value: r.ignore_value,
        ignore_lease: r.ignore_lease,
    }
}

pub(crate) fn delete_request(r: api::DeleteRangeRequest) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: r.key, range_end: r.range_end, prev_kv: r.prev_kv }
}

pub(crate) fn txn_request(r: api::TxnRequest) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: r.compare.into_iter().map(compare).collect(),
        success: r.success.into_iter().map(operation).collect(),
        failure: r.failure.into_iter().map(operation).collect(),
    }
}

fn operation(op: api::RequestOp) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match op {
        api::RequestOp::Range(r) => Request::RequestRange(range_request(r)),
        api::RequestOp::Put(r) => Request::RequestPut(put_request(r)),
        api::RequestOp::DeleteRange(r) => Request::RequestDeleteRange(delete_request(r)),
        api::RequestOp::Txn(r) => Request::RequestTxn(txn_request(r)),
    };
    pb::RequestOp { request: Some(request) }
}

fn compare(c: api::Compare) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion as Union};
    let result = match c.result {
        api::CompareResult::Equal => CompareResult::Equal,
        api::CompareResult::Greater => CompareResult::Greater,
        api::CompareResult::Less => CompareResult::Less,
        api::CompareResult::NotEqual => CompareResult::NotEqual,
    };
    let (target, union) = match c.target {
        api::CompareTarget::Version(n) => (CompareTarget::Version, Union::Version(n)),
        api::CompareTarget::CreateRevision(n) => (CompareTarget::Create, Union::CreateRevision(n)),
        api::CompareTarget::ModRevision(n) => (CompareTarget::Mod, Union::ModRevision(n)),
        api::CompareTarget::Value(value) => (CompareTarget::Value, Union::Value(value)),
        api::CompareTarget::Lease(n) => (CompareTarget::Lease, Union::Lease(n)),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: c.key,
        range_end: c.range_end,
        target_union: Some(union),
    }
}

fn key_value(kv: mvccpb::KeyValue) -> api::KeyValue {
    api::KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub(crate) fn range_response(r: pb::RangeResponse) -> api::RangeResponse {
    api::RangeResponse {
        revision: revision(r.header.as_ref()),
        kvs: r.kvs.into_iter().map(key_value).collect(),
        more: r.more,
        count: r.count,
        charge: api::Charge::default(),
    }
}

pub(crate) fn put_response(r: pb::PutResponse) -> api::PutResponse {
    api::PutResponse { revision: revision(r.header.as_ref()), prev_kv: r.prev_kv.map(key_value) }
}

pub(crate) fn delete_response(r: pb::DeleteRangeResponse) -> api::DeleteRangeResponse {
    api::DeleteRangeResponse {
        revision: revision(r.header.as_ref()),
        deleted: r.deleted,
        prev_kvs: r.prev_kvs.into_iter().map(key_value).collect(),
    }
}

pub(crate) fn txn_response(r: pb::TxnResponse) -> Result<api::TxnResponse, StoreError> {
    use pb::response_op::Response;
    let response = |op: pb::ResponseOp| match op.response {
        Some(Response::ResponseRange(r)) => Ok(api::ResponseOp::Range(range_response(r))),
        Some(Response::ResponsePut(r)) => Ok(api::ResponseOp::Put(put_response(r))),
        Some(Response::ResponseDeleteRange(r)) => Ok(api::ResponseOp::DeleteRange(delete_response(r))),
        Some(Response::ResponseTxn(r)) => txn_response(r).map(api::ResponseOp::Txn),
        None => Err(StoreError::Unavailable("etcd answered an operation with nothing".into())),
    };
    Ok(api::TxnResponse {
        revision: revision(r.header.as_ref()),
        succeeded: r.succeeded,
        responses: r.responses.into_iter().map(response).collect::<Result<_, _>>()?,
        charge: api::Charge::default(),
    })
}

pub(crate) fn watch_request(r: api::WatchRequest) -> pb::WatchRequest {
    use pb::{watch_create_request::FilterType, watch_request::RequestUnion};
    let mut filters = Vec::new();
    if r.no_put {
        filters.push(FilterType::Noput.into());
    }
    if r.no_delete {
        filters.push(FilterType::Nodelete.into());
    }
    let create = pb::WatchCreateRequest {
        key: r.key,
        range_end: r.range_end,
        start_revision: r.start_revision,
        progress_notify: r.progress_notify,
        filters,
        prev_kv: r.prev_kv,
        ..Default::default()
    };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

pub(crate) fn event(e: mvccpb::Event) -> api::Event {
    let kind = match e.r#type() {
        mvccpb::event::EventType::Put => api::EventKind::Put,
        mvccpb::event::EventType::Delete => api::EventKind::Delete,
    };
    api::Event { kind, kv: e.kv.map(key_value).unwrap_or_default(), prev_kv: e.prev_kv.map(key_value) }
}

pub(crate) fn status(r: pb::StatusResponse) -> api::Status {
    let header = r.header.unwrap_or_default();
    api::Status {
        version: r.version,
        revision: header.revision,
        db_size: r.db_size,
        db_size_in_use: r.db_size_in_use,
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        leader: r.leader,
        raft_term: r.raft_term,
        raft_index: r.raft_index,
        raft_applied_index: r.raft_applied_index,
        is_learner: r.is_learner,
        errors: r.errors,
        ..Default::default()
    }
}
