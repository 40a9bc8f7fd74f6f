//! A registry's token for an identity token: the distribution specification's OAuth2 (`grant_type=refresh_token`). What is asked for
//! user and password, the registry's client does by itself.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url, header};
use serde::Deserialize;

use super::http::chain;

/// For each answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer with a token.
const MAX_ANSWER: usize = 1 << 20;
/// Who asks, to the registry's logs.
const CLIENT: &str = "plinth";

/// Where tokens are given out.
#[derive(Debug, PartialEq, Eq)]
struct Office {
    realm: Url,
    service: Option<String>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: Option<String>,
    /// The older name.
    token: Option<String>,
}

/// Asks the registry where tokens are given out, and there for one that reads the repository.
pub(super) async fn exchange(scheme: &str, registry: &str, repository: &str, identity: &str) -> Result<String, String> {
    let told = |error: reqwest::Error| format!("token: {}", chain(&error));
    let agent = concat!("plinth/", env!("CARGO_PKG_VERSION"));
    let client = Client::builder().timeout(PATIENCE).user_agent(agent).build().map_err(told)?;
    let asked = client.get(format!("{scheme}://{registry}/v2/")).send().await.map_err(told)?;
    let challenge = asked.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let office = office(challenge.unwrap_or_default(), scheme)?;
    let scope = format!("repository:{repository}:pull");
    let mut form = office.realm.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", CLIENT)
        .append_pair("scope", &scope)
        .append_pair("refresh_token", identity)
        .extend_pairs(office.service.iter().map(|service| ("service", service)));
    let request = client.post(office.realm).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = request.body(form.query().unwrap_or_default().to_owned()).send().await.map_err(told)?;
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(format!("token: the registry does not take the identitytoken: it answers {status}"));
    }
    let granted: Option<Granted> = serde_json::from_slice(&body(answer).await?).ok();
    let token = granted.and_then(|granted| granted.access_token.or(granted.token));
    token.ok_or_else(|| "token: the registry answers without one".to_owned())
}

async fn body(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| format!("token: {}", chain(&error)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return Err(format!("token: the answer has more than {MAX_ANSWER} bytes"));
        }
    }
    Ok(bytes)
}

/// Reads where tokens are given out. A secret that came to a registry by TLS goes no further without it.
fn office(challenge: &str, scheme: &str) -> Result<Office, String> {
    let challenges = http_auth::parse_challenges(challenge).unwrap_or_default();
    let bearer = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("Bearer"));
    let bearer = bearer.ok_or("token: the registry gives none out, so that an identitytoken is of no use")?;
    let value = |name: &str| {
        let found = bearer.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    let realm = value("realm").unwrap_or_default();
    let url = Url::parse(&realm).map_err(|error| format!("token: the realm {realm:?} is no address: {error}"))?;
    if url.scheme() != "https" && url.scheme() != scheme {
        return Err(format!("token: the realm {realm:?} is not reached by https"));
    }
    Ok(Office { realm: url, service: value("service") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_challenge_says_where_tokens_are_given_out() {
        let check = |challenge: &str, scheme: &str, expected: &str| {
            let found = match office(challenge, scheme) {
                Ok(Office { realm, service }) => format!("{realm} {service:?}"),
                Err(error) => error,
            };
            assert!(found.contains(expected), "{challenge}: {found}");
        };
        let full = r#"Basic realm="x", Bearer realm="https://auth.io/token?a=b",service="r.io""#;
        check(full, "https", "https://auth.io/token?a=b Some(\"r.io\")");
        check(r#"bearer Realm="http://127.0.0.1:1/token""#, "http", "http://127.0.0.1:1/token None");
        check(r#"Bearer realm="http://auth.io/token""#, "https", "is not reached by https");
        check(r#"Bearer realm="/token""#, "https", "is no address");
        check(r#"Bearer service="r.io""#, "https", "is no address");
        check(r#"Basic realm="x""#, "https", "gives none out");
        check("", "https", "gives none out");
        check("Bearer realm=\"", "https", "gives none out");
    }

    proptest! {
        #[test]
        fn an_arbitrary_challenge_does_no_harm(text in ".{0,64}", realm in ".{0,32}") {
            let _ = office(&text, "https");
            let _ = office(&format!("Bearer realm=\"{realm}\""), "https");
        }
    }
}
