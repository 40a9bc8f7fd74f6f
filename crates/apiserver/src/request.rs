//! What a request asks for, read from its method, path and query: the verb, the resource and the object.
//!
//! The API's paths are regular, so they are taken apart here by hand and looked up in a map, without a routing table.

use std::borrow::Cow;

use http::{Method, Uri};

/// Query parameters read at most; more are ignored.
const MAX_PARAMETERS: usize = 64;

/// A request's target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; outside of resources the HTTP
    /// method in lower case.
    pub verb: &'static str,
    pub path: String,
    /// What of the API is asked for; none outside of `/api/v1/…` and `/apis/group/version/…`.
    pub resource: Option<Target>,
    pub query: Query,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub group: String,
    pub version: String,
    /// Empty: the group version's own discovery document.
    pub resource: String,
    /// Empty: none given.
    pub subresource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

impl Target {
    /// `pods` or `pods/log`, as messages and metrics write it.
    pub fn full_resource(&self) -> Cow<'_, str> {
        match self.subresource.as_str() {
            "" => Cow::Borrowed(&self.resource),
            subresource => Cow::Owned(format!("{}/{subresource}", self.resource)),
        }
    }

    /// The namespace, empty where there is none.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The name, empty where there is none.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// Decoded query parameters, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).take(MAX_PARAMETERS);
        Query(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (unescape(key, true), unescape(value, true))
                })
                .collect(),
        )
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The first value of `key`, unless it is empty.
    pub fn given(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|v| !v.is_empty())
    }

    /// All values of `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Whether `key` is there and means yes, as Kubernetes reads booleans in queries: anything but `0` and `false`.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| !matches!(v, "0" | "false" | "False" | "f" | "F" | "FALSE"))
    }
}

/// Undoes percent encoding (RFC 3986), and in queries `+` for a blank. What is not UTF-8 becomes the replacement mark.
fn unescape(text: &str, plus: bool) -> String {
    if !text.bytes().any(|b| b == b'%' || (plus && b == b'+')) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', ..) if plus => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

impl RequestInfo {
    pub fn parse(method: &Method, uri: &Uri) -> Self {
        let query = Query::parse(uri.query());
        let path = uri.path().to_owned();
        let resource = target(&path);
        let verb = match &resource {
            Some(target) if !target.resource.is_empty() => resource_verb(method, target, &query),
            _ => lower(method),
        };
        RequestInfo { verb, path, resource, query }
    }

    /// A request that may stay open for as long as its client likes.
    pub fn long_running(&self) -> bool {
        self.verb == "watch"
            || self.resource.as_ref().is_some_and(|target| match target.subresource.as_str() {
                "exec" | "attach" | "portforward" => true,
                "log" => self.query.flag("follow"),
                _ => false,
            })
    }

    pub fn read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }
}

fn lower(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "unknown",
    }
}

fn resource_verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    match (method.as_str(), target.name.is_some()) {
        ("GET" | "HEAD", _) if query.flag("watch") && target.subresource.is_empty() => "watch",
        ("GET" | "HEAD", true) => "get",
        ("GET" | "HEAD", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => "unknown",
    }
}

fn target(path: &str) -> Option<Target> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let (group, version) = match parts.next()? {
        "api" => ("", parts.next()?),
        "apis" => (parts.next().filter(|g| !g.is_empty())?, parts.next()?),
        _ => return None,
    };
    if version.is_empty() {
        return None;
    }
    let mut rest: Vec<String> = parts.map(|part| unescape(part, false)).collect();
    if rest.last().is_some_and(String::is_empty) {
        rest.pop();
    }
    let mut target = Target { group: group.into(), version: version.into(), ..Target::default() };
    let mut rest = rest.into_iter();
    let Some(first) = rest.next() else { return Some(target) };
    if first == "namespaces" {
        let Some(namespace) = rest.next() else {
            target.resource = first;
            return Some(target);
        };
        match rest.next() {
            // The namespace is the object itself, as in `namespaces/x` and `namespaces/x/status`.
            None => (target.resource, target.name) = (first, Some(namespace)),
            Some(sub) if group.is_empty() && matches!(sub.as_str(), "status" | "finalize") => {
                (target.resource, target.name, target.subresource) = (first, Some(namespace), sub);
            }
            Some(resource) => (target.resource, target.namespace) = (resource, Some(namespace)),
        }
    } else {
        target.resource = first;
    }
    if target.name.is_none() {
        target.name = rest.next();
        target.subresource = rest.collect::<Vec<_>>().join("/");
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, expected: &str) {
        let (method, uri) = request.split_once(' ').unwrap();
        let info = RequestInfo::parse(&method.parse().unwrap(), &uri.parse().unwrap());
        let text = match &info.resource {
            Some(t) => format!(
                "{} {}/{} {} ns={} name={} sub={}",
                info.verb,
                t.group,
                t.version,
                t.resource,
                t.namespace.as_deref().unwrap_or("-"),
                t.name.as_deref().unwrap_or("-"),
                t.subresource
            ),
            None => format!("{} {}", info.verb, info.path),
        };
        assert_eq!(text.trim_end(), expected, "{request}");
    }

    #[test]
    fn paths() {
        check("GET /api/v1/pods", "list /v1 pods ns=- name=- sub=");
        check("GET /api/v1/pods?watch=1", "watch /v1 pods ns=- name=- sub=");
        check("GET /api/v1/pods?watch=false", "list /v1 pods ns=- name=- sub=");
        check("GET /api/v1/namespaces", "list /v1 namespaces ns=- name=- sub=");
        check("GET /api/v1/namespaces/a", "get /v1 namespaces ns=- name=a sub=");
        check("PUT /api/v1/namespaces/a/finalize", "update /v1 namespaces ns=- name=a sub=finalize");
        check("GET /api/v1/namespaces/a/pods/", "list /v1 pods ns=a name=- sub=");
        check("GET /api/v1/namespaces/a/pods/b/log?follow=true", "get /v1 pods ns=a name=b sub=log");
        check("POST /api/v1/namespaces/a/pods/b/exec", "create /v1 pods ns=a name=b sub=exec");
        check("DELETE /apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 deployments ns=a name=- sub=");
        check(
            "PATCH /apis/apps/v1/namespaces/a/deployments/b/scale",
            "patch apps/v1 deployments ns=a name=b sub=scale",
        );
        check("GET /apis/apps/v1", "get apps/v1  ns=- name=- sub=");
        check("GET /apis/apps", "get /apis/apps");
        check("GET /api", "get /api");
        check("GET /healthz/ping", "get /healthz/ping");
        check("GET /api/v1/nodes/a%3Ab", "get /v1 nodes ns=- name=a:b sub=");
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(Some("labelSelector=a%3Db%2Cc+in+(d)&watch&x=%zz&command=a&command=b"));
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert!(query.flag("watch"));
        assert_eq!(query.get("x"), Some("%zz"));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a", "b"]);
    }

    proptest::proptest! {
        #[test]
        fn any_target_is_read(path in "(/[^ ?#]{0,12}){0,8}", query in "[^ #]{0,60}") {
            let Ok(uri) = format!("/{path}?{query}").parse::<Uri>() else { return Ok(()) };
            let info = RequestInfo::parse(&Method::GET, &uri);
            proptest::prop_assert!(matches!(info.verb, "get" | "list" | "watch"));
        }

        #[test]
        fn what_is_escaped_comes_back(text in "\\PC{0,40}") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            proptest::prop_assert_eq!(unescape(&escaped, true), text);
        }
    }
}
