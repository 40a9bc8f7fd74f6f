//! A backup on the wire: portion after portion, then the SHA-256 of them all, by which `etcdctl snapshot save` and
//! `etcdutl snapshot restore` know that nothing is missing.

use bytes::Bytes;
use etcd_proto::etcdserverpb::SnapshotResponse;
use futures::{Stream, stream};
use sha2::{Digest, Sha256};
use store_api::Backup;
use tonic::Status;

use crate::codes;

/// The most that one message carries. A client's limit is often a few MiB.
const PORTION_BYTES: usize = 256 * 1024;

struct Sending {
    backup: Box<dyn Backup>,
    /// What is left of the portion that the backup has handed out.
    rest: Bytes,
    sum: Sha256,
}

/// The messages of one backup.
pub(crate) fn send(backup: Box<dyn Backup>) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send {
    let sending = Sending { backup, rest: Bytes::new(), sum: Sha256::new() };
    stream::unfold(Some(sending), |sending| async move {
        let mut sending = sending?;
        match sending.portion().await {
            Ok(Some(blob)) => {
                sending.sum.update(&blob);
                let rest = u64::try_from(sending.rest.len()).unwrap_or(u64::MAX);
                let remaining_bytes = sending.backup.remaining().saturating_add(rest);
                let response = SnapshotResponse { remaining_bytes, blob, ..Default::default() };
                Some((Ok(response), Some(sending)))
            }
            Ok(None) => {
                let blob = Bytes::copy_from_slice(&sending.sum.finalize());
                Some((Ok(SnapshotResponse { blob, ..Default::default() }), None))
            }
            Err(status) => Some((Err(status), None)),
        }
    })
}

impl Sending {
    /// The next portion, of a size that fits into a message.
    async fn portion(&mut self) -> Result<Option<Bytes>, Status> {
        while self.rest.is_empty() {
            match self.backup.next().await.map_err(|error| codes::status(&error))? {
                Some(portion) => self.rest = portion,
                None => return Ok(None),
            }
        }
        Ok(Some(self.rest.split_to(self.rest.len().min(PORTION_BYTES))))
    }
}
