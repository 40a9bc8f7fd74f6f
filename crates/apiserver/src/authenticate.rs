//! Who sends a request: a client certificate, a token given at the start, a service account's token, or nobody.

use std::collections::{BTreeMap, HashMap};

use http::{HeaderMap, header};
use parking_lot::Mutex;
use registry::Status;
use sha2::{Digest, Sha256};

use crate::{
    core::Core,
    identity::{Identity, MASTERS},
    options::StaticToken,
    token::{Bound, Claims, Reference, TokenError, check_time_and_audience},
};

/// Tokens whose signature was found right, remembered by their hash; all are forgotten past it.
const REMEMBERED: usize = 4096;

type Hash = [u8; 32];

pub(crate) struct Authenticator {
    fixed: HashMap<Hash, Identity>,
    checked: Mutex<HashMap<Hash, Claims>>,
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

impl Authenticator {
    pub fn new(tokens: Vec<StaticToken>) -> Self {
        // Tokens are found by their hash, so that the time of a look-up says nothing about them.
        let fixed = tokens.into_iter().map(|t| (hash(&t.token), t.identity)).collect();
        Authenticator { fixed, checked: Mutex::default() }
    }

    /// The identity that the request's headers or its connection's certificate prove; anonymous when they claim none.
    pub async fn authenticate(
        &self,
        core: &Core,
        headers: &HeaderMap,
        certificate: Option<&Identity>,
    ) -> Result<Identity, Status> {
        let identity = match (certificate, headers.get(header::AUTHORIZATION)) {
            (Some(identity), _) => identity.clone(),
            (None, None) => Identity::anonymous(),
            (None, Some(value)) => {
                let token = value.to_str().ok().and_then(bearer).ok_or_else(Status::unauthorized)?;
                self.token(core, token, core.tokens.audiences()).await?.ok_or_else(Status::unauthorized)?.0
            }
        };
        impersonate(identity, headers)
    }

    /// Whose token this is, with the claims of a service account's; none when it is not valid.
    pub async fn token(
        &self,
        core: &Core,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<(Identity, Option<Claims>)>, Status> {
        let hash = hash(token);
        if let Some(identity) = self.fixed.get(&hash) {
            return Ok(Some((identity.clone(), None)));
        }
        let claims = match self.claims(core, hash, token, audiences) {
            Ok(claims) => claims,
            Err(error) => {
                tracing::debug!(%error, "a bearer token was refused");
                return Ok(None);
            }
        };
        if !still_bound(core, &claims.kubernetes).await? {
            return Ok(None);
        }
        Ok(Some((service_account(&claims), Some(claims))))
    }

    fn claims(&self, core: &Core, hash: Hash, token: &str, audiences: &[String]) -> Result<Claims, TokenError> {
        let now = core.now().as_second();
        if let Some(claims) = self.checked.lock().get(&hash).cloned() {
            check_time_and_audience(&claims, now, audiences)?;
            return Ok(claims);
        }
        let claims = core.tokens.verify(token, now, audiences)?;
        let mut checked = self.checked.lock();
        if checked.len() >= REMEMBERED {
            checked.clear();
        }
        checked.insert(hash, claims.clone());
        Ok(claims)
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

/// Everything that the token is bound to must still be there, as the same object.
async fn still_bound(core: &Core, bound: &Bound) -> Result<bool, Status> {
    let account = Some(&bound.serviceaccount);
    let namespace = bound.namespace.as_str();
    for (plural, namespace, reference) in [
        ("serviceaccounts", namespace, account),
        ("pods", namespace, bound.pod.as_ref()),
        ("secrets", namespace, bound.secret.as_ref()),
        ("nodes", "", bound.node.as_ref()),
    ] {
        let Some(Reference { name, uid }) = reference else { continue };
        let found = core.neighbour("", plural, namespace, name).await?;
        // A pod's node goes with the pod and may be read only with a pod, so its absence alone proves nothing.
        let exists = found.is_some_and(|object| uid.is_empty() || object["metadata"]["uid"] == uid.as_str());
        if !exists && plural != "nodes" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn service_account(claims: &Claims) -> Identity {
    let bound = &claims.kubernetes;
    let mut extra = BTreeMap::from([(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("JTI={}", claims.jti)],
    )]);
    for (kind, reference) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some(Reference { name, uid }) = reference {
            extra.insert(format!("authentication.kubernetes.io/{kind}-name"), vec![name.clone()]);
            extra.insert(format!("authentication.kubernetes.io/{kind}-uid"), vec![uid.clone()]);
        }
    }
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", bound.namespace)];
    Identity::with_extra(claims.sub.clone(), bound.serviceaccount.uid.clone(), groups, extra)
}

/// The administrator may act as someone else (`kubectl --as`); nobody else may.
fn impersonate(identity: Identity, headers: &HeaderMap) -> Result<Identity, Status> {
    let Some(user) = headers.get("impersonate-user") else { return Ok(identity) };
    let user = user.to_str().map_err(|_| Status::bad_request("Impersonate-User is not text"))?;
    if !identity.is_in(MASTERS) {
        let why = format!(
            "users {user:?} is forbidden: User {:?} cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
            identity.user()
        );
        return Err(Status::new(403, "Forbidden", why));
    }
    let groups: Vec<&str> =
        headers.get_all("impersonate-group").iter().filter_map(|value| value.to_str().ok()).collect();
    if user == "system:anonymous" {
        return Ok(Identity::anonymous());
    }
    if let (Some(account), true) = (user.strip_prefix("system:serviceaccount:"), groups.is_empty()) {
        let namespace = account.split(':').next().unwrap_or_default();
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        return Ok(Identity::new(user, groups));
    }
    Ok(Identity::new(user, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic abc", None),
        ] {
            assert_eq!(bearer(value), expected, "{value}");
        }
    }

    #[test]
    fn only_the_administrator_acts_as_others() {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("impersonate-user"),
            "system:serviceaccount:a:b".parse().unwrap(),
        )]);
        let as_other = impersonate(Identity::admin(), &headers).unwrap();
        assert_eq!(as_other.user(), "system:serviceaccount:a:b");
        assert!(as_other.is_in("system:serviceaccounts:a"));
        assert_eq!(impersonate(Identity::new("jane", ["dev"]), &headers).unwrap_err().code, 403);
    }
}
