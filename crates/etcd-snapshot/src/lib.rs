//! etcd 3.5's database as a file: what `etcdctl snapshot save` stores, `etcdutl snapshot restore` takes, and a stopped
//! etcd has in its data folder.
//!
//! ```text
//!  bucket            key                                value
//!  key               revision "_" sub ["t"], 17 or 18   mvccpb.KeyValue; of a deletion ("t") only the key
//!  lease             id, 8 bytes                        leasepb.Lease
//!  alarm             etcdserverpb.AlarmMember           nothing
//!  auth              authEnabled, authRevision          0 or 1; 8 bytes
//!  authUsers/Roles   name                               authpb.User, authpb.Role
//!  members           id in hex                          membership.Member as JSON
//!  members_removed   id in hex                          "removed"
//!  cluster           clusterVersion, downgrade          "3.5.0"; JSON
//!  meta              consistent_index, term             8 bytes each
//!                    scheduledCompactRev, finished…     a revision, 17 bytes
//!                    confState                          raftpb.ConfState as JSON
//! ```
//! Numbers in keys are big-endian.
//!
//! [`Writer`] makes such a file in portions, after [`Measure`] was shown the same records; [`Snapshot`] reads one.
//! Neither holds more than [`Facts`] and one record.
//!
//! **The trailing hash.** The *server* appends it: the last message of `Maintenance.Snapshot` is the SHA-256 of all
//! bytes sent before it, with `remaining_bytes` 0 (those before count down the database alone). `etcdctl snapshot
//! save` computes nothing: it writes all blobs one after the other and only demands that the length is 32 more than a
//! multiple of 512. `etcdutl snapshot restore` cuts the 32 bytes off and compares them; a file without them it takes
//! only with `--skip-hash-check`. [`Writer::finish`] returns the hash beside the last portion, so that a server can
//! send it as etcd does.
//!
//! Knows the layout and no store, no socket and no clock; [`folder`] alone opens files.

mod error;
mod facts;
pub mod folder;
mod pairs;
mod read;
mod record;
mod status;
mod wire;
mod write;

pub use error::{ReadError, WriteError};
pub use facts::{Alarm, ConfState, Facts, Lease, Member};
pub use read::{HashCheck, Records, Snapshot};
pub use record::Record;
pub use status::Status;
pub use write::{Finished, Measure, Plan, Saved, Writer, save};
