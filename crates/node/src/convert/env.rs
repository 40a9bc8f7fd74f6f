//! A container's environment: services, `envFrom`, `env`, with references to config maps, secrets and the pod itself.
//! The objects it refers to are fetched before; here they are only looked up.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};

use super::{
    downward::{self, NodeFacts},
    expand::expand,
};

/// Config maps and secrets of the pod's namespace by name. A name that was looked up and is not there is `None`.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub config_maps: HashMap<String, Option<ConfigMap>>,
    pub secrets: HashMap<String, Option<Secret>>,
}

/// The names of the config maps and secrets that a container's environment refers to.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|source| source.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|source| source.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.as_ref().map(|source| source.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|source| source.name.clone()));
    }
    (maps, secrets)
}

/// The environment in its order. The error is the message of `CreateContainerConfigError`.
pub fn build(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    services: Vec<(String, String)>,
    facts: &NodeFacts,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let services: HashMap<String, String> = services.into_iter().collect();
    let mut known: HashMap<String, String> = HashMap::new();
    let mut ordered: Vec<String> = Vec::new();
    let mut set = |known: &mut HashMap<String, String>, name: &str, value: String| {
        if known.insert(name.to_owned(), value).is_none() {
            ordered.push(name.to_owned());
        }
    };
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let pairs = match (&from.config_map_ref, &from.secret_ref) {
            (Some(source), _) => match config_map(objects, &source.name) {
                Some(map) => map.data.clone().unwrap_or_default(),
                None if source.optional == Some(true) => BTreeMap::new(),
                None => return Err(format!("configmap {:?} not found", source.name)),
            },
            (None, Some(source)) => match secret(objects, &source.name) {
                Some(secret) => secret_texts(secret),
                None if source.optional == Some(true) => BTreeMap::new(),
                None => return Err(format!("secret {:?} not found", source.name)),
            },
            (None, None) => BTreeMap::new(),
        };
        for (key, value) in pairs {
            let name = format!("{prefix}{key}");
            if !name.is_empty() && !name.contains('=') {
                set(&mut known, &name, value);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => {
                // References see what was set before, and the services.
                let mut visible = services.clone();
                visible.extend(known.iter().map(|(name, value)| (name.clone(), value.clone())));
                Some(expand(value, &visible))
            }
            (_, Some(source)) => from_source(pod, container, variable, source, objects, namespace, facts)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut known, &variable.name, value);
        }
    }
    let mut environment: Vec<(String, String)> =
        services.into_iter().filter(|(name, _)| !known.contains_key(name)).collect();
    environment.sort();
    environment.extend(ordered.into_iter().filter_map(|name| known.remove(&name).map(|value| (name, value))));
    Ok(environment)
}

fn from_source(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    source: &EnvVarSource,
    objects: &Objects,
    namespace: &str,
    facts: &NodeFacts,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return downward::field(pod, &field.field_path, facts).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return downward::resource(pod, selector, Some(container), facts).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let Some(map) = config_map(objects, &selector.name) else {
            return if optional { Ok(None) } else { Err(format!("configmap {:?} not found", selector.name)) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", selector.key, selector.name)),
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional == Some(true);
        let Some(secret) = secret(objects, &selector.name) else {
            return if optional { Ok(None) } else { Err(format!("secret {:?} not found", selector.name)) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in Secret {namespace}/{}", selector.key, selector.name)),
        };
    }
    Err(format!("environment variable {}: this kind of valueFrom is not supported", variable.name))
}

fn config_map<'a>(objects: &'a Objects, name: &str) -> Option<&'a ConfigMap> {
    objects.config_maps.get(name)?.as_ref()
}

fn secret<'a>(objects: &'a Objects, name: &str) -> Option<&'a Secret> {
    objects.secrets.get(name)?.as_ref()
}

fn secret_texts(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(container: Value, expected: Result<&[&str], &str>) {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "shop" } })).unwrap();
        let map = serde_json::from_value(json!({ "data": { "k": "v", "l": "w" } })).unwrap();
        let secret = serde_json::from_value(json!({ "data": { "p": "cw==" } })).unwrap();
        let objects = Objects {
            config_maps: HashMap::from([("cm".to_owned(), Some(map)), ("gone".to_owned(), None)]),
            secrets: HashMap::from([("sec".to_owned(), Some(secret))]),
        };
        let services = vec![("SVC".to_owned(), "10.0.0.9".to_owned())];
        let got = build(&pod, &container, &objects, services, &NodeFacts::default())
            .map(|env| env.into_iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>());
        let expected = expected.map(|list| list.iter().map(|s| (*s).to_owned()).collect()).map_err(str::to_owned);
        assert_eq!(got, expected);
    }

    #[test]
    fn environments() {
        check(json!({ "name": "c" }), Ok(&["SVC=10.0.0.9"]));
        check(
            json!({ "name": "c", "env": [
                { "name": "A", "value": "1" }, { "name": "B", "value": "$(A)-$(SVC)-$(LATER)" },
                { "name": "LATER", "value": "2" }, { "name": "SVC", "value": "mine" }] }),
            Ok(&["A=1", "B=1-10.0.0.9-$(LATER)", "LATER=2", "SVC=mine"]),
        );
        check(
            json!({ "name": "c",
                "envFrom": [{ "prefix": "X_", "configMapRef": { "name": "cm" } }, { "secretRef": { "name": "sec" } }],
                "env": [{ "name": "X_k", "value": "over" },
                    { "name": "N", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }] }),
            Ok(&["SVC=10.0.0.9", "X_k=over", "X_l=w", "p=s", "N=web"]),
        );
    }

    #[test]
    fn what_is_missing_is_told_in_kubelets_words() {
        let by_key = |name: &str, key: &str, optional: bool| {
            json!({ "name": "c", "env": [{ "name": "A", "valueFrom": {
                "configMapKeyRef": { "name": name, "key": key, "optional": optional } } }] })
        };
        check(by_key("gone", "k", false), Err("configmap \"gone\" not found"));
        check(by_key("cm", "z", false), Err("couldn't find key z in ConfigMap shop/cm"));
        check(by_key("cm", "z", true), Ok(&["SVC=10.0.0.9"]));
        check(by_key("gone", "k", true), Ok(&["SVC=10.0.0.9"]));
        check(
            json!({ "name": "c", "envFrom": [{ "secretRef": { "name": "none" } }] }),
            Err("secret \"none\" not found"),
        );
    }
}
