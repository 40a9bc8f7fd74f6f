//! Deliberate bugs. None of them is in the members' own code: the disk lies, the network rewrites, or the driver around
//! the member does wrong. A test proves that each is caught.

/// One way to do it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    // The disk.
    /// A sync returns and does nothing.
    NothingIsSynced,
    /// Acknowledged before it is persisted: a sync makes durable only what the one before it should have.
    SyncedOneBatchLate,
    /// A new name is lost when the power goes.
    RenamesAreNotSynced,
    /// The log says in every hard state that nobody was voted for.
    VotesAreForgotten,
    /// The log does not say that a snapshot from a peer took the place of what was before.
    BasesAreForgotten,
    /// Frames of the log are read without looking at their sums.
    ChecksumsAreNotChecked,
    /// A frame that was not written to its end is read as if it had been.
    TornFramesCount,
    /// What a torn write left is not cut off.
    TornTailsStay,
    // The network.
    /// A leader of an earlier term is taken for one of the present term, and does not hear that it is not.
    TermsAreNotChecked,
    /// A member that refuses its vote is taken to have given it.
    RefusedVotesCount,
    /// Entries are acknowledged before they have arrived.
    AcknowledgedOnTheWay,
    /// A leader's lease counts from when a round's answers came, and not from when it was sent.
    LeaseCountsFromAnswers,
    /// Every vote is taken to be asked for by the leader itself, past all promises to it.
    PromisesAreNotKept,
    // The driver.
    /// Reads are served without asking the others.
    ReadsDoNotAsk,
    /// A lease that was given up, or lost with leadership, is used until its end.
    LeaseIsKept,
    /// A member that starts again takes no account of what it may have promised to a leader.
    RestartsForgetPromises,
    /// One member sometimes applies an entry twice.
    AppliedTwice,
    /// One member sometimes leaves out an entry.
    EntrySkipped,
    /// One member does not revoke leases.
    RevocationLost,
    /// A write's answer has the revision of the one before.
    RevisionReused,
    /// Comparisons in transactions are left out, on every member alike.
    ComparisonsIgnored,
    /// Leases never end.
    LeasesDoNotEnd,
    /// A new leader counts leases from when they were granted, and not anew.
    LeasesAreNotRestarted,
    /// A leader renews leases without asking whether it leads.
    RenewalsDoNotAsk,
    /// A watch that goes on elsewhere begins one revision late.
    WatchResumesLate,
    /// A watch that goes on elsewhere begins one revision early.
    WatchResumesEarly,
    /// Writes are applied without looking whose they are.
    PermissionsAreNotChecked,
    /// Snapshots have no members.
    SnapshotsWithoutMembers,
    /// A shard is released and opened elsewhere before its keys are there.
    ReleasedTooEarly,
    /// A step of an attempt at a move that was given up counts as one of the last attempt.
    AttemptsAreNotNumbered,
    /// One segment of the log too many is removed after a snapshot.
    OneSegmentTooMany,
}

impl Mutation {
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|mutation| format!("{mutation:?}") == name)
    }
}

/// All of them.
pub const ALL: [Mutation; 31] = [
    Mutation::NothingIsSynced,
    Mutation::SyncedOneBatchLate,
    Mutation::RenamesAreNotSynced,
    Mutation::VotesAreForgotten,
    Mutation::BasesAreForgotten,
    Mutation::ChecksumsAreNotChecked,
    Mutation::TornFramesCount,
    Mutation::TornTailsStay,
    Mutation::TermsAreNotChecked,
    Mutation::RefusedVotesCount,
    Mutation::AcknowledgedOnTheWay,
    Mutation::LeaseCountsFromAnswers,
    Mutation::PromisesAreNotKept,
    Mutation::ReadsDoNotAsk,
    Mutation::LeaseIsKept,
    Mutation::RestartsForgetPromises,
    Mutation::AppliedTwice,
    Mutation::EntrySkipped,
    Mutation::RevocationLost,
    Mutation::RevisionReused,
    Mutation::ComparisonsIgnored,
    Mutation::LeasesDoNotEnd,
    Mutation::LeasesAreNotRestarted,
    Mutation::RenewalsDoNotAsk,
    Mutation::WatchResumesLate,
    Mutation::WatchResumesEarly,
    Mutation::PermissionsAreNotChecked,
    Mutation::SnapshotsWithoutMembers,
    Mutation::ReleasedTooEarly,
    Mutation::AttemptsAreNotNumbered,
    Mutation::OneSegmentTooMany,
];
