//! Questions to the API server about users: whose token is this, may they do that. Answers are kept for a while.

use std::{collections::HashMap, hash::Hash, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use runtime::Clock;
use tokio::time::timeout;

use super::auth::User;

/// Answers that are kept; past it, those that have ended are dropped, and else all.
const MAX_KEPT: usize = 1024;
/// How long the API server may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Answers by question, each with its end.
struct Kept<Q, A> {
    answers: Mutex<HashMap<Q, (A, Duration)>>,
    clock: Clock,
}

impl<Q: Eq + Hash, A: Clone> Kept<Q, A> {
    fn new(clock: Clock) -> Self {
        Kept { answers: Mutex::default(), clock }
    }

    fn get(&self, question: &Q) -> Option<A> {
        let now = self.clock.monotonic();
        self.answers.lock().get(question).filter(|(_, end)| *end > now).map(|(answer, _)| answer.clone())
    }

    fn put(&self, question: Q, answer: A, good_for: Duration) {
        let now = self.clock.monotonic();
        let mut answers = self.answers.lock();
        if answers.len() >= MAX_KEPT {
            answers.retain(|_, (_, end)| *end > now);
        }
        if answers.len() >= MAX_KEPT {
            answers.clear();
        }
        answers.insert(question, (answer, now + good_for));
    }
}

/// Whose a token is.
pub struct Tokens {
    api: Api<TokenReview>,
    kept: Kept<String, Option<User>>,
    good_for: Duration,
}

impl Tokens {
    pub fn new(client: Client, good_for: Duration, clock: Clock) -> Self {
        Tokens { api: Api::all(client), kept: Kept::new(clock), good_for }
    }

    /// `Ok(None)`: nobody's.
    pub async fn user(&self, token: &str) -> Result<Option<User>, String> {
        if let Some(known) = self.kept.get(&token.to_owned()) {
            return Ok(known);
        }
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = ask(self.api.create(&PostParams::default(), &review)).await?;
        let status = review.status.filter(|status| status.authenticated == Some(true));
        let user = status.and_then(|status| status.user).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        self.kept.put(token.to_owned(), user.clone(), self.good_for);
        Ok(user)
    }
}

/// What a user may do.
pub struct Access {
    api: Api<SubjectAccessReview>,
    kept: Kept<(User, String, String), bool>,
    allowed_for: Duration,
    refused_for: Duration,
}

impl Access {
    pub fn new(client: Client, allowed_for: Duration, refused_for: Duration, clock: Clock) -> Self {
        Access { api: Api::all(client), kept: Kept::new(clock), allowed_for, refused_for }
    }

    pub async fn allows(&self, user: &User, verb: &str, path: &str) -> Result<bool, String> {
        let question = (user.clone(), verb.to_owned(), path.to_owned());
        if let Some(known) = self.kept.get(&question) {
            return Ok(known);
        }
        let attributes = NonResourceAttributes { path: Some(path.to_owned()), verb: Some(verb.to_owned()) };
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let spec = SubjectAccessReviewSpec {
            user: some(&user.name),
            uid: some(&user.uid),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            non_resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let review = ask(self.api.create(&PostParams::default(), &review)).await?;
        let allowed = review.status.is_some_and(|status| status.allowed);
        self.kept.put(question, allowed, if allowed { self.allowed_for } else { self.refused_for });
        Ok(allowed)
    }
}

async fn ask<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(LIMIT, question).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the API server did not answer within {LIMIT:?}")),
    }
}
