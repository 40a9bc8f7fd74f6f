//! What a replicated store is put through: faults from outside (the tests in `tests/robustness`) and failpoints, which end
//! or delay the process at a named place of its own code. This library is the list of failpoints; everything else here is
//! tests.
//!
//! The names are etcd's own (gofail), and the list is that of its robustness tests (etcd-io/etcd, tests/robustness,
//! `failpoint/gofail.go`), so that a result can be compared with theirs. Where etcd has a place because of its bbolt
//! backend, and Plinth keeps its state in memory, behind the log and snapshot files, the place is the one with the same
//! meaning for durability: between what the log says and what the state file says.
//!
//! Their other faults are scenarios of the tests here:
//!
//! | etcd's robustness tests | here |
//! |---|---|
//! | Kill | `Fault::Kill` |
//! | BlackholePeerNetwork, DropPeerNetwork | `Fault::CutFromPeers`, `CutOff`, `Mute`, `Deafen` |
//! | BlackholeUntilSnapshot | `Fault::CutFromPeers` with --snapshot-count=200 and 100 entries kept |
//! | DelayPeerNetwork | none: the kernel of the test machines has no netem. `raftBeforeLeaderSend=sleep` delays instead |
//! | MemberReplace | `Fault::Erase` |
//! | MemberDowngrade, MemberDowngradeUpgrade | none: there is one version |
//!
//! A server takes them from `PLINTH_FAILPOINTS` or, while it runs, over HTTP at `PLINTH_FAILPOINTS_HTTP` (crate
//! `runtime`, `failpoint`). The test `failpoints` arms one after another.

/// Which member is to reach the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Any,
    Leader,
    Follower,
}

/// What makes the member come there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The clients' load alone.
    Load,
    Defragment,
    /// A compaction of what fits into one portion, or of more than one (`--experimental-compaction-batch-limit`).
    Compact,
    CompactMuch,
    /// The follower is down until the log that it misses is gone, and then needs a snapshot.
    NeedSnapshot,
    /// A client asks for what a watch would have seen before.
    Watch,
    /// A client watches what nobody writes, and asks how far it has come.
    Bookmark,
    /// A learner is added to the cluster and removed again.
    ChangeMembers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Panic,
    SleepOneSecond,
}

/// One failpoint of etcd's robustness tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failpoint {
    /// etcd's name, which Plinth's place has as well.
    pub name: &'static str,
    pub action: Action,
    pub target: Target,
    pub trigger: Trigger,
    /// Where in Plinth's pipeline the place is.
    pub place: &'static str,
}

const fn panic(name: &'static str, target: Target, trigger: Trigger, place: &'static str) -> Failpoint {
    Failpoint { name, action: Action::Panic, target, trigger, place }
}

const fn sleep(name: &'static str, trigger: Trigger, place: &'static str) -> Failpoint {
    Failpoint { name, action: Action::SleepOneSecond, target: Target::Any, trigger, place }
}

use Target::{Any, Follower, Leader};
use Trigger::{Bookmark, ChangeMembers, Compact, CompactMuch, Defragment, Load, NeedSnapshot, Watch};

/// All of them: panics first, then delays.
pub const FAILPOINTS: [Failpoint; 34] = [
    // The log: consensus hands out entries to persist, the WAL writes and syncs them, and only then messages go out.
    panic("raftBeforeSave", Any, Load, "replica: a Ready with entries or hard state is there, before wal::append"),
    panic("raftAfterSave", Any, Load, "replica: after the WAL's fsync of that Ready, before anything is acknowledged"),
    panic(
        "raftBeforeLeaderSend",
        Leader,
        Load,
        "replica: before the leader's messages, which may precede its own fsync",
    ),
    panic("raftBeforeFollowerSend", Follower, Load, "replica: after the follower's fsync, before its answers are sent"),
    // Applying: a committed batch becomes revisions.
    panic(
        "beforeCommit",
        Any,
        Load,
        "store: a committed batch is applied to mvcc, before it is published and answered",
    ),
    panic(
        "afterCommit",
        Any,
        Load,
        "store: the batch is visible to readers and watches, before its callers are answered",
    ),
    panic("commitBeforePreCommitHook", Any, Load, "store: before the applied index is advanced over the batch"),
    panic(
        "commitAfterPreCommitHook",
        Any,
        Load,
        "store: after the applied index is advanced, before the batch is visible",
    ),
    panic("beforeWritebackBuf", Any, Load, "mvcc's driver: before the batch's events go to the watch hub"),
    panic("afterWritebackBuf", Any, Load, "mvcc's driver: after the batch's events went to the watch hub"),
    // The state file: etcd's backend transaction is Plinth's own snapshot of the state machine.
    panic("beforeStartDBTxn", Any, Load, "store: before a local snapshot file is begun"),
    panic("afterStartDBTxn", Any, Load, "store: a local snapshot file is begun and not complete"),
    panic("defragBeforeCopy", Any, Defragment, "store: Defragment, before the state is written anew"),
    panic("defragBeforeRename", Any, Defragment, "store: Defragment, the new file is complete, before its rename"),
    // Compaction.
    panic("compactBeforeCommitScheduledCompact", Any, Compact, "store: before a compaction's revision is recorded"),
    panic(
        "compactAfterCommitScheduledCompact",
        Any,
        Compact,
        "store: the compaction is recorded, nothing is removed yet",
    ),
    panic("compactBeforeSetFinishedCompact", Any, Compact, "store: everything is removed, before that is recorded"),
    panic("compactBeforeSetFinishedCompact", Any, CompactMuch, "the same after more than one portion"),
    panic("compactAfterSetFinishedCompact", Any, Compact, "store: the compaction is recorded as finished"),
    panic("compactBeforeCommitBatch", Any, CompactMuch, "store: before one portion of a compaction is removed"),
    panic("compactAfterCommitBatch", Any, CompactMuch, "store: after one portion of a compaction is removed"),
    // A snapshot from the leader.
    panic(
        "raftBeforeSaveSnap",
        Follower,
        NeedSnapshot,
        "replica: the snapshot was received, before its file is synced",
    ),
    panic("raftAfterSaveSnap", Follower, NeedSnapshot, "replica: its file is synced and named in the WAL"),
    panic(
        "raftBeforeApplySnap",
        Follower,
        NeedSnapshot,
        "replica: before consensus takes the snapshot as its log's begin",
    ),
    panic("raftAfterApplySnap", Follower, NeedSnapshot, "replica: after consensus has taken it"),
    panic("raftAfterWALRelease", Follower, NeedSnapshot, "wal: segments before the snapshot are given up"),
    panic("applyBeforeOpenSnapshot", Follower, NeedSnapshot, "store: before mvcc is replaced by the snapshot's state"),
    // Delays.
    sleep("beforeApplyOneConfChange", ChangeMembers, "replica: before a committed change of members is applied"),
    sleep("raftBeforeSave", Load, "as above: a slow disk"),
    sleep("raftAfterSave", Load, "as above: a slow acknowledgement"),
    sleep("beforeSendWatchResponse", Load, "etcd-server: before a watch response goes into its stream"),
    sleep("beforeSyncWatchers", Watch, "store: before watches that are behind are given what they miss"),
    sleep("beforeMoveVictims", Load, "store: before a watch takes what the hub has put aside for it"),
    sleep("beforeProgressIfSync", Bookmark, "store: before a requested bookmark is answered"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_and_snapshots_are_the_followers() {
        for (n, one) in FAILPOINTS.iter().enumerate() {
            let same =
                |other: &Failpoint| (other.name, other.action, other.trigger) == (one.name, one.action, one.trigger);
            assert!(!FAILPOINTS[..n].iter().any(same), "{one:?} is there twice");
            assert!(one.trigger != Trigger::NeedSnapshot || one.target == Target::Follower, "{one:?}");
        }
    }
}
