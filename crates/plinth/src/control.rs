//! The local control socket of a running cluster: one JSON line in, one JSON line out. For what is this machine's
//! business and not the API's: images and the health of the parts. Its file mode lets only root connect.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use containers::{Images, images::RegistryAuths};
use runtime::Tasks;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use crate::status::Check;

/// A request line longer than this is refused.
const MAX_LINE: u64 = 64 << 10;
/// An answer longer than this is not read.
const MAX_ANSWER: u64 = 16 << 20;
/// Requests served at once.
const MAX_CONNECTIONS: usize = 16;
const PULL_TIMEOUT: Duration = Duration::from_secs(1800);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Checks,
    ImageImport { path: PathBuf },
    ImageList,
    ImageRemove { name: String },
    ImagePull { name: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Checks(Vec<Check>),
    Images(Vec<Image>),
    Removed(Vec<String>),
    Error(String),
}

/// One image as it is shown to people and machines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    pub id: String,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    pub size: u64,
}

/// What answers: the image store, and whoever knows the parts.
pub trait Checker: Send + Sync + 'static {
    fn checks(&self) -> impl Future<Output = Vec<Check>> + Send;
}

/// The socket's path.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// Serves the socket until the tasks stop. Without images, requests for them are refused.
pub fn serve<C: Checker>(run_dir: &Path, images: Option<Images>, checker: Arc<C>, tasks: &Tasks) -> anyhow::Result<()> {
    let path = socket(run_dir);
    // A socket of a killed predecessor: the data folder's lock says that nobody else uses it.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let serving = tasks.clone();
    tasks.spawn("control", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let (images, checker) = (images.clone(), checker.clone());
            serving.spawn("control-request", async move {
                if let Err(error) = serve_one(stream, images.as_ref(), checker.as_ref()).await {
                    tracing::debug!(%error, "control request failed");
                }
                drop(permit);
            });
        }
    });
    Ok(())
}

async fn serve_one<C: Checker>(stream: UnixStream, images: Option<&Images>, checker: &C) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(MAX_LINE)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Checks) => Answer::Checks(checker.checks().await),
        Ok(request) => match images {
            Some(images) => perform(images, request).await.unwrap_or_else(|error| Answer::Error(format!("{error:#}"))),
            None => Answer::Error("this cluster has no images here: it runs with --disable-agent".to_owned()),
        },
        Err(error) => Answer::Error(format!("cannot read the request: {error}")),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await?;
    Ok(())
}

/// Sends a request to the running cluster; `None` when none is running.
pub async fn ask(run_dir: &Path, request: &Request) -> anyhow::Result<Option<Answer>> {
    let Ok(stream) = UnixStream::connect(socket(run_dir)).await else { return Ok(None) };
    let (reader, mut writer) = stream.into_split();
    let mut bytes = serde_json::to_vec(request)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await.context("the running cluster hung up")?;
    let mut line = String::new();
    BufReader::new(reader.take(MAX_ANSWER)).read_line(&mut line).await.context("the running cluster hung up")?;
    match serde_json::from_str(&line).context("the running cluster's answer is not understood")? {
        Answer::Error(message) => bail!("{message}"),
        answer => Ok(Some(answer)),
    }
}

/// Does an image request on a store.
pub async fn perform(images: &Images, request: Request) -> anyhow::Result<Answer> {
    match request {
        Request::ImageList => Ok(Answer::Images(shown(images.list()))),
        Request::ImageImport { path } => {
            let imported = images.import(&path).await?;
            Ok(Answer::Images(shown(imported)))
        }
        Request::ImageRemove { name } => Ok(Answer::Removed(images.remove(&name).await?)),
        Request::ImagePull { name } => {
            let policy = containers::images::PullPolicy::Always;
            let info = images.pull(&name, &RegistryAuths::anonymous(), policy, PULL_TIMEOUT, ignore_progress).await?;
            Ok(Answer::Images(shown(vec![info])))
        }
        Request::Checks => bail!("checks need the running cluster"),
    }
}

fn ignore_progress(_: containers::images::PullProgress) {}

fn shown(images: Vec<containers::images::ImageInfo>) -> Vec<Image> {
    let one = |info: containers::images::ImageInfo| Image {
        id: info.id,
        tags: info.tags,
        digests: info.digests,
        size: info.size,
    };
    images.into_iter().map(one).collect()
}
