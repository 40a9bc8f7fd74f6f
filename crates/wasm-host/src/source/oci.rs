//! A module from an image registry: an OCI artifact with one layer that is a module (the CNCF's Wasm OCI artifact layout, and the
//! older one of wasm-to-oci). Who asks is said by docker's configuration (`credentials.rs`).

use std::{path::Path, time::Duration};

use futures::StreamExt;
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    manifest::{OciDescriptor, OciImageManifest},
    secrets::RegistryAuth,
};

use super::{
    FetchError, Fetched, Stamp,
    credentials::{self, Credential},
    digest,
    http::chain,
    token,
};

/// Media types of a layer that is a module.
const LAYERS: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];
const CONNECT_TIME: Duration = Duration::from_secs(15);
/// How long a registry may be silent in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(30);

pub(super) async fn fetch(
    reference: &Reference,
    config: Option<&Path>,
    seen: Option<&Stamp>,
    limit: u64,
) -> Result<Option<Fetched>, FetchError> {
    let failed = |reason: String| FetchError::Oci { artifact: reference.to_string(), reason };
    let refused = |error: OciDistributionError| failed(chain(&error));
    let client = Client::new(configuration(reference));
    let auth = authentication(reference, config).await.map_err(failed)?;
    let current = client.fetch_manifest_digest(reference, &auth).await.map_err(refused)?;
    if seen == Some(&Stamp::Oci(current.clone())) {
        return Ok(None);
    }
    // By its digest: what was asked about is what is fetched, also if the tag moves in between.
    let fixed = reference.clone_with_digest(current.clone());
    let (manifest, _) = client.pull_image_manifest(&fixed, &auth).await.map_err(refused)?;
    let layer = module(&manifest).map_err(failed)?;
    if u64::try_from(layer.size).is_ok_and(|size| size > limit) {
        return Err(FetchError::TooLarge(limit));
    }
    let mut bytes = Vec::new();
    let mut blob = client.pull_blob_stream(&fixed, layer).await.map_err(refused)?.stream;
    while let Some(chunk) = blob.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| failed(chain(&error)))?);
        if bytes.len() as u64 > limit {
            return Err(FetchError::TooLarge(limit));
        }
    }
    let found = digest(&bytes);
    if found != layer.digest {
        return Err(failed(format!("the layer {} has the content of {found}", layer.digest)));
    }
    Ok(Some(Fetched { bytes, stamp: Stamp::Oci(current) }))
}

async fn authentication(reference: &Reference, config: Option<&Path>) -> Result<RegistryAuth, String> {
    let (registry, repository) = (reference.resolve_registry().to_owned(), reference.repository().to_owned());
    let (config, host) = (config.map(Path::to_owned), registry.clone());
    let found = {
        let repository = repository.clone();
        runtime::blocking(move || credentials::look(config.as_deref(), &host, &repository)).await?
    };
    Ok(match found {
        None => RegistryAuth::Anonymous,
        Some(Credential::Basic { user, password }) => RegistryAuth::Basic(user, password),
        Some(Credential::Token(token)) => RegistryAuth::Bearer(token),
        Some(Credential::Identity(identity)) => {
            let scheme = if is_loopback(&registry) { "http" } else { "https" };
            RegistryAuth::Bearer(token::exchange(scheme, &registry, &repository, &identity).await?)
        }
    })
}

/// The one layer that is a module.
fn module(manifest: &OciImageManifest) -> Result<&OciDescriptor, String> {
    let mut modules = manifest.layers.iter().filter(|layer| LAYERS.contains(&layer.media_type.as_str()));
    match (modules.next(), modules.next()) {
        (Some(layer), None) => Ok(layer),
        (None, _) => {
            let found: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).take(8).collect();
            Err(format!("no layer is of the type {}: there are {found:?}", LAYERS.join(" or ")))
        }
        (Some(_), Some(_)) => Err("more than one layer is a module: which is meant?".to_owned()),
    }
}

fn configuration(reference: &Reference) -> ClientConfig {
    let registry = reference.resolve_registry().to_owned();
    // As docker does: a registry on this machine may speak plain http.
    let protocol = match is_loopback(&registry) {
        true => ClientProtocol::HttpsExcept(vec![registry]),
        false => ClientProtocol::Https,
    };
    ClientConfig {
        protocol,
        read_timeout: Some(SILENCE),
        connect_timeout: Some(CONNECT_TIME),
        user_agent: concat!("plinth/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
