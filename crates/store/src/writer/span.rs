//! Where the time of an fsync is seen.

use tracing::info_span;

use crate::inbox::Proposal;

/// The span of a batch's fsync: the child of the first proposal, linked both ways with the others, so that the fsync is
/// found from whichever request one looks at.
#[derive(Default)]
pub(super) struct FsyncSpan(Option<tracing::Span>);

impl FsyncSpan {
    pub fn of(proposals: &[Proposal]) -> Self {
        let Some(first) = proposals.first() else { return FsyncSpan(None) };
        let bytes: usize = proposals.iter().map(|p| p.request.len()).sum();
        let span = info_span!(parent: &first.span, "fsync", batch = proposals.len(), bytes);
        if !span.is_disabled() {
            for waiting in proposals.iter().skip(1).map(|p| &p.span).filter(|waiting| !waiting.is_disabled()) {
                span.follows_from(waiting);
                waiting.follows_from(&span);
            }
        }
        FsyncSpan(Some(span))
    }

    pub fn enter(&self) -> Option<tracing::span::Entered<'_>> {
        self.0.as_ref().map(tracing::Span::enter)
    }
}
