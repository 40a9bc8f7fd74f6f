//! Kubernetes `Status` objects: every error of the API, with Kubernetes' reasons, codes and words, in one file.

use std::borrow::Cow;

use kube_schema::kinds::Kind;
use serde_json::{Map, Value, json};

use crate::field::FieldError;

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`; empty where Kubernetes gives none.
    pub reason: &'static str,
    /// What people read.
    pub message: String,
    /// What programs read.
    pub details: Option<Box<Details>>,
}

/// The machine-readable part of a [`Status`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// Its API group.
    pub group: String,
    /// Its resource (or kind, for `Invalid`).
    pub kind: String,
    /// Its uid.
    pub uid: String,
    /// One per thing that is wrong.
    pub causes: Vec<Cause>,
    /// When to try again; 0: not told.
    pub retry_after_seconds: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Such as `FieldValueRequired`.
    pub reason: &'static str,
    /// What people read.
    pub message: String,
    /// Where, such as `spec.containers[0].image`.
    pub field: String,
}

/// A resource named in an error: `pods`, `deployments.apps`.
fn qualified<'a>(name: &'a str, group: &str) -> Cow<'a, str> {
    if group.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{name}.{group}")) }
}

impl Status {
    /// Any error. Prefer the named ones.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Status { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: kind.group.to_string(),
            kind: kind.plural.to_string(),
            ..Details::default()
        }));
        self
    }

    /// 404: there is no such object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(&kind.plural, &kind.group));
        Self::new(404, "NotFound", message).about(kind, name)
    }

    /// 404: there is no such URL.
    pub fn no_such_path() -> Self {
        let mut status = Self::new(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 409: an object of this name exists.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(&kind.plural, &kind.group));
        Self::new(409, "AlreadyExists", message).about(kind, name)
    }

    /// 409: a generated name was taken; try again.
    pub fn generated_name_conflict(kind: &Kind, name: &str) -> Self {
        let mut status = Self::already_exists(kind, name);
        status.message = format!(
            "{} {name:?} already exists, the server was not able to generate a unique name for the object",
            qualified(&kind.plural, &kind.group)
        );
        status.retry_after(1)
    }

    /// 409: the request cannot go with the object as it is now.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = qualified(&kind.plural, &kind.group);
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {resource} {name:?}: {why}"))
            .about(kind, name)
    }

    /// 409: the object was changed since the client read it.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// 422: the object breaks rules. `errors` holds at least one.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for error in &errors {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let all = if texts.len() == 1 { texts.swap_remove(0) } else { format!("[{}]", texts.join(", ")) };
        let causes = errors.into_iter().map(FieldError::into_cause).collect();
        let mut status = Self::new(422, "Invalid", format!("{} {name:?} is invalid: {all}", qualified(kind, group)));
        status.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes,
            ..Details::default()
        }));
        status
    }

    /// 422: a patch that is well-formed does not fit the object.
    pub fn patch_does_not_apply() -> Self {
        let message = "the server rejected our request due to an error in our request";
        let mut status = Self::new(422, "Invalid", message);
        status.details = Some(Box::default());
        status
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: nobody known.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: known, but not allowed, or the cluster's state forbids it.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = qualified(&kind.plural, &kind.group);
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {name:?} is forbidden: {why}")
        };
        Self::new(403, "Forbidden", message).about(kind, name)
    }

    /// 403: a path outside the resources that this user may not ask for.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let mut status = Self::new(403, "Forbidden", format!("forbidden: User {user:?} cannot {verb} path {path:?}"));
        status.details = Some(Box::default());
        status
    }

    /// 403: creating in a namespace that goes away.
    pub fn namespace_terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Self::forbidden(kind, name, &why);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "NamespaceTerminating",
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".to_owned(),
            });
        }
        status
    }

    /// 405: this verb does not go with this resource.
    pub fn method_not_supported(kind: &Kind, action: &str) -> Self {
        let resource = qualified(&kind.plural, &kind.group);
        let message = format!("{action} is not supported on resources of kind {resource:?}");
        Self::new(405, "MethodNotAllowed", message).about(kind, "")
    }

    /// 405: this HTTP method does not go with this URL.
    pub fn method_not_allowed() -> Self {
        let mut status =
            Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 406: none of the media types that the client takes is made here.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(406, "NotAcceptable", message)
    }

    /// 410: what was asked for is compacted away.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410: the resource version is older than the watch can go back.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    /// 413: the body is over the limit.
    pub fn request_entity_too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {}", message.into()))
    }

    /// 415: the body's media type is not understood.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let accepted = accepted.join(", ");
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429: come back later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    /// 500: a fault here.
    pub fn internal_error(why: impl std::fmt::Display) -> Self {
        let mut status = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        let cause = Cause { reason: "", message: why.to_string(), field: String::new() };
        status.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
        status
    }

    /// 503: not now.
    pub fn service_unavailable(why: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", why)
    }

    /// 504: it may or may not have happened.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into())).retry_after(retry_after_seconds)
    }

    /// 504: the resource version asked for is in the future.
    pub fn too_large_resource_version(asked: u64, current: u64, retry_after_seconds: u32) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let mut status = Self::timeout(message, retry_after_seconds);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "ResourceVersionTooLarge",
                message: "Too large resource version".to_owned(),
                field: String::new(),
            });
        }
        status
    }

    /// Tells the client when to try again.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The object that goes over the wire.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
        }
        status
    }

    /// `Status` of success, as a delete that leaves nothing answers.
    pub fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
        let details = Details {
            name: name.to_owned(),
            group: kind.group.to_string(),
            kind: kind.plural.to_string(),
            uid: uid.to_owned(),
            ..Details::default()
        };
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value()})
    }

    /// `Status` of success, as a binding answers.
    pub fn created() -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                out.insert(key.to_owned(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".to_owned(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds != 0 {
            out.insert("retryAfterSeconds".to_owned(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [("reason", self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                out.insert(key.to_owned(), text.into());
            }
        }
        Value::Object(out)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
