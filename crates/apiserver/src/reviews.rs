//! Questions to the API about itself: may I, what may I, who am I, whose token is this. Answered, never stored.

use http::{Response, StatusCode};
use registry::{Status, Target, format_time};
use serde_json::{Value, json};

use crate::{
    authorize::{Attributes, allowed, is_privileged},
    body::Body,
    core::Served,
    identity::{AUTHENTICATED, Identity},
    pipeline::Call,
    respond, subresource,
};

/// Answers a create of a kind that is not stored.
pub(crate) async fn create(mut call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let resource = served.resource;
    if resource.kind().kind == "Binding" {
        return subresource::bind(call, served).await;
    }
    let mut review = call.decode(resource, Target::Object).await?;
    let status = match resource.kind().kind.as_ref() {
        "SelfSubjectAccessReview" => access(&call.identity, &review["spec"])?,
        "SubjectAccessReview" => {
            let subject = subject(&review["spec"])?;
            access(&subject, &review["spec"])?
        }
        "SelfSubjectRulesReview" => rules(&call.identity),
        "SelfSubjectReview" => json!({ "userInfo": user_info(&call.identity) }),
        "TokenReview" => token(&call, &review["spec"]).await?,
        _ => return Err(Status::method_not_allowed()),
    };
    review["status"] = status;
    if review["metadata"].is_null() {
        review["metadata"] = json!({});
    }
    if resource.kind().kind == "SelfSubjectReview" {
        review["metadata"]["creationTimestamp"] = format_time(call.core.now()).into();
    }
    let mut response = respond::json(StatusCode::CREATED, &review);
    respond::warn(&mut response, &call.warnings);
    Ok(response)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn access(identity: &Identity, spec: &Value) -> Result<Value, Status> {
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let attributes = match (resource.is_object(), other.is_object()) {
        (true, false) => Attributes {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: None,
        },
        (false, true) => {
            Attributes { verb: text(other, "verb"), path: Some(text(other, "path")), ..Attributes::default() }
        }
        _ => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(Status::new(
                422,
                "Invalid",
                format!(
                    "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: {why}"
                ),
            ));
        }
    };
    Ok(json!({ "allowed": allowed(identity, &attributes) }))
}

fn subject(spec: &Value) -> Result<Identity, Status> {
    let groups: Vec<&str> = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let user = spec["user"].as_str().unwrap_or_default();
    if user.is_empty() && groups.is_empty() {
        return Err(Status::new(
            422,
            "Invalid",
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ));
    }
    if user == "system:anonymous" || !groups.contains(&AUTHENTICATED) && user.is_empty() {
        return Ok(if user.is_empty() { Identity::new("", groups) } else { Identity::anonymous() });
    }
    Ok(Identity::new(user, groups))
}

fn rules(identity: &Identity) -> Value {
    let (resources, paths) = if is_privileged(identity) {
        (
            json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }]),
            json!([{ "verbs": ["*"], "nonResourceURLs": ["*"] }]),
        )
    } else {
        (
            json!([
                {
                    "verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
                    "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                },
                { "verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"] },
            ]),
            json!([{
                "verbs": ["get"],
                "nonResourceURLs": [
                    "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
                    "/version", "/version/",
                ],
            }]),
        )
    };
    json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": false })
}

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({ "username": identity.user(), "groups": identity.groups() });
    if !identity.uid().is_empty() {
        info["uid"] = identity.uid().into();
    }
    if !identity.extra().is_empty() {
        info["extra"] = json!(identity.extra());
    }
    info
}

async fn token(call: &Call, spec: &Value) -> Result<Value, Status> {
    let core = &call.core;
    let asked: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let audiences = if asked.is_empty() { core.tokens.audiences().to_vec() } else { asked };
    let found = core.authenticator.token(core, spec["token"].as_str().unwrap_or_default(), &audiences).await?;
    Ok(match found {
        Some((identity, claims)) => {
            let held = claims.map_or_else(|| core.tokens.audiences().to_vec(), |claims| claims.aud);
            let common: Vec<&String> = audiences.iter().filter(|a| held.contains(a)).collect();
            json!({ "authenticated": true, "user": user_info(&identity), "audiences": common })
        }
        None => json!({ "authenticated": false, "user": {}, "error": "invalid bearer token" }),
    })
}
