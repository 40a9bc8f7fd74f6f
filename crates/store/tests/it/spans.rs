//! A request's span reaches the fsync that carried it.

use std::sync::{Arc, Mutex};

use store_api::*;
use tracing::{Instrument, Subscriber, span};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use crate::support::Running;

/// Notes, for each span named `fsync`, the names of its ancestors and of the spans that it follows from.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Vec<String>>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Notes {
    fn on_close(&self, id: span::Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(&id).filter(|s| s.name() == "fsync") else { return };
        let mut names: Vec<_> = span.scope().skip(1).map(|s| s.name().to_owned()).collect();
        names.extend(span.extensions().get::<Vec<String>>().into_iter().flatten().cloned());
        self.0.lock().unwrap().push(names);
    }

    fn on_follows_from(&self, id: &span::Id, follows: &span::Id, ctx: Context<'_, S>) {
        let (Some(span), Some(before)) = (ctx.span(id), ctx.span(follows)) else { return };
        let names: Vec<_> = before.scope().map(|s| s.name().to_owned()).collect();
        let mut extensions = span.extensions_mut();
        match extensions.get_mut::<Vec<String>>() {
            Some(all) => all.extend(names),
            None => extensions.insert(names),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_reaches_from_the_request_to_the_fsync() {
    let notes = Notes::default();
    // The writer is a thread of its own, so the subscriber must be everybody's.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(notes.clone())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Running::open(dir.path()).await.unwrap();
    let put = |i: usize| {
        let put = PutRequest { key: format!("span-{i}").into(), ..Default::default() };
        store.store.put(put).instrument(tracing::info_span!("spans_test_request"))
    };
    let puts = futures::future::join_all((0..50).map(put)).await;
    assert!(puts.iter().all(Result::is_ok));
    store.stop().await;
    let all = notes.0.lock().unwrap();
    let reached: usize = all.iter().map(|names| names.iter().filter(|n| *n == "spans_test_request").count()).sum();
    assert_eq!(reached, 50, "each request is an ancestor of the fsync that carried it, or what that follows from");
    assert!(all.iter().flatten().any(|name| name == "propose"));
}
