//! The objects of one kind as a stream of what is there and what is gone, for a reader that keeps its own picture of them: no
//! object is kept here, only who there is.
//!
//! The reader names a type of its own with the fields that it needs; all others are skipped while they are read. That is why
//! this is not kube's watcher, as in [`crate::Informers`]: it decodes all metadata of each object.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use futures::{AsyncBufReadExt, AsyncReadExt};
use http::Request;
use kube::Client;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::backoff::Backoff;

/// Objects of a list that are asked for at a time.
const PAGE: usize = 2_000;
/// How long a watch lasts before it is renewed.
const WATCH_SECONDS: u32 = 290;
/// How long to wait for a page, or for a watch to begin. A connection that was lost without a word never answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait for the next line of a watch: the server ends it before.
const SILENCE_LIMIT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
/// The longest line of a watch: an object may have 1.5 MiB in etcd, and JSON may escape every byte.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// The status code that says that a version is too old to watch from.
const GONE: u16 = 410;
/// How long at most until a kind that the server does not have is asked for again.
const ABSENT_PAUSE: Duration = Duration::from_secs(60);

/// Who an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    pub name: String,
    pub namespace: Option<String>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// A type that a reader has for a kind.
pub trait Fed: DeserializeOwned + Send + 'static {
    /// The path of all its objects, such as `/api/v1/pods`.
    const PATH: &'static str;
    /// Whether the reader goes on without the kind where it may not read it, as where the server does not serve it.
    const OPTIONAL: bool = false;

    fn namespace(&self) -> &str;
    fn name(&self) -> &str;
    fn uid(&self) -> &str;
    /// Its metadata.resourceVersion.
    fn version(&self) -> &str;
}

/// What a feed tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<K> {
    /// An object appeared or changed.
    Is(K),
    /// An object is gone; one of the same name may have come in its place.
    Gone { namespace: Arc<str>, name: Arc<str>, uid: Arc<str> },
    /// Everything that was there at the beginning has been told. Comes once.
    Synced,
}

/// The reader has gone: the feed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the feed any more")]
pub struct Closed;

/// Takes a feed's events. It may wait: so long, nothing more is read from the server.
pub trait Sink<K>: Send {
    fn take(&mut self, event: Event<K>) -> impl Future<Output = Result<(), Closed>> + Send;
}

/// Follows a kind until the reader has gone.
pub async fn feed<K: Fed>(client: Client, mut sink: impl Sink<K>) {
    let mut feed = Feed { client, known: HashMap::new(), synced: false, version: None, progress: false };
    let (mut backoff, mut absent) = (Backoff::default(), Backoff::up_to(ABSENT_PAUSE));
    loop {
        let Err(failure) = feed.round(&mut sink).await;
        if std::mem::take(&mut feed.progress) {
            (backoff, absent) = (Backoff::default(), Backoff::up_to(ABSENT_PAUSE));
        }
        let pause = match failure {
            Failure::Closed => return,
            Failure::Absent(why) => {
                if !feed.synced {
                    tracing::info!(
                        path = K::PATH,
                        why,
                        "this kind is taken for empty until the API server serves it to us"
                    );
                }
                // The kind may come later, with another version or as a custom resource; or at once, when an API server that has
                // just begun knows the roles.
                if feed.sync(&mut sink).await.is_err() {
                    return;
                }
                absent.next()
            }
            Failure::Retry(error) => {
                tracing::warn!(path = K::PATH, error, "watch was interrupted and will be resumed");
                backoff.next()
            }
        };
        tokio::time::sleep(pause.unwrap_or(ABSENT_PAUSE)).await;
    }
}

enum Failure {
    Closed,
    /// There is no such kind, or none for us.
    Absent(String),
    Retry(String),
}

impl From<Closed> for Failure {
    fn from(_: Closed) -> Self {
        Failure::Closed
    }
}

fn retry(error: impl std::fmt::Display) -> Failure {
    Failure::Retry(error.to_string())
}

/// Waits for an answer, but not for ever.
async fn answer<T>(request: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(ANSWER_LIMIT, request).await.map_err(|_| retry(format!("no answer within {ANSWER_LIMIT:?}")))
}

struct Feed {
    client: Client,
    /// UIDs by namespace and name.
    known: HashMap<(Arc<str>, Arc<str>), Arc<str>>,
    synced: bool,
    /// Where the next watch begins; without it, there must be a list before.
    version: Option<String>,
    /// A watch has told something since the last failure.
    progress: bool,
}

#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
struct Page<K> {
    #[serde(default)]
    metadata: PageMeta,
    items: Option<Vec<K>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
struct Line<K> {
    #[serde(rename = "type")]
    kind: LineKind,
    object: K,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum LineKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// What can be read of any object, and of a Status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AnyObject {
    metadata: Identity,
    code: Option<u16>,
    message: Option<String>,
}

impl Feed {
    /// Lists if it must, then watches until that fails.
    async fn round<K: Fed>(&mut self, sink: &mut impl Sink<K>) -> Result<Infallible, Failure> {
        loop {
            let version = match self.version.take() {
                Some(version) => version,
                None => self.list(sink).await?,
            };
            self.version = Some(version.clone());
            self.sync(sink).await?;
            self.watch(sink, &version).await?;
        }
    }

    async fn sync<K: Fed>(&mut self, sink: &mut impl Sink<K>) -> Result<(), Closed> {
        if !std::mem::replace(&mut self.synced, true) {
            sink.take(Event::Synced).await?;
        }
        Ok(())
    }

    /// Tells all objects, and those that are gone since the last list; returns the version to watch from.
    async fn list<K: Fed>(&mut self, sink: &mut impl Sink<K>) -> Result<String, Failure> {
        let mut listed = HashSet::new();
        let mut next: Option<String> = None;
        loop {
            let token = next.map(|token| format!("&continue={}", escaped(&token))).unwrap_or_default();
            let body = self.get::<K>(&format!("{}?limit={PAGE}{token}", K::PATH)).await?;
            let (meta, items) = page::<K>(&body)?;
            for object in items {
                listed.insert((Arc::from(object.namespace()), Arc::from(object.name())));
                self.is(sink, object).await?;
            }
            match meta.next.filter(|token| !token.is_empty()) {
                Some(token) => next = Some(token),
                None => {
                    let mut gone: Vec<_> = self.known.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                    // In the same order whatever that of the map is.
                    gone.sort_unstable();
                    for (namespace, name) in gone {
                        self.gone(sink, namespace, name).await?;
                    }
                    return Ok(meta.resource_version);
                }
            }
        }
    }

    async fn get<K: Fed>(&self, uri: &str) -> Result<String, Failure> {
        let request = Request::get(uri).body(Vec::new()).map_err(retry)?;
        match answer(self.client.request_text(request)).await? {
            Ok(text) => Ok(text),
            Err(kube::Error::Api(status)) if status.code == 404 || (status.code == 403 && K::OPTIONAL) => {
                Err(Failure::Absent(status.message))
            }
            Err(error) => Err(retry(error)),
        }
    }

    async fn watch<K: Fed>(&mut self, sink: &mut impl Sink<K>, version: &str) -> Result<(), Failure> {
        let uri = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            K::PATH,
            escaped(version)
        );
        let request = Request::get(uri).body(Vec::new()).map_err(retry)?;
        let lines = answer(self.client.request_stream(request)).await?;
        if matches!(&lines, Err(kube::Error::Api(status)) if status.code == GONE) {
            self.version = None;
        }
        let mut lines = Box::pin(lines.map_err(retry)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut lines).take(MAX_LINE_BYTES);
            let read = timeout(SILENCE_LIMIT, bounded.read_until(b'\n', &mut line)).await;
            let read =
                read.map_err(|_| retry(format!("the watch was silent for {SILENCE_LIMIT:?}")))?.map_err(retry)?;
            if read == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                return Err(retry("a line of the watch was cut off, or is too long"));
            }
            match serde_json::from_slice::<Line<K>>(&line) {
                Ok(Line { kind: LineKind::Error, .. }) | Err(_) => {
                    self.unreadable(sink, &line).await?;
                }
                Ok(Line { kind, object }) => {
                    self.version = Some(object.version().to_owned());
                    self.progress = true;
                    match kind {
                        LineKind::Added | LineKind::Modified => self.is(sink, object).await?,
                        LineKind::Deleted => self.gone(sink, object.namespace().into(), object.name().into()).await?,
                        LineKind::Bookmark | LineKind::Error => {}
                    }
                }
            }
        }
    }

    /// A line that is no object of the kind: an error of the server ends the watch; an object that cannot be read is as
    /// good as gone.
    async fn unreadable<K: Fed>(&mut self, sink: &mut impl Sink<K>, line: &[u8]) -> Result<(), Failure> {
        let Line { kind, object } = serde_json::from_slice::<Line<AnyObject>>(line).map_err(retry)?;
        if kind == LineKind::Error {
            let code = object.code.unwrap_or_default();
            // Whatever went wrong, a list sets right.
            self.version = None;
            return Err(Failure::Retry(format!("{code}: {}", object.message.unwrap_or_default())));
        }
        let Identity { name, namespace, resource_version, .. } = object.metadata;
        if kind != LineKind::Bookmark {
            tracing::warn!(path = K::PATH, name, namespace, "object cannot be read and is ignored");
            self.gone(sink, namespace.unwrap_or_default().into(), name.into()).await?;
        }
        self.version = resource_version.or(self.version.take());
        Ok(())
    }

    async fn is<K: Fed>(&mut self, sink: &mut impl Sink<K>, object: K) -> Result<(), Closed> {
        let key = (Arc::from(object.namespace()), Arc::from(object.name()));
        match self.known.get(&key) {
            Some(uid) if **uid == *object.uid() => {}
            known => {
                let replaced = known.is_some();
                if replaced {
                    self.gone::<K>(sink, key.0.clone(), key.1.clone()).await?;
                }
                self.known.insert(key, object.uid().into());
            }
        }
        sink.take(Event::Is(object)).await
    }

    async fn gone<K: Fed>(
        &mut self,
        sink: &mut impl Sink<K>,
        namespace: Arc<str>,
        name: Arc<str>,
    ) -> Result<(), Closed> {
        let key = (namespace, name);
        let Some(uid) = self.known.remove(&key) else { return Ok(()) };
        let (namespace, name) = key;
        sink.take(Event::Gone { namespace, name, uid }).await
    }
}

/// The objects of a page; one that cannot be read is left out.
fn page<K: Fed>(body: &str) -> Result<(PageMeta, Vec<K>), Failure> {
    if let Ok(page) = serde_json::from_str::<Page<K>>(body) {
        return Ok((page.metadata, page.items.unwrap_or_default()));
    }
    let page: Page<serde_json::Value> = serde_json::from_str(body).map_err(retry)?;
    let readable = page.items.unwrap_or_default().into_iter().filter_map(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match serde_json::from_value(object) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::warn!(path = K::PATH, name, %error, "object cannot be read and is ignored");
                None
            }
        }
    });
    Ok((page.metadata, readable.collect()))
}

/// A value in a query.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        assert_eq!(escaped("a/b+c=%é~"), "a%2Fb%2Bc%3D%25%C3%A9~");
    }
}
