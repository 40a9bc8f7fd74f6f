//! URLs and the operations on them.

use kube_schema::kinds::{Kind, Subresource};
use serde_json::{Map, Value, json};

use super::{Dialect, PATCH_TYPES, reference, root};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/yaml"];

/// A query parameter: name, type, what it is for.
type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter =
    ("dryRun", "string", "When present, indicates that modifications should not be persisted. Valid value: All.");
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "The name of the actor that makes these changes.");
const FIELD_VALIDATION: Parameter =
    ("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict.");
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "Whether a watch also gets BOOKMARK events."),
    ("continue", "string", "Where a list that was limited goes on."),
    ("fieldSelector", "string", "Restricts the answer by fields."),
    ("labelSelector", "string", "Restricts the answer by labels."),
    ("limit", "integer", "How many items one answer holds at most."),
    ("resourceVersion", "string", "At or from which version."),
    ("resourceVersionMatch", "string", "How resourceVersion counts for a list."),
    ("sendInitialEvents", "boolean", "Whether a watch begins with what exists."),
    ("timeoutSeconds", "integer", "When to end."),
    ("watch", "boolean", "Whether changes follow instead of a list."),
];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object may take to go; 0: at once."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

/// Adds a kind's URLs.
pub(super) fn add(paths: &mut Map<String, Value>, dialect: Dialect, kind: &Kind) {
    let base = format!("/{}", root(&kind.group, &kind.version));
    let maker = Maker { dialect, kind };
    let collection = if kind.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("{base}/{}", kind.plural)
    };
    let has = |verb: &str| kind.verbs.contains(&verb);
    let mut item = maker.path_parameters(true);
    let mut whole = maker.path_parameters(false);
    if has("list") {
        whole.insert("get".to_owned(), maker.operation("list", "list", "", LIST));
    }
    if has("create") {
        whole.insert("post".to_owned(), maker.operation("create", "post", "", WRITE));
    }
    if has("deletecollection") {
        whole.insert("delete".to_owned(), maker.operation("deletecollection", "deletecollection", "", DELETE));
    }
    for (verb, method, action, parameters) in [
        ("get", "get", "get", &[][..]),
        ("update", "put", "put", WRITE),
        ("patch", "patch", "patch", WRITE),
        ("delete", "delete", "delete", DELETE),
    ] {
        if has(verb) {
            item.insert(method.to_owned(), maker.operation(verb, action, "", parameters));
        }
    }
    paths.insert(collection.clone(), Value::Object(whole));
    if has("get") {
        paths.insert(format!("{collection}/{{name}}"), Value::Object(item));
    }
    if kind.namespaced && has("list") {
        let all = maker.operation("list", "list", "ForAllNamespaces", LIST);
        paths.insert(format!("{base}/{}", kind.plural), json!({"get": all}));
    }
    for sub in kind.subresources.iter() {
        paths.insert(format!("{collection}/{{name}}/{}", sub.name), Value::Object(maker.subresource(sub)));
    }
}

struct Maker<'k> {
    dialect: Dialect,
    kind: &'k Kind,
}

impl Maker<'_> {
    fn path_parameters(&self, name: bool) -> Map<String, Value> {
        let mut all = vec![];
        if name {
            all.push(self.path_parameter("name", &format!("name of the {}", self.kind.kind)));
        }
        if self.kind.namespaced {
            all.push(self.path_parameter("namespace", "object name and auth scope, such as for teams and projects"));
        }
        let mut out = Map::new();
        if !all.is_empty() {
            out.insert("parameters".to_owned(), all.into());
        }
        out
    }

    fn path_parameter(&self, name: &str, description: &str) -> Value {
        self.typed(json!({"name": name, "in": "path", "description": description, "required": true}), "string")
    }

    fn query_parameter(&self, (name, kind, description): &Parameter) -> Value {
        self.typed(json!({"name": name, "in": "query", "description": description}), kind)
    }

    fn typed(&self, mut parameter: Value, kind: &str) -> Value {
        match self.dialect {
            Dialect::V2 => {
                parameter["type"] = kind.into();
                parameter["uniqueItems"] = true.into();
            }
            Dialect::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        parameter
    }

    /// `readCoreV1NamespacedPod` and the like, which generated clients take their methods' names from.
    fn operation_id(&self, verb: &str, suffix: &str) -> String {
        let capital = |word: &str| {
            let mut chars = word.chars();
            chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
        };
        let group = match self.kind.group.split('.').next() {
            Some("") | None => "Core".to_owned(),
            Some(word) => capital(word),
        };
        let verb_name = match verb {
            "get" => "read",
            "update" => "replace",
            "deletecollection" => "delete",
            verb => verb,
        };
        let collection = if verb == "deletecollection" { "Collection" } else { "" };
        let scope = if self.kind.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        format!("{verb_name}{group}{}{collection}{scope}{}{suffix}", capital(&self.kind.version), self.kind.kind)
    }

    fn operation(&self, verb: &str, action: &str, suffix: &str, parameters: &[Parameter]) -> Value {
        let kind = self.kind;
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let answer = match verb {
            "list" => format!("{}List", kind.type_name),
            "deletecollection" => format!("{META}Status"),
            "delete" if !matches!(kind.kind.as_ref(), "Pod" | "Service" | "ServiceAccount") => format!("{META}Status"),
            _ => kind.type_name.to_string(),
        };
        let body = match verb {
            "create" | "update" => Some(kind.type_name.to_string()),
            "patch" => Some(format!("{META}Patch")),
            "delete" | "deletecollection" => Some(format!("{META}DeleteOptions")),
            _ => None,
        };
        self.build(verb, action, &self.operation_id(verb, suffix), gvk, (&answer, body.as_deref()), parameters)
    }

    fn subresource(&self, sub: &Subresource) -> Map<String, Value> {
        let gvk = json!({"group": sub.group, "version": sub.version, "kind": sub.kind});
        let type_name = match (sub.group, sub.kind) {
            ("autoscaling", kind) => format!("io.k8s.api.autoscaling.v1.{kind}"),
            ("authentication.k8s.io", kind) => format!("io.k8s.api.authentication.v1.{kind}"),
            ("", "Binding") => "io.k8s.api.core.v1.Binding".to_owned(),
            _ => self.kind.type_name.to_string(),
        };
        let streams = matches!(sub.name, "attach" | "exec" | "log" | "portforward");
        let suffix: String =
            sub.name.chars().take(1).flat_map(char::to_uppercase).chain(sub.name.chars().skip(1)).collect();
        let mut out = self.path_parameters(true);
        for verb in sub.verbs {
            let (method, action) = match *verb {
                "create" => ("post", if streams { "connect" } else { "post" }),
                "update" => ("put", "put"),
                "patch" => ("patch", "patch"),
                _ => ("get", if streams && sub.name != "log" { "connect" } else { "get" }),
            };
            let body = match *verb {
                "patch" => Some(format!("{META}Patch")),
                "create" | "update" if !streams => Some(type_name.clone()),
                _ => None,
            };
            let parameters = if body.is_some() { WRITE } else { &[] };
            let answer = if streams { "" } else { &type_name };
            let id = self.operation_id(verb, &suffix);
            let operation = self.build(verb, action, &id, gvk.clone(), (answer, body.as_deref()), parameters);
            out.insert(method.to_owned(), operation);
        }
        out
    }

    /// `types` are the answer's (empty: a string) and the body's.
    fn build(
        &self,
        verb: &str,
        action: &str,
        id: &str,
        gvk: Value,
        types: (&str, Option<&str>),
        parameters: &[Parameter],
    ) -> Value {
        let (answer, body) = types;
        let consumed: &[&str] = if verb == "patch" { &PATCH_TYPES } else { &MEDIA_TYPES };
        let mut parameters: Vec<Value> = parameters.iter().map(|p| self.query_parameter(p)).collect();
        let answer = if answer.is_empty() { json!({"type": "string"}) } else { reference(self.dialect, answer) };
        let optional = matches!(verb, "delete" | "deletecollection");
        let mut out = json!({
            "operationId": id, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
            "tags": [format!("{}_{}", self.kind.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core"), self.kind.version)],
            "description": format!("{verb} {}", self.kind.kind),
        });
        match self.dialect {
            Dialect::V2 => {
                if let Some(body) = body {
                    let schema = reference(self.dialect, body);
                    parameters.push(json!({"name": "body", "in": "body", "required": !optional, "schema": schema}));
                }
                out["consumes"] = if body.is_some() { json!(consumed) } else { json!(["*/*"]) };
                out["produces"] = json!(MEDIA_TYPES);
                out["schemes"] = json!(["https"]);
                out["responses"] =
                    json!({"200": {"description": "OK", "schema": answer}, "401": {"description": "Unauthorized"}});
            }
            Dialect::V3 => {
                let content = |types: &[&str], schema: &Value| -> Map<String, Value> {
                    types.iter().map(|t| ((*t).to_owned(), json!({"schema": schema}))).collect()
                };
                if let Some(body) = body {
                    let schema = reference(self.dialect, body);
                    out["requestBody"] = json!({"required": !optional, "content": content(consumed, &schema)});
                }
                out["responses"] = json!({
                    "200": {"description": "OK", "content": content(&MEDIA_TYPES, &answer)},
                    "401": {"description": "Unauthorized"},
                });
            }
        }
        if !parameters.is_empty() {
            out["parameters"] = parameters.into();
        }
        out
    }
}
