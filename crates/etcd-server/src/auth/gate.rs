//! Who sends a request, and what of the store they may use.
//!
//! ```text
//!   metadata `token` or `authorization` ──▶ simple: the store remembers · jwt: signed ──┐
//!   the connection's certificate, with --client-cert-auth ──▶ its common name ──────────┴─▶ Caller ─▶ store
//! ```
//!
//! While authentication is off this costs one atomic load. Knows no permission: the store decides.

use std::{ops::Deref, sync::Arc};

use http::{Extensions, HeaderMap};
use runtime::Clock;
use store_api::{Auth, AuthError, Caller, Demand, Store, StoreError};

use super::{certificate::PeerName, options::TokenKind, password::Passwords};

/// Where clients put their token: the one of etcd's clients first, the one of its HTTP gateway after it.
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];
/// A request that came through an HTTP gateway shows the gateway's certificate, not its sender's.
const GATEWAY_KEY: &str = "grpcgateway-accept";

/// What guarding a store needs.
pub struct AuthOptions {
    pub auth: Arc<dyn Auth>,
    pub tokens: TokenKind,
    /// `--bcrypt-cost`.
    pub bcrypt_cost: u32,
    /// `--client-cert-auth`: a certificate's common name is its holder's user.
    pub client_cert_auth: bool,
    /// What signed tokens begin and end by.
    pub clock: Clock,
}

impl AuthOptions {
    /// etcd's defaults.
    pub fn new(auth: Arc<dyn Auth>, clock: Clock) -> Self {
        let bcrypt_cost = super::password::DEFAULT_BCRYPT_COST;
        AuthOptions { auth, tokens: TokenKind::default(), bcrypt_cost, client_cert_auth: false, clock }
    }
}

/// The store's guard.
pub(crate) struct Gate {
    pub auth: Arc<dyn Auth>,
    pub tokens: TokenKind,
    pub passwords: Passwords,
    pub clock: Clock,
    client_cert_auth: bool,
}

/// The store as the sender of one request may use it.
pub(crate) enum Access<'a> {
    Open(&'a Arc<dyn Store>),
    Guarded(Arc<dyn Store>),
}

impl Deref for Access<'_> {
    type Target = Arc<dyn Store>;

    fn deref(&self) -> &Arc<dyn Store> {
        match self {
            Access::Open(store) => store,
            Access::Guarded(store) => store,
        }
    }
}

impl Gate {
    pub fn new(options: AuthOptions) -> Self {
        let AuthOptions { auth, tokens, bcrypt_cost, client_cert_auth, clock } = options;
        Gate { auth, tokens, passwords: Passwords::new(bcrypt_cost), clock, client_cert_auth }
    }

    /// Who sends a request, if it says so. Fails for a token that is none.
    pub async fn caller(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Option<Caller>, StoreError> {
        if !self.auth.enabled() {
            return Ok(None);
        }
        if let Some(token) = TOKEN_KEYS.iter().find_map(|key| headers.get(*key)) {
            let token = token.to_str().map_err(|_| AuthError::InvalidToken)?;
            return self.holder(token).await.map(Some);
        }
        if !self.client_cert_auth || headers.contains_key(GATEWAY_KEY) {
            return Ok(None);
        }
        let peer = extensions.get::<PeerName>();
        Ok(peer.map(|PeerName(name)| Caller::new(name.clone(), self.auth.revision())))
    }

    /// The store as the sender of a request may use it. `store` is anybody's: the
    /// store checks also those whose name nobody asks for here, for authentication may just have been turned on.
    pub async fn access<'a>(
        &self,
        store: &'a Arc<dyn Store>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Access<'a>, StoreError> {
        if !self.auth.enabled() {
            return Ok(Access::Open(store));
        }
        Ok(Access::Guarded(self.auth.as_caller(self.caller(headers, extensions).await?)))
    }

    /// Refuses a request that touches no key and that its sender may not make.
    pub async fn demand(&self, headers: &HeaderMap, extensions: &Extensions, demand: Demand) -> Result<(), StoreError> {
        if !self.auth.enabled() {
            return Ok(());
        }
        let caller = self.caller(headers, extensions).await?;
        Ok(self.auth.permit(caller.as_ref(), demand)?)
    }

    async fn holder(&self, token: &str) -> Result<Caller, StoreError> {
        match &self.tokens {
            TokenKind::Simple => self.auth.token_holder(token).await,
            TokenKind::Jwt(jwt) => {
                jwt.verify(token, self.clock.now().as_second()).ok_or(StoreError::Auth(AuthError::InvalidToken))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use store_api::{AuthAnswer, AuthChange, AuthQuery, PasswordHash, Revision};
    use tonic::async_trait;

    use super::*;

    /// At revision 7, it knows the token `good` to be alice's. Nothing else is asked of it here.
    struct Users(bool);

    #[async_trait]
    impl Auth for Users {
        fn enabled(&self) -> bool {
            self.0
        }

        fn revision(&self) -> u64 {
            7
        }

        async fn token_holder(&self, token: &str) -> Result<Caller, StoreError> {
            if token == "good" { Ok(Caller::new("alice", 7)) } else { Err(AuthError::InvalidToken.into()) }
        }

        async fn password_hash(&self, _name: &str) -> Result<PasswordHash, StoreError> {
            Err(StoreError::Stopped)
        }

        async fn assign_token(&self, _name: &str, _prefix: String) -> Result<String, StoreError> {
            Err(StoreError::Stopped)
        }

        async fn change(&self, _caller: Option<Caller>, _change: AuthChange) -> Result<Revision, StoreError> {
            Err(StoreError::Stopped)
        }

        async fn query(&self, _: Option<Caller>, _: AuthQuery) -> Result<(Revision, AuthAnswer), StoreError> {
            Err(StoreError::Stopped)
        }

        fn permit(&self, _caller: Option<&Caller>, _demand: Demand) -> Result<(), AuthError> {
            Err(AuthError::PermissionDenied)
        }

        fn as_caller(&self, _caller: Option<Caller>) -> Arc<dyn Store> {
            unreachable!("only callers are asked for here")
        }
    }

    #[tokio::test]
    async fn a_request_says_who_sends_it() {
        let check = async |headers: &[(&'static str, &str)], peer: &str, guard: (bool, bool), expected| {
            let (enabled, client_cert_auth) = guard;
            let options = AuthOptions::new(Arc::new(Users(enabled)), Clock::system());
            let gate = Gate::new(AuthOptions { client_cert_auth, ..options });
            let pairs = headers.iter().map(|(key, value)| {
                (http::HeaderName::from_static(key), HeaderValue::from_bytes(value.as_bytes()).expect("a header"))
            });
            let (headers, mut extensions) = (pairs.collect::<HeaderMap>(), Extensions::new());
            if !peer.is_empty() {
                extensions.insert(PeerName(peer.into()));
            }
            let found = gate.caller(&headers, &extensions).await;
            assert_eq!(
                found.map(|caller| caller.map(|caller| caller.name.to_string())),
                expected,
                "{headers:?} {peer}"
            );
        };
        let (on, certified, off) = ((true, false), (true, true), (false, true));
        let (nobody, of) = (Ok(None), |name: &str| Ok(Some(name.to_owned())));
        let invalid = Err(StoreError::Auth(AuthError::InvalidToken));
        check(&[], "", on, nobody.clone()).await;
        check(&[("token", "good")], "", on, of("alice")).await;
        check(&[("authorization", "good")], "", on, of("alice")).await;
        check(&[("authorization", "good"), ("token", "bad")], "", on, invalid.clone()).await;
        check(&[("token", "\u{e9}")], "", on, invalid).await;
        check(&[], "bob", on, nobody.clone()).await;
        check(&[], "bob", certified, of("bob")).await;
        check(&[("token", "good")], "bob", certified, of("alice")).await;
        check(&[("grpcgateway-accept", "x")], "bob", certified, nobody.clone()).await;
        check(&[("token", "bad")], "bob", off, nobody).await;
    }
}
