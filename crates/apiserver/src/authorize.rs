//! Who may do what. Until role-based access control stands, only the administrator and the system's own parts may do
//! anything; everyone who is authenticated may learn what the API is and who they are.

use crate::{
    identity::{Identity, MASTERS, NODES},
    request::RequestInfo,
};

/// The control plane's own users.
const SYSTEM_USERS: &[&str] = &[
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-dns",
    "system:kube-proxy",
    "system:kube-scheduler",
];

/// What is asked, in the words of a SubjectAccessReview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Set for requests outside of resources; the fields above but `verb` are then empty.
    pub path: Option<String>,
}

impl Attributes {
    pub fn of(info: &RequestInfo) -> Self {
        match &info.resource {
            Some(target) if !target.resource.is_empty() => Attributes {
                verb: info.verb.into(),
                group: target.group.clone(),
                resource: target.resource.clone(),
                subresource: target.subresource.clone(),
                namespace: if target.resource == "namespaces" && target.group.is_empty() {
                    target.name().into()
                } else {
                    target.namespace().into()
                },
                name: target.name().into(),
                path: None,
            },
            _ => Attributes { verb: info.verb.into(), path: Some(info.path.clone()), ..Attributes::default() },
        }
    }
}

/// Whether `identity` may do everything, so that the attributes need not be looked at.
pub(crate) fn is_privileged(identity: &Identity) -> bool {
    identity.is_in(MASTERS) || identity.is_in(NODES) || SYSTEM_USERS.contains(&identity.user())
}

/// Whether `path` may be read by everyone, also without a name.
pub(crate) fn is_public(verb: &str, path: &str) -> bool {
    let under = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    matches!(verb, "get" | "head") && (["/healthz", "/livez", "/readyz"].into_iter().any(under) || path == "/version")
}

/// Whether `identity` may do what `attributes` say.
pub(crate) fn allowed(identity: &Identity, attributes: &Attributes) -> bool {
    if is_privileged(identity) {
        return true;
    }
    match &attributes.path {
        Some(path) if is_public(&attributes.verb, path) => true,
        Some(path) => !identity.is_anonymous() && is_discovery(&attributes.verb, path),
        None => !identity.is_anonymous() && is_self_review(attributes),
    }
}

/// The role `system:discovery`.
fn is_discovery(verb: &str, path: &str) -> bool {
    let under = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    matches!(verb, "get" | "head")
        && (["/api", "/apis", "/openapi", "/version"].into_iter().any(under)
            || matches!(path, "/.well-known/openid-configuration" | "/openid/v1/jwks"))
}

/// The role `system:basic-user`.
fn is_self_review(attributes: &Attributes) -> bool {
    attributes.verb == "create"
        && matches!(
            (attributes.group.as_str(), attributes.resource.as_str()),
            ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
                | ("authentication.k8s.io", "selfsubjectreviews")
        )
}

/// The message of a refusal, without the subject that `Status` puts before it.
pub(crate) fn refusal(identity: &Identity, attributes: &Attributes) -> String {
    let Attributes { verb, group, resource, subresource, namespace, path, .. } = attributes;
    let user = identity.user();
    if let Some(path) = path {
        return format!("User \"{user}\" cannot {verb} path \"{path}\"");
    }
    let full = if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") };
    let place = match namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    format!("User \"{user}\" cannot {verb} resource \"{full}\" in API group \"{group}\" {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(identity: &Identity, request: &str, expected: Result<(), &str>) {
        let (method, uri) = request.split_once(' ').unwrap();
        let info = RequestInfo::parse(&method.parse().unwrap(), &uri.parse().unwrap());
        let attributes = Attributes::of(&info);
        let result = if allowed(identity, &attributes) { Ok(()) } else { Err(refusal(identity, &attributes)) };
        assert_eq!(result, expected.map_err(str::to_owned), "{request}");
    }

    #[test]
    fn decisions() {
        let user = Identity::new("jane", ["dev"]);
        check(&Identity::admin(), "DELETE /api/v1/nodes", Ok(()));
        check(&Identity::node("a"), "GET /api/v1/pods", Ok(()));
        check(&Identity::component("system:kube-scheduler"), "GET /api/v1/pods", Ok(()));
        check(&Identity::anonymous(), "GET /healthz", Ok(()));
        check(&Identity::anonymous(), "GET /readyz/ping", Ok(()));
        check(&user, "GET /apis", Ok(()));
        check(&user, "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Ok(()));
        check(&Identity::anonymous(), "GET /api/v1", Err("User \"system:anonymous\" cannot get path \"/api/v1\""));
        check(
            &user,
            "GET /api/v1/namespaces/default/pods",
            Err("User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""),
        );
        check(
            &user,
            "PATCH /apis/apps/v1/namespaces/a/deployments/b/scale",
            Err(
                "User \"jane\" cannot patch resource \"deployments/scale\" in API group \"apps\" in the namespace \"a\"",
            ),
        );
        check(
            &user,
            "GET /api/v1/nodes",
            Err("User \"jane\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"),
        );
    }
}
