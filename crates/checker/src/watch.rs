//! etcd's promises to those who watch:
//! - ordered: events come in the order of revisions;
//! - unique: no event comes twice on one watch;
//! - reliable: between the first revision and the last one passed, no event of the watched keys is missing, and none is
//!   there that did not happen;
//! - atomic: the events of one revision come in one response, unless the client allowed fragments and was told that more
//!   follows;
//! - resumable: a watch from an old revision begins with exactly that one, or is cancelled because it is compacted;
//! - bookmarkable: after a response without events, nothing up to its revision is still to come;
//! - previous values are those that the keys had before.
//!
//! What should have come is the timeline's, so that one watch is also held against all others and against the answers.

use std::collections::BTreeSet;

use crate::{
    Cause, Finding, History, Timeline,
    describe::list,
    history::{Event, Request, Revision, Watch},
    report::Findings,
};

pub(crate) fn check(history: &History, timeline: &Timeline, all: &mut Vec<Finding>) {
    let mut findings = Findings::new("watch", all);
    let compacted = compacted(history);
    for watch in &history.watches {
        let mut complaints = Vec::new();
        order(watch, &mut complaints);
        start(watch, compacted, &mut complaints);
        content(watch, timeline, compacted, &mut complaints);
        complaints.into_iter().for_each(|what| findings.add(Vec::new(), format!("{}: {what}", name(watch))));
    }
}

fn name(watch: &Watch) -> String {
    let from = if watch.start > 0 { format!("revision {}", watch.start) } else { "its creation".to_owned() };
    format!("watch {} (client {}, member {:x}) of {} from {from}", watch.id, watch.client, watch.member, watch.keys)
}

/// The highest revision that may have been compacted, by anybody.
fn compacted(history: &History) -> Revision {
    let revisions = history.operations.iter().filter_map(|operation| match operation.request {
        Request::Compact { revision } => Some(revision),
        _ => None,
    });
    revisions.max().unwrap_or(0)
}

/// Ordered, unique, atomic, bookmarkable: what the watch alone shows.
fn order(watch: &Watch, complaints: &mut Vec<String>) {
    let mut seen: BTreeSet<(Revision, &str)> = BTreeSet::new();
    let mut newest = 0;
    let mut bookmark = 0;
    // The revision that is complete: no later response may bring more of it.
    let mut complete = 0;
    for response in &watch.responses {
        if response.is_bookmark() {
            if response.revision < bookmark.max(newest) {
                let before = bookmark.max(newest);
                complaints.push(format!("bookmark {} comes after revision {before} was passed", response.revision));
            }
            bookmark = bookmark.max(response.revision);
        }
        for event in &response.events {
            let revision = event.kv.mod_revision;
            if !seen.insert((revision, &event.kv.key)) {
                complaints.push(format!("{event} came twice"));
            } else if revision < newest {
                complaints.push(format!("{event} came after an event of revision {newest}"));
            } else if revision <= complete {
                complaints
                    .push(format!("{event} came apart from the rest of its revision, which was not said to go on"));
            }
            if revision <= bookmark {
                complaints.push(format!("{event} came after bookmark {bookmark}"));
            }
            newest = newest.max(revision);
        }
        if response.fragment && !watch.fragment {
            complaints.push("a fragment came, and none was allowed".to_owned());
        }
        if !response.fragment && !response.events.is_empty() {
            complete = newest;
        }
        let last = response.events.last().map_or(0, |event| event.kv.mod_revision);
        if !response.created && response.is_older_than(last) {
            complaints.push(format!("a response's header says revision {}, its events {last}", response.revision));
        }
    }
}

impl crate::history::WatchResponse {
    fn is_older_than(&self, last: Revision) -> bool {
        last > 0 && self.revision > 0 && self.revision < last
    }
}

/// It begins where it was asked to, and is cancelled only for what is compacted.
fn start(watch: &Watch, compacted: Revision, complaints: &mut Vec<String>) {
    let first = watch.responses.iter().flat_map(|response| &response.events).next();
    if let (Some(first), Some(from)) = (first, watch.from())
        && first.kv.mod_revision < from
    {
        complaints.push(format!("{first} is before revision {from}, where it begins"));
    }
    for response in watch.responses.iter().filter(|response| response.compact_revision > 0) {
        let revision = response.compact_revision;
        if revision > compacted {
            complaints.push(format!("it was told that {revision} is compacted, and nobody compacted it"));
        } else if watch.start > revision {
            complaints.push(format!("it was cancelled as compacted at {revision}, and asked for nothing so old"));
        }
    }
}

/// Reliable, and right about what was before.
fn content(watch: &Watch, timeline: &Timeline, compacted: Revision, complaints: &mut Vec<String>) {
    let came = watch.responses.iter().flat_map(|response| &response.events);
    for event in came.clone() {
        let revision = event.kv.mod_revision;
        if !watch.wants(event) {
            complaints.push(format!("{event} was not asked for"));
            continue;
        }
        let Some(change) = timeline.at(revision) else {
            if timeline.is_cut {
                break;
            }
            complaints.push(format!("{event} is at a revision that there is not"));
            continue;
        };
        if change.cause == Cause::Unexplained {
            continue;
        }
        let happened = change.events.iter().find(|e| e.kv.key == event.kv.key);
        match happened {
            Some(happened) if (&happened.kv, happened.deleted) == (&event.kv, event.deleted) => {
                let before = happened.prev.as_ref().filter(|_| watch.prev_kv);
                // What was before a compacted revision is gone, and etcd sends the event without it.
                let gone = event.prev.is_none() && revision - 1 < compacted;
                if event.prev.as_ref() != before && !gone {
                    let says = |prev: Option<&_>| prev.map_or("nothing".to_owned(), ToString::to_string);
                    let prev = event.prev.as_ref();
                    complaints.push(format!("{event} came with {} before it, not {}", says(prev), says(before)));
                }
            }
            _ => complaints
                .push(format!("{event} did not happen; revision {revision} is {}", list(&change.events, ", "))),
        }
    }
    let came: BTreeSet<(Revision, &str)> = came.map(|event| (event.kv.mod_revision, event.kv.key.as_str())).collect();
    let Some(from) = watch.from() else { return };
    for change in (from..=watch.passed()).filter_map(|revision| timeline.at(revision)) {
        let missing = |event: &&Event| watch.wants(event) && !came.contains(&(change.revision, &event.kv.key));
        for event in change.events.iter().filter(missing) {
            complaints.push(format!("{event} never came, and the watch is past it, at {}", watch.passed()));
        }
    }
}
