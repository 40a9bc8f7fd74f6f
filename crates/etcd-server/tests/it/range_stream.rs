//! A range in portions is the range.

use etcd_proto::etcdserverpb as pb;
use tonic::Code;

use crate::served::Served;

#[tokio::test]
async fn portions_make_up_the_range_at_one_revision() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    for n in 0..100 {
        let value = vec![7; 64 * 1024];
        let put = pb::PutRequest { key: format!("r/{n:03}").into(), value: value.into(), ..Default::default() };
        kv.put(put).await.unwrap();
    }
    for limit in [0, 1, 7, 10, 11, 99, 100, 200] {
        let request = pb::RangeRequest { key: "r/".into(), range_end: "r0".into(), limit, ..Default::default() };
        let mut portions = kv.range_stream(request.clone()).await.unwrap().into_inner();
        let (mut merged, mut number) = (pb::RangeResponse::default(), 0);
        while let Some(portion) = portions.message().await.unwrap() {
            let portion = portion.range_response.unwrap();
            assert!(merged.header.is_none(), "only the last portion has a header");
            merged.kvs.extend(portion.kvs);
            (merged.header, merged.more, merged.count) = (portion.header, portion.more, portion.count);
            if number == 0 {
                // Written behind the first portion, and not seen by the next.
                let put = pb::PutRequest { key: "r/zzz".into(), ..Default::default() };
                kv.put(put).await.unwrap();
                kv.delete_range(pb::DeleteRangeRequest { key: "r/zzz".into(), ..Default::default() }).await.unwrap();
            }
            number += 1;
        }
        let revision = merged.header.as_ref().unwrap().revision;
        let mut client = served.kv().await.max_decoding_message_size(64 << 20);
        let whole = client.range(pb::RangeRequest { revision, ..request }).await.unwrap().into_inner();
        assert_eq!((merged.kvs, merged.more, merged.count), (whole.kvs, whole.more, whole.count), "limit {limit}");
        assert!(limit > 10 || limit == 0 || number == 1, "limit {limit}: {number} portions");
        assert!(limit < 99 && limit != 0 || number > 3, "limit {limit}: {number} portions");
    }
}

#[tokio::test]
async fn what_cannot_be_read_in_portions_is_refused() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut refused = async |request: pb::RangeRequest| {
        let mut answers = kv.range_stream(pb::RangeRequest { key: "r".into(), ..request }).await.unwrap().into_inner();
        let status = answers.message().await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let sorted = pb::RangeRequest { sort_order: 2, ..Default::default() };
    let text = "RangeStream does not support custom sort orders";
    assert_eq!(refused(sorted).await, (Code::Unimplemented, text.to_owned()));
    let filtered = pb::RangeRequest { max_mod_revision: 2, ..Default::default() };
    let text = "RangeStream does not support revision filters";
    assert_eq!(refused(filtered).await, (Code::Unimplemented, text.to_owned()));
}
