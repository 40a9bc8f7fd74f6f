//! Who a request is of, and whether it may be answered: as kube-scheduler, which asks the API server.
//!
//! In this order: a proxy with a certificate says who; a client's own certificate; a token; else it is nobody's.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use client::{Client, Protocol, connect};
use http::{HeaderMap, Method, header::AUTHORIZATION};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use runtime::{Clock, Tasks};
use rustls::pki_types::CertificateDer;

use super::{
    ServeError,
    authorities::{self, Authorities},
    reviews::{Access, Tokens},
};
use crate::{parse::Values, setup::words};

const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const AUTHENTICATED: &str = "system:authenticated";
/// Who is in this group may do anything.
const MASTERS: &str = "system:masters";
/// Where a cluster says who vouches for certificates.
const LOOKUP: (&str, &str) = ("kube-system", "extension-apiserver-authentication");
/// How often authorities are read again.
const REFRESH: Duration = Duration::from_secs(60);
/// Groups and other values that are read from one request's headers.
const MAX_HEADER_VALUES: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("forbidden: User {user:?} cannot {verb} path {path:?}")]
    Forbidden { user: String, verb: String, path: String },
    /// The API server could not be asked.
    #[error("{0}")]
    Unknown(String),
}

/// Where clients' authorities come from.
enum Source {
    Nowhere,
    File(String),
    Cluster,
}

/// The flags' part.
pub struct Options {
    asks_whose: Option<kube::Config>,
    asks_may: Option<kube::Config>,
    token_ttl: Duration,
    allowed_ttl: Duration,
    refused_ttl: Duration,
    clients: Source,
    proxies: Source,
    headers: Headers,
    always: Vec<String>,
}

/// What a proxy says of a user, and which proxies may.
#[derive(Clone, Default)]
struct Headers {
    allowed_names: Vec<String>,
    user: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra_prefix: Vec<String>,
}

impl Options {
    pub async fn new(values: &Values) -> Result<Self, ServeError> {
        let asks_whose = kubeconfig(values.text("authentication-kubeconfig")).await;
        let asks_whose = asks_whose.map_err(ServeError::AuthenticationKubeconfig)?;
        let looks_up = !values.bool("authentication-skip-lookup");
        let source = |flag: &str, key: &str, words: &str| match (values.text(flag), &asks_whose) {
            ("", Some(_)) if looks_up => Source::Cluster,
            ("", None) if looks_up => {
                tracing::warn!(
                    "No authentication-kubeconfig provided in order to lookup {key} in configmap/{} in {}, so {words} \
                     won't work.",
                    LOOKUP.1,
                    LOOKUP.0
                );
                Source::Nowhere
            }
            ("", _) => Source::Nowhere,
            (path, _) => Source::File(path.to_owned()),
        };
        let clients = source("client-ca-file", "client-ca-file", "client certificate authentication");
        if let Source::File(path) = &clients {
            read(path).map_err(|error| ServeError::ClientCa(Box::new(error)))?;
        }
        let words = "request-header client certificate authentication";
        let proxies = source("requestheader-client-ca-file", "requestheader-client-ca-file", words);
        if let Source::File(path) = &proxies {
            read(path).map_err(|error| ServeError::HeaderCa(Box::new(error)))?;
        }
        if let (Some(api), false) = (&asks_whose, values.bool("authentication-tolerate-lookup-failure"))
            && matches!(clients, Source::Cluster)
        {
            let client = connect(api, Protocol::Http1).map_err(ServeError::AuthenticationKubeconfig)?;
            lookup(&client).await.map_err(ServeError::Lookup)?;
        }
        let asks_may = kubeconfig(values.text("authorization-kubeconfig")).await;
        let asks_may = asks_may.map_err(ServeError::AuthorizationKubeconfig)?;
        if asks_may.is_none() {
            tracing::warn!(
                "No authorization-kubeconfig provided, so SubjectAccessReview of authorization tokens won't work."
            );
        }
        let always = values.list("authorization-always-allow-paths");
        for path in &always {
            let path = path.trim_start_matches('/');
            if path.trim_end_matches('*').contains('*') || path.ends_with("**") {
                return Err(ServeError::Path(path.to_owned()));
            }
        }
        let list = |name: &str| values.list(&format!("requestheader-{name}"));
        Ok(Options {
            asks_whose,
            asks_may,
            token_ttl: values.duration("authentication-token-webhook-cache-ttl").get(),
            allowed_ttl: values.duration("authorization-webhook-cache-authorized-ttl").get(),
            refused_ttl: values.duration("authorization-webhook-cache-unauthorized-ttl").get(),
            clients,
            proxies,
            headers: Headers {
                allowed_names: list("allowed-names"),
                user: list("username-headers"),
                uid: list("uid-headers"),
                group: list("group-headers"),
                extra_prefix: list("extra-headers-prefix"),
            },
            always,
        })
    }
}

/// The configuration in a kubeconfig, or the pod's. `None`: neither is there.
async fn kubeconfig(path: &str) -> Result<Option<kube::Config>, client::ConnectError> {
    if path.is_empty() {
        return Ok(kube::Config::incluster_env().ok());
    }
    client::configuration(Some(Path::new(path)), None).await.map(Some)
}

fn read(path: &str) -> Result<Vec<u8>, ServeError> {
    std::fs::read(path).map_err(|error| ServeError::File { path: path.to_owned(), reason: words(&error) })
}

async fn lookup(client: &Client) -> Result<BTreeMap<String, String>, String> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), LOOKUP.0);
    let found = tokio::time::timeout(REFRESH, api.get(LOOKUP.1)).await;
    let found = found.map_err(|_| format!("the API server did not answer within {REFRESH:?}"))?;
    Ok(found.map_err(|error| error.to_string())?.data.unwrap_or_default())
}

/// Tells requests apart.
pub struct Auth {
    tokens: Option<Tokens>,
    access: Option<Access>,
    clients: Authorities,
    proxies: Authorities,
    headers: Arc<parking_lot::RwLock<Headers>>,
    always: Vec<String>,
    clock: Clock,
}

impl Auth {
    /// Reads the authorities once, and again from time to time.
    pub async fn new(options: &Options, clock: Clock, tasks: &Tasks) -> Self {
        let client = |api: &kube::Config| connect(api, Protocol::Http1).ok();
        let (whose, may) = (options.asks_whose.as_ref().and_then(client), options.asks_may.as_ref().and_then(client));
        let auth = Auth {
            tokens: whose.clone().map(|client| Tokens::new(client, options.token_ttl, clock.clone())),
            access: may.map(|c| Access::new(c, options.allowed_ttl, options.refused_ttl, clock.clone())),
            clients: Authorities::default(),
            proxies: Authorities::default(),
            headers: Arc::new(parking_lot::RwLock::new(options.headers.clone())),
            always: options.always.clone(),
            clock,
        };
        let file = |source: &Source| if let Source::File(path) = source { Some(path.clone()) } else { None };
        let refresh = Refresh {
            clients: (auth.clients.clone(), file(&options.clients)),
            proxies: (auth.proxies.clone(), file(&options.proxies)),
            headers: auth.headers.clone(),
            cluster: whose
                .filter(|_| matches!(options.clients, Source::Cluster) || matches!(options.proxies, Source::Cluster)),
            from_cluster: (matches!(options.clients, Source::Cluster), matches!(options.proxies, Source::Cluster)),
        };
        refresh.once().await;
        tasks.spawn("authorities", async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                refresh.once().await;
            }
        });
        auth
    }

    /// Whether a request may be answered.
    pub async fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), Refused> {
        let user = self.user(headers, chain).await?;
        if user.groups.iter().any(|group| group == MASTERS) || self.is_always_allowed(path) {
            return Ok(());
        }
        let verb = method.as_str().to_ascii_lowercase();
        let allowed = match &self.access {
            Some(access) => access.allows(&user, &verb, path).await.map_err(Refused::Unknown)?,
            None => false,
        };
        if allowed { Ok(()) } else { Err(Refused::Forbidden { user: user.name, verb, path: path.to_owned() }) }
    }

    fn is_always_allowed(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        self.always
            .iter()
            .map(|allowed| allowed.trim_start_matches('/'))
            .any(|allowed| allowed.strip_suffix('*').map_or(path == allowed, |prefix| path.starts_with(prefix)))
    }

    async fn user(&self, headers: &HeaderMap, chain: &[CertificateDer<'static>]) -> Result<User, Refused> {
        let now = self.clock.now();
        if self.proxies.vouch(chain, now)
            && let Some(user) = self.headers.read().user(headers, chain)
        {
            return Ok(user);
        }
        if self.clients.vouch(chain, now)
            && let Some((name, groups)) = authorities::subject(&chain[0])
        {
            return Ok(authenticated(User { name, groups, ..User::default() }));
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.split_once(' '));
        let token = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        if let (Some(tokens), Some(token)) = (&self.tokens, token.filter(|token| !token.is_empty())) {
            return match tokens.user(token).await {
                Ok(Some(user)) => Ok(authenticated(user)),
                Ok(None) => Err(Refused::Unauthorized),
                Err(error) => {
                    tracing::error!(error, "Unable to authenticate the request");
                    Err(Refused::Unauthorized)
                }
            };
        }
        let groups = vec![UNAUTHENTICATED.to_owned()];
        Ok(User { name: ANONYMOUS.to_owned(), groups, ..User::default() })
    }
}

fn authenticated(mut user: User) -> User {
    if !user.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

impl Headers {
    /// Who a proxy says that the request is of.
    fn user(&self, headers: &HeaderMap, chain: &[CertificateDer<'static>]) -> Option<User> {
        let (proxy, _) = authorities::subject(chain.first()?)?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy) {
            return None;
        }
        let all = |names: &[String]| -> Vec<String> {
            let values = names.iter().flat_map(|name| headers.get_all(name.as_str()));
            values.filter_map(|value| value.to_str().ok()).take(MAX_HEADER_VALUES).map(str::to_owned).collect()
        };
        let name = all(&self.user).into_iter().find(|name| !name.is_empty())?;
        let uid = all(&self.uid).into_iter().next().unwrap_or_default();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in headers.iter().take(MAX_HEADER_VALUES) {
            let key = self.extra_prefix.iter().find_map(|prefix| {
                header.as_str().strip_prefix(prefix.to_ascii_lowercase().as_str()).map(str::to_owned)
            });
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(authenticated(User { name, uid, groups: all(&self.group), extra }))
    }

    /// Takes over what the cluster says of its proxies.
    fn take(&mut self, data: &BTreeMap<String, String>) {
        let list = |key: &str| serde_json::from_str(data.get(key).map_or("[]", String::as_str)).unwrap_or_default();
        *self = Headers {
            allowed_names: list("requestheader-allowed-names"),
            user: list("requestheader-username-headers"),
            uid: list("requestheader-uid-headers"),
            group: list("requestheader-group-headers"),
            extra_prefix: list("requestheader-extra-headers-prefix"),
        };
    }
}

/// Reads authorities again.
struct Refresh {
    clients: (Authorities, Option<String>),
    proxies: (Authorities, Option<String>),
    headers: Arc<parking_lot::RwLock<Headers>>,
    cluster: Option<Client>,
    /// Whether those of clients, and those of proxies, are the cluster's.
    from_cluster: (bool, bool),
}

impl Refresh {
    async fn once(&self) {
        for (authorities, path) in [&self.clients, &self.proxies] {
            let Some(path) = path else { continue };
            match read(path) {
                Ok(pem) => replace(authorities, &pem, path),
                Err(error) => tracing::warn!(%error, "authorities of clients cannot be read again"),
            }
        }
        let Some(client) = &self.cluster else { return };
        let data = match lookup(client).await {
            Ok(data) => data,
            Err(error) => {
                tracing::warn!("Error looking up in-cluster authentication configuration: {error}");
                return;
            }
        };
        let (clients, proxies) = self.from_cluster;
        if let (true, Some(pem)) = (clients, data.get("client-ca-file")) {
            replace(&self.clients.0, pem.as_bytes(), "client-ca-file");
        }
        if let (true, Some(pem)) = (proxies, data.get("requestheader-client-ca-file")) {
            replace(&self.proxies.0, pem.as_bytes(), "requestheader-client-ca-file");
            self.headers.write().take(&data);
        }
    }
}

fn replace(authorities: &Authorities, pem: &[u8], of: &str) {
    if let Err(error) = authorities.set(pem) {
        tracing::warn!(of, %error, "authorities of clients stay as they were");
    }
}
