//! What extenders are sent and what they answer, as JSON.
//!
//! The names are Go's, with capital letters; like Go's decoder, this one does not look at case, and takes `null` for nothing:
//! extenders in other languages rely on both.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use sched::{
    Reservation,
    diagnosis::{Reason, Rejection},
    extender::Eviction,
};
use serde_json::{Map, Value, json};

/// Names of nodes, and what was said of each.
pub(super) type Names<T> = BTreeMap<Arc<str>, T>;

/// The answer to a filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filtered {
    pub nodes: Vec<Arc<str>>,
    pub failed: Names<Rejection>,
}

/// Of a filter or a prioritizer: the pod and the nodes, each as the API has it.
pub(super) fn arguments(pod: &str, nodes: &[Arc<str>]) -> String {
    let items = nodes.join(",");
    format!(r#"{{"Pod":{pod},"Nodes":{{"metadata":{{}},"items":[{items}]}},"NodeNames":null}}"#)
}

/// The same for an extender that knows the nodes.
pub(super) fn arguments_by_name(pod: &str, nodes: &[Arc<str>]) -> String {
    let names: Vec<&str> = nodes.iter().map(|name| &**name).collect();
    format!(r#"{{"Pod":{pod},"Nodes":null,"NodeNames":{}}}"#, json!(names))
}

/// Of a preemption: the pods in full.
pub(super) fn victims(
    pod: &str,
    evictions: &[Eviction],
    objects: &BTreeMap<Arc<str>, String>,
) -> Result<String, String> {
    let mut nodes = Vec::new();
    for eviction in evictions {
        let object = |uid: &Arc<str>| {
            objects.get(uid).map(String::as_str).ok_or_else(|| format!("pod (UID: {uid}) on node {}", eviction.node))
        };
        let pods: Vec<&str> = eviction
            .pods
            .iter()
            .map(object)
            .collect::<Result<_, _>>()
            .map_err(|pod| format!("an extender wants to preempt {pod} that is not known"))?;
        let (node, violations) = (json!(&*eviction.node), eviction.violations);
        nodes.push(format!(r#"{node}:{{"Pods":[{}],"NumPDBViolations":{violations}}}"#, pods.join(",")));
    }
    Ok(format!(r#"{{"Pod":{pod},"NodeNameToVictims":{{{}}},"NodeNameToMetaVictims":null}}"#, nodes.join(",")))
}

/// The same for an extender that knows the pods.
pub(super) fn victims_by_uid(pod: &str, evictions: &[Eviction]) -> String {
    let mut nodes = Map::new();
    for Eviction { node, pods, violations } in evictions {
        let pods: Vec<Value> = pods.iter().map(|uid| json!({"UID": &**uid})).collect();
        nodes.insert(node.to_string(), json!({"Pods": pods, "NumPDBViolations": violations}));
    }
    let nodes = Value::Object(nodes);
    format!(r#"{{"Pod":{pod},"NodeNameToVictims":null,"NodeNameToMetaVictims":{nodes}}}"#)
}

pub(super) fn binding(reservation: &Reservation) -> String {
    let pod = &reservation.pod;
    let arguments = json!({"PodName": &*pod.name, "PodNamespace": &*pod.namespace, "PodUID": &*pod.uid,
        "Node": &*reservation.node});
    arguments.to_string()
}

/// What is left of the nodes that were asked about.
pub(super) fn filtered(extender: &str, answer: &[u8], asked: &[Arc<str>]) -> Result<Filtered, String> {
    let answer = object(answer)?;
    if let Some(error) = field(&answer, "Error").and_then(Value::as_str).filter(|error| !error.is_empty()) {
        return Err(error.to_owned());
    }
    let named = |name: &str| {
        asked.iter().find(|known| ***known == *name).cloned().ok_or_else(|| {
            format!("extender {extender:?} claims a filtered node {name:?} which is not found in the input node list")
        })
    };
    let names: Vec<&str> = match (list(&answer, "NodeNames")?, field(&answer, "Nodes")) {
        (Some(names), _) => names.iter().map(|name| text(name, "a node's name")).collect::<Result<_, _>>()?,
        (None, None) => Vec::new(),
        (None, Some(nodes)) => {
            let nodes = nodes.as_object().ok_or("Nodes is not a list of nodes")?;
            let items = list(nodes, "items")?.unwrap_or_default();
            let name = |node: &'_ Value| node.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
            let names: Vec<String> = items.iter().map(name).collect::<Option<_>>().ok_or("a node without a name")?;
            let nodes = names.iter().map(|name| named(name)).collect::<Result<_, _>>()?;
            return Ok(Filtered { nodes, failed: failed(&answer)? });
        }
    };
    let nodes = names.into_iter().map(named).collect::<Result<_, _>>()?;
    Ok(Filtered { nodes, failed: failed(&answer)? })
}

fn failed(answer: &Map<String, Value>) -> Result<Names<Rejection>, String> {
    let mut all = Names::default();
    for (name, unresolvable) in [("FailedNodes", false), ("FailedAndUnresolvableNodes", true)] {
        let Some(nodes) = field(answer, name) else { continue };
        let nodes = nodes.as_object().ok_or_else(|| format!("{name} is not a map of reasons"))?;
        for (node, reason) in nodes {
            let reason: Reason = text(reason, "a reason")?.to_owned().into();
            all.insert(node.as_str().into(), Rejection { reasons: vec![reason], unresolvable });
        }
    }
    Ok(all)
}

pub(super) fn priorities(answer: &[u8]) -> Result<Names<i64>, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let entries = match &answer {
        Value::Null => return Ok(Names::default()),
        Value::Array(entries) => entries,
        _ => return Err("the answer is not a list of priorities".to_owned()),
    };
    let entry = |entry: &Value| {
        let entry = entry.as_object()?;
        let priority = field(entry, "Score").map_or(Some(0), Value::as_i64)?;
        Some((field(entry, "Host")?.as_str()?.into(), priority))
    };
    let entries = entries.iter().map(entry).collect::<Option<_>>();
    entries.ok_or_else(|| "a priority is no object with Host and Score".to_owned())
}

pub(super) fn evictions(answer: &[u8]) -> Result<Vec<Eviction>, String> {
    let answer = object(answer)?;
    let Some(nodes) = field(&answer, "NodeNameToMetaVictims") else { return Ok(Vec::new()) };
    let nodes = nodes.as_object().ok_or("NodeNameToMetaVictims is not a map of victims")?;
    let mut evictions = Vec::new();
    for (node, victims) in nodes {
        let mut eviction = Eviction { node: node.as_str().into(), pods: Vec::new(), violations: 0 };
        if let Some(victims) = victims.as_object() {
            for pod in list(victims, "Pods")?.unwrap_or_default() {
                let uid = pod.as_object().and_then(|pod| field(pod, "UID")).ok_or("a victim without a UID")?;
                eviction.pods.push(text(uid, "a UID")?.into());
            }
            let violations = field(victims, "NumPDBViolations").and_then(Value::as_u64).unwrap_or(0);
            eviction.violations = usize::try_from(violations).unwrap_or(usize::MAX);
        }
        evictions.push(eviction);
    }
    Ok(evictions)
}

/// The error in an answer that has nothing else to say.
pub(super) fn error_of(answer: &[u8]) -> Result<(), String> {
    let answer = object(answer)?;
    match field(&answer, "Error").and_then(Value::as_str).filter(|error| !error.is_empty()) {
        Some(error) => Err(error.to_owned()),
        None => Ok(()),
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn object(answer: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(answer) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("the answer is not an object".to_owned()),
        Err(error) => Err(format!("the answer is not JSON: {error}")),
    }
}

/// A field whatever the case of its name; `null` is as if it were not there.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = object
        .get(name)
        .or_else(|| object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.filter(|value| !value.is_null())
}

fn list<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a [Value]>, String> {
    match field(object, name) {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(format!("{name} is not a list")),
    }
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{what} is not a text: {value}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The nodes that are left, and of each other one its name, the reason, and whether that is final.
    type Parts<'a> = (&'a [&'a str], &'a [(&'a str, &'a str, bool)]);

    fn asked() -> Vec<Arc<str>> {
        ["a", "b", "c"].map(Into::into).to_vec()
    }

    #[test]
    fn a_filters_answer_is_read_as_go_reads_it() {
        let check = |answer: Value, expected: Result<Parts<'_>, &str>| {
            let found = filtered("http://e", answer.to_string().as_bytes(), &asked());
            let expected = expected.map_err(str::to_owned).map(|(nodes, failed)| Filtered {
                nodes: nodes.iter().map(|name| (*name).into()).collect(),
                failed: failed
                    .iter()
                    .map(|(node, reason, unresolvable)| {
                        let reasons = vec![Reason::Owned((*reason).to_owned())];
                        ((*node).into(), Rejection { reasons, unresolvable: *unresolvable })
                    })
                    .collect(),
            });
            assert_eq!(found, expected, "{answer}");
        };
        check(json!({"NodeNames": ["a", "c"]}), Ok((&["a", "c"], &[])));
        check(json!({"nodenames": ["a"], "failedNodes": {"b": "full"}}), Ok((&["a"], &[("b", "full", false)])));
        // What is unresolvable wins.
        check(
            json!({"nodeNames": [], "failedNodes": {"b": "x"}, "failedAndUnresolvableNodes": {"b": "y"}}),
            Ok((&[], &[("b", "y", true)])),
        );
        check(json!({"Nodes": {"items": [{"metadata": {"name": "b"}}]}, "NodeNames": null}), Ok((&["b"], &[])));
        check(json!({"Nodes": {"items": null}}), Ok((&[], &[])));
        check(json!({}), Ok((&[], &[])));
        check(json!(null), Ok((&[], &[])));
        check(json!({"Error": "broken"}), Err("broken"));
        check(
            json!({"NodeNames": ["z"]}),
            Err("extender \"http://e\" claims a filtered node \"z\" which is not found in the input node list"),
        );
        check(json!({"NodeNames": [1]}), Err("a node's name is not a text: 1"));
        check(json!({"NodeNames": "a"}), Err("NodeNames is not a list"));
        check(json!({"Nodes": {"items": [{}]}}), Err("a node without a name"));
        check(json!({"FailedNodes": []}), Err("FailedNodes is not a map of reasons"));
        check(json!([]), Err("the answer is not an object"));
    }

    #[test]
    fn priorities_and_evictions_are_read() {
        let check = |answer: Value, expected: Option<&[(&str, i64)]>| {
            let found = priorities(answer.to_string().as_bytes()).ok();
            let expected = expected.map(|some| some.iter().map(|(name, n)| ((*name).into(), *n)).collect());
            assert_eq!(found, expected, "{answer}");
        };
        check(json!([{"Host": "a", "Score": 7}, {"host": "b"}]), Some(&[("a", 7), ("b", 0)]));
        check(json!(null), Some(&[]));
        check(json!([{"Score": 7}]), None);
        check(json!({}), None);
        let answer =
            json!({"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "u1"}], "NumPDBViolations": 1}, "b": null}});
        let found = evictions(answer.to_string().as_bytes()).unwrap();
        assert_eq!(found[0], Eviction { node: "a".into(), pods: vec!["u1".into()], violations: 1 });
        assert!(found[1].pods.is_empty());
        assert_eq!(error_of(b"{\"error\":\"no\"}"), Err("no".into()));
        assert_eq!(error_of(b"{}"), Ok(()));
    }

    #[test]
    fn what_is_sent_is_json_with_gos_names() {
        let nodes: Vec<Arc<str>> = vec![r#"{"metadata":{"name":"a"}}"#.into(), r#"{"metadata":{"name":"b"}}"#.into()];
        let sent: Value = serde_json::from_str(&arguments(r#"{"kind":"Pod"}"#, &nodes)).unwrap();
        assert_eq!(sent.pointer("/Nodes/items/1/metadata/name"), Some(&json!("b")));
        let sent: Value = serde_json::from_str(&arguments_by_name(r#"{"kind":"Pod"}"#, &asked())).unwrap();
        assert_eq!(sent, json!({"Pod": {"kind": "Pod"}, "Nodes": null, "NodeNames": ["a", "b", "c"]}));
        let eviction = Eviction { node: "a".into(), pods: vec!["u1".into()], violations: 2 };
        let objects = [("u1".into(), r#"{"kind":"Pod","n":1}"#.to_owned())].into();
        let sent: Value =
            serde_json::from_str(&victims("{}", std::slice::from_ref(&eviction), &objects).unwrap()).unwrap();
        let expected = json!({"Pods": [{"kind": "Pod", "n": 1}], "NumPDBViolations": 2});
        assert_eq!(sent["NodeNameToVictims"]["a"], expected);
        let sent: Value = serde_json::from_str(&victims_by_uid("{}", std::slice::from_ref(&eviction))).unwrap();
        assert_eq!(sent["NodeNameToMetaVictims"]["a"], json!({"Pods": [{"UID": "u1"}], "NumPDBViolations": 2}));
        assert!(victims("{}", &[eviction], &BTreeMap::new()).unwrap_err().contains("UID: u1"));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(answer in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = filtered("e", &answer, &asked());
            let _ = priorities(&answer);
            let _ = evictions(&answer);
        }

        /// Whatever is filtered was asked about.
        #[test]
        fn nothing_is_made_up(names in prop::collection::vec("[a-e]", 0..6)) {
            let answer = json!({"NodeNames": names}).to_string();
            if let Ok(found) = filtered("e", answer.as_bytes(), &asked()) {
                prop_assert!(found.nodes.iter().all(|name| asked().contains(name)));
            } else {
                prop_assert!(names.iter().any(|name| !["a", "b", "c"].contains(&name.as_str())));
            }
        }
    }
}
