//! A pod's volumes on the node's disk: folders that its containers mount.
//!
//! ```text
//!   data_dir/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>/   as kubelet lays them out
//!   data_dir/pods/<uid>/volume-subpaths/…                        bind mounts of subPaths
//!   data_dir/pods/<uid>/containers/<name>/<attempt>              termination messages
//! ```

pub(crate) mod atomic;
pub(crate) mod local;
pub(crate) mod payload;
pub(crate) mod refresh;
pub(crate) mod sources;
pub(crate) mod subpath;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use client::Api;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, ProjectedVolumeSource, Secret, ServiceAccount, ServiceAccountTokenProjection, Volume},
};
use kube::api::PostParams;
use parking_lot::Mutex;

use crate::{context::Context, convert::downward::NodeFacts};
use payload::Payload;

/// What a token lasts where the spec does not say.
const TOKEN_SECONDS: i64 = 3600;

/// Why a volume could not be made; the text is the one of kubelet's FailedMount event.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct VolumeError {
    pub volume: String,
    pub message: String,
}

/// Where each volume of a pod lies on the host.
pub type Mounted = HashMap<String, PathBuf>;

/// A pod's tokens, so that only their age makes new ones.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<HashMap<String, Token>>>);

struct Token {
    text: String,
    renew_at: Timestamp,
}

impl Tokens {
    /// When the first of them is to be renewed.
    pub fn renew_at(&self) -> Option<Timestamp> {
        self.0.lock().values().map(|token| token.renew_at).min()
    }
}

/// The folder of everything that belongs to a pod.
pub fn pod_dir(data_dir: &Path, uid: &str) -> PathBuf {
    data_dir.join("pods").join(uid)
}

fn volume_dir(data_dir: &Path, uid: &str, plugin: &str, name: &str) -> PathBuf {
    pod_dir(data_dir, uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// Makes all volumes of the pod, or brings those made from API objects up to date. Repeating it is fine.
pub async fn set_up(
    context: &Context,
    pod: &Arc<Pod>,
    facts: &NodeFacts,
    tokens: &Tokens,
) -> Result<Mounted, VolumeError> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
    let made = volumes.iter().map(|volume| async {
        let path = one(context, pod, volume, facts, tokens)
            .await
            .map_err(|message| VolumeError { volume: volume.name.clone(), message })?;
        Ok((volume.name.clone(), path))
    });
    futures::future::try_join_all(made).await.map(|list| list.into_iter().collect())
}

async fn one(
    context: &Context,
    pod: &Arc<Pod>,
    volume: &Volume,
    facts: &NodeFacts,
    tokens: &Tokens,
) -> Result<PathBuf, String> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let fs_group = fs_group(pod);
    let dir = |plugin: &str| volume_dir(&context.data_dir, &uid, plugin, &volume.name);
    if let Some(source) = &volume.host_path {
        let source = source.clone();
        return runtime::blocking(move || local::host_path(&source)).await;
    }
    if let Some(source) = &volume.empty_dir {
        let (source, dir) = (source.clone(), dir("empty-dir"));
        return runtime::blocking(move || local::empty_dir(&dir, &source, fs_group)).await;
    }
    let (plugin, payload) = if let Some(source) = &volume.config_map {
        let optional = source.optional.unwrap_or(false);
        let map = config_map(context, pod, &source.name, optional).await?;
        let mode = payload::mode(source.default_mode);
        ("configmap", payload::config_map(map.as_ref(), source.items.as_deref(), mode, optional)?)
    } else if let Some(source) = &volume.secret {
        let optional = source.optional.unwrap_or(false);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let secret = secret(context, pod, name, optional).await?;
        let mode = payload::mode(source.default_mode);
        ("secret", payload::secret(secret.as_ref(), source.items.as_deref(), mode, optional)?)
    } else if let Some(source) = &volume.downward_api {
        let mode = payload::mode(source.default_mode);
        ("downward-api", payload::downward(pod, source.items.as_deref().unwrap_or_default(), mode, facts)?)
    } else if let Some(source) = &volume.projected {
        ("projected", projected(context, pod, source, facts, tokens).await?)
    } else {
        return Err("this kind of volume is not supported by this node".to_owned());
    };
    let dir = dir(plugin);
    let target = dir.clone();
    let written = runtime::blocking(move || atomic::write(&target, &payload, fs_group)).await;
    written.map_err(|error| error.to_string())?;
    Ok(dir)
}

/// The group that owns the pod's volumes.
pub fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    context.fs_group.and_then(|group| u32::try_from(group).ok())
}

async fn projected(
    context: &Context,
    pod: &Arc<Pod>,
    source: &ProjectedVolumeSource,
    facts: &NodeFacts,
    tokens: &Tokens,
) -> Result<Payload, String> {
    let mode = payload::mode(source.default_mode);
    let mut all = Payload::new();
    for part in source.sources.iter().flatten() {
        let payload = if let Some(part) = &part.config_map {
            let optional = part.optional.unwrap_or(false);
            let map = config_map(context, pod, &part.name, optional).await?;
            payload::config_map(map.as_ref(), part.items.as_deref(), mode, optional)?
        } else if let Some(part) = &part.secret {
            let optional = part.optional.unwrap_or(false);
            let secret = secret(context, pod, &part.name, optional).await?;
            payload::secret(secret.as_ref(), part.items.as_deref(), mode, optional)?
        } else if let Some(part) = &part.downward_api {
            payload::downward(pod, part.items.as_deref().unwrap_or_default(), mode, facts)?
        } else if let Some(part) = &part.service_account_token {
            let text = token(context, pod, part, tokens).await?;
            // Only the owning group may read it when there is one.
            let mode = if fs_group(pod).is_some() { 0o600 } else { mode };
            payload::single(&part.path, text.into_bytes(), mode)?
        } else {
            return Err("this kind of projection is not supported by this node".to_owned());
        };
        all.extend(payload);
    }
    Ok(all)
}

async fn config_map(context: &Context, pod: &Pod, name: &str, optional: bool) -> Result<Option<ConfigMap>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(None) if !optional => Err(format!("configmap {name:?} not found")),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

async fn secret(context: &Context, pod: &Pod, name: &str, optional: bool) -> Result<Option<Secret>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api = Api::<Secret>::namespaced(context.client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(None) if !optional => Err(format!("secret {name:?} not found")),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

async fn token(
    context: &Context,
    pod: &Pod,
    part: &ServiceAccountTokenProjection,
    tokens: &Tokens,
) -> Result<String, String> {
    let now = context.clock.now();
    let audience = part.audience.clone().unwrap_or_default();
    let seconds = part.expiration_seconds.unwrap_or(TOKEN_SECONDS);
    let key = format!("{audience}/{seconds}");
    if let Some(token) = tokens.0.lock().get(&key).filter(|token| token.renew_at > now) {
        return Ok(token.text.clone());
    }
    let meta = &pod.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let api = Api::<ServiceAccount>::namespaced(context.client.clone(), namespace);
    let answer = api.create_token_request(account, &PostParams::default(), &request).await;
    let answer = answer.map_err(|error| format!("failed to fetch token: {error}"))?;
    let status = answer.status.ok_or("failed to fetch token: the answer holds none")?;
    // Renewed after four fifths of its life, and at least daily.
    let text = status.token.ok_or("failed to fetch token: the answer holds none")?;
    let asked = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    let expires = status.expiration_timestamp.map_or(asked, |time| time.0);
    let life = expires.duration_since(now).max(SignedDuration::ZERO);
    let fifths = life.checked_mul(4).map_or(life, |four| four / 5).min(SignedDuration::from_hours(24));
    let renew_at = now.checked_add(fifths).unwrap_or(expires);
    tokens.0.lock().insert(key, Token { text: text.clone(), renew_at });
    Ok(text)
}
