//! Images from registries (OCI distribution).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use oci_client::{
    Client, client::ClientConfig, client::ClientProtocol, errors::OciDistributionError, manifest::ImageIndexEntry,
    manifest::OciDescriptor, secrets::RegistryAuth,
};
use runtime::blocking;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::{
    ImageError, ImageInfo, PullProgress, Reference, RegistryAuths, Store,
    archive::Draft,
    install::{self, Blob, Incoming, MAX_DOCUMENT, MAX_LAYERS},
};
use crate::error::chain;

/// How often a step is tried, and how long apart at first.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Layers that are fetched at the same time.
const AT_ONCE: usize = 3;
/// The largest compressed layer.
const MAX_BLOB: u64 = 16 * 1024 * 1024 * 1024;
const CONNECT_TIME: Duration = Duration::from_secs(15);
/// How long a registry may be silent in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(60);

/// Fetches the image and puts it into the store.
pub(super) async fn pull(
    store: &Arc<Store>,
    reference: &Reference,
    auths: &RegistryAuths,
    progress: &(impl Fn(PullProgress) + Send + Sync),
) -> Result<ImageInfo, ImageError> {
    let failed = |error: OciDistributionError| failure(reference, &error);
    let client = Client::new(configuration(reference));
    let auth = match auths.find(reference) {
        Some((user, password)) => RegistryAuth::Basic(user, password),
        None => RegistryAuth::Anonymous,
    };
    let name: oci_client::Reference = reference.to_string().parse().map_err(|_| ImageError::Pull {
        reference: reference.to_string(),
        reason: "the registry client does not take this name".into(),
        retryable: false,
    })?;
    let (manifest, digest, list) =
        retry(|| client.pull_image_manifest_and_list_digest(&name, &auth)).await.map_err(failed)?;
    if manifest.layers.len() > MAX_LAYERS {
        return Err(ImageError::Invalid(format!("{} layers, more than {MAX_LAYERS}", manifest.layers.len())));
    }
    let sizes: u64 = manifest.layers.iter().map(|l| u64::try_from(l.size).unwrap_or(0)).sum();
    progress(PullProgress::Resolved { layers: manifest.layers.len(), bytes: sizes });
    let draft = Draft::new(store)?;
    let fetched = AtomicU64::new(0);
    let fetch = Fetch { client: &client, name: &name, reference, folder: draft.0.clone(), fetched: &fetched, progress };
    let config = fetch.document(&manifest.config).await?;
    // Collected first: a stream over the borrowing closure itself would not be Send for every caller.
    let downloads: Vec<_> = manifest.layers.iter().map(|layer| fetch.layer(layer)).collect();
    let layers: Vec<Blob> = stream::iter(downloads).buffered(AT_ONCE).try_collect().await?;
    // The name's digest is the one that was asked for: the list's where there is a list.
    let digest = list.unwrap_or(digest);
    let names = reference.tagged().into_iter().chain([format!("{}@{digest}", reference.name())]).collect();
    let incoming = Incoming { config, layers, names };
    let _layers = store.layers.read().await;
    let keeper = store.clone();
    let image = blocking(move || {
        let _draft = draft;
        install::install(&keeper, &incoming)
    })
    .await?;
    progress(PullProgress::Unpacked);
    Ok(image)
}

fn configuration(reference: &Reference) -> ClientConfig {
    // As docker does: a registry on this machine may speak plain http.
    let protocol = match reference.is_loopback() {
        true => ClientProtocol::HttpsExcept(vec![reference.registry.clone()]),
        false => ClientProtocol::Https,
    };
    ClientConfig {
        protocol,
        platform_resolver: Some(Box::new(this_platform)),
        read_timeout: Some(SILENCE),
        connect_timeout: Some(CONNECT_TIME),
        user_agent: concat!("plinth/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    }
}

fn this_platform(entries: &[ImageIndexEntry]) -> Option<String> {
    let fits = |entry: &&ImageIndexEntry| {
        entry.platform.as_ref().is_some_and(|platform| {
            platform.os.to_string() == "linux" && platform.architecture.to_string() == install::architecture()
        })
    };
    entries.iter().find(fits).map(|entry| entry.digest.clone())
}

struct Fetch<'a, P> {
    client: &'a Client,
    name: &'a oci_client::Reference,
    reference: &'a Reference,
    folder: PathBuf,
    fetched: &'a AtomicU64,
    progress: &'a P,
}

impl<P: Fn(PullProgress) + Send + Sync> Fetch<'_, P> {
    /// A small blob.
    async fn document(&self, descriptor: &OciDescriptor) -> Result<Vec<u8>, ImageError> {
        if u64::try_from(descriptor.size).is_ok_and(|size| size > MAX_DOCUMENT) {
            return Err(ImageError::Invalid(format!("a configuration of {} bytes", descriptor.size)));
        }
        let fetch = || async {
            let mut bytes = Vec::new();
            let mut blob = self.client.pull_blob_stream(self.name, descriptor).await?.stream;
            while let Some(chunk) = blob.next().await {
                bytes.extend_from_slice(&chunk?);
                if bytes.len() as u64 > MAX_DOCUMENT {
                    return Err(OciDistributionError::SpecViolationError("the configuration is too large".into()));
                }
            }
            Ok(bytes)
        };
        let bytes = retry(fetch).await.map_err(|e| failure(self.reference, &e))?;
        let found = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        if found != descriptor.digest {
            return Err(ImageError::Invalid(format!("blob {} has the content of {found}", descriptor.digest)));
        }
        Ok(bytes)
    }

    /// A layer, into a file. Its digest is checked while it is unpacked.
    async fn layer(&self, descriptor: &OciDescriptor) -> Result<Blob, ImageError> {
        if !super::reference::is_digest(&descriptor.digest) {
            return Err(ImageError::Invalid(format!("{:?} is not a digest", descriptor.digest)));
        }
        let path = self.folder.join(&descriptor.digest["sha256:".len()..]);
        let fetch = || async {
            let mut length = 0u64;
            let mut file = tokio::fs::File::create(&path).await?;
            let mut blob = self.client.pull_blob_stream(self.name, descriptor).await?.stream;
            while let Some(chunk) = blob.next().await {
                let chunk = chunk?;
                length += chunk.len() as u64;
                if length > MAX_BLOB {
                    return Err(OciDistributionError::SpecViolationError("the layer is too large".into()));
                }
                file.write_all(&chunk).await?;
                let bytes = self.fetched.fetch_add(chunk.len() as u64, Ordering::Relaxed) + chunk.len() as u64;
                (self.progress)(PullProgress::Fetched { bytes });
            }
            file.flush().await?;
            Ok(())
        };
        retry(fetch).await.map_err(|e| failure(self.reference, &e))?;
        Ok(Blob { path, digest: Some(descriptor.digest.clone()) })
    }
}

/// Tries again what may work the next time.
async fn retry<T, F: Future<Output = Result<T, OciDistributionError>>>(
    mut step: impl FnMut() -> F,
) -> Result<T, OciDistributionError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match step().await {
            Err(error) if is_passing(&error) => tokio::time::sleep(pause).await,
            other => return other,
        }
        pause *= 2;
    }
    step().await
}

fn is_passing(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429,
        _ => false,
    }
}

/// The registry's answer in the words that container runtimes use.
fn failure(reference: &Reference, error: &OciDistributionError) -> ImageError {
    let name = reference.to_string();
    let reason = match error {
        OciDistributionError::ImageManifestNotFoundError(_) => format!("{name}: not found"),
        OciDistributionError::RegistryError { envelope, .. }
            if envelope.errors.iter().any(|e| format!("{:?}", e.code).contains("Unknown")) =>
        {
            format!("{name}: not found")
        }
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            "pull access denied, repository does not exist or may require authorization: authorization failed"
                .to_owned()
        }
        other => chain(other),
    };
    ImageError::Pull { reference: name, reason, retryable: is_passing(error) }
}
