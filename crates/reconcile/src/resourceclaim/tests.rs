//! Decisions about claims as data.

use serde_json::{Value, json};

use super::*;
use crate::Severity;

fn pod(value: Value) -> Pod {
    let mut pod: Pod = serde_json::from_value(value).unwrap();
    pod.metadata.name = Some("p".into());
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.uid = Some("uid-p".into());
    pod
}

fn claim(name: &str, value: Value) -> Arc<ResourceClaim> {
    let mut whole = json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}, "spec": {}});
    merge(&mut whole, value);
    Arc::new(serde_json::from_value(whole).unwrap())
}

fn merge(whole: &mut Value, part: Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.into_iter().for_each(|(key, value)| merge(whole.entry(key).or_insert(Value::Null), value));
        }
        (whole, part) => *whole = part,
    }
}

/// Made for the entry `entry` of the pod with this uid.
fn made_for(uid: &str, entry: &str) -> Value {
    json!({"metadata": {"annotations": {POD_CLAIM: entry},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]}})
}

fn template(name: &str) -> Arc<ResourceClaimTemplate> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "metadata": {"labels": {"l": "1"}, "annotations": {"a": "1"}},
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}}}}))
        .unwrap(),
    )
}

/// `create entry`, `name entry=claim`, `reserve claim by holders`, and what is told.
fn words(todo: &ForPod) -> String {
    let create = todo.create.iter().map(|(entry, _)| format!("create {entry}"));
    let name = |status: &PodResourceClaimStatus| {
        format!("name {}={}", status.name, status.resource_claim_name.as_deref().unwrap_or("none"))
    };
    let reserve = |claim: &ResourceClaim| {
        let holders = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
        let holders: Vec<&str> = holders.map(|holder| holder.name.as_str()).collect();
        format!("reserve {} by {}", meta::name(&claim.metadata), holders.join("+"))
    };
    let told = todo.notices.iter().map(|notice| {
        assert_eq!((notice.severity, notice.reason), (Severity::Warning, "FailedResourceClaimCreation"));
        notice.message.clone()
    });
    let all = create.chain(todo.names.iter().map(name)).chain(todo.reserve.iter().map(reserve)).chain(told);
    all.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_pod_gets_its_claims() {
    let check = |value: Value, claims: &[Arc<ResourceClaim>], expected: &str| {
        let todo = for_pod(&pod(value.clone()), claims, &[template("t")]);
        assert_eq!(words(&todo), expected, "{value}");
    };
    let asks = |entries: Value| json!({"spec": {"containers": [], "resourceClaims": entries}});
    let one = asks(json!([{"name": "gpu", "resourceClaimTemplateName": "t"}]));
    let with = |more: Value| {
        let mut whole = one.clone();
        merge(&mut whole, more);
        whole
    };
    let says =
        |name: &str| with(json!({"status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": name}]}}));
    check(json!({"spec": {"containers": []}}), &[], "");
    check(one.clone(), &[], "create gpu");
    // It was made, and nobody has said so.
    check(one.clone(), &[claim("c", made_for("uid-p", "gpu"))], "name gpu=c");
    check(one.clone(), &[claim("c", made_for("uid-p", "other"))], "create gpu");
    check(one.clone(), &[claim("c", made_for("uid-old", "gpu"))], "create gpu");
    // All is done.
    check(says("c"), &[claim("c", made_for("uid-p", "gpu"))], "");
    // It was deleted, or belongs to a pod that had this name before.
    check(says("c"), &[], "create gpu");
    check(says("c"), &[claim("c", made_for("uid-old", "gpu"))], "create gpu");
    check(with(json!({"status": {"resourceClaimStatuses": [{"name": "gpu"}]}})), &[], "");
    // Whoever goes, or has gone, needs none.
    check(with(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), &[], "");
    check(with(json!({"status": {"phase": "Succeeded"}})), &[], "");
    // What is not from a template is not made, and what the API will know some day is left alone.
    check(asks(json!([{"name": "gpu", "resourceClaimName": "c"}])), &[], "");
    check(asks(json!([{"name": "gpu"}])), &[], "");
    let two =
        json!([{"name": "a", "resourceClaimTemplateName": "none"}, {"name": "b", "resourceClaimTemplateName": "t"}]);
    let missing = r#"resource claim template "none": resourceclaimtemplate.resource.k8s.io "none" not found"#;
    check(asks(two), &[], &format!("create b, PodResourceClaim a: {missing}"));
}

#[test]
fn a_claim_is_made_as_its_template_says() {
    let pod =
        pod(json!({"spec": {"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}}));
    let (entry, made) = for_pod(&pod, &[], &[template("t")]).create.remove(0);
    assert_eq!(entry, "gpu");
    let expected = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"generateName": "p-gpu-", "namespace": "ns", "labels": {"l": "1"},
            "annotations": {"a": "1", "resource.kubernetes.io/pod-claim-name": "gpu"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p", "controller": true}]},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}},
    });
    assert_eq!(serde_json::to_value(made).unwrap(), expected);
}

#[test]
fn the_base_of_a_long_name_keeps_something_of_both() {
    let check = |pod: usize, entry: usize, expected: &str| {
        let found = base(&"p".repeat(pod), &"c".repeat(entry));
        let count = |letter: char| found.chars().filter(|one| *one == letter).count();
        assert_eq!(format!("{} {}", count('p'), count('c')), expected);
        assert!(found.len() <= MAX_BASE, "{found}");
    };
    check(3, 3, "3 3");
    check(50, 5, "50 5");
    check(50, 6, "49 5");
    check(253, 63, "45 11");
}

#[test]
fn who_is_on_a_node_holds_what_is_allocated() {
    let check = |node: &str, status: Value, expected: &str| {
        let entries = json!([{"name": "gpu", "resourceClaimName": "c"}]);
        let pod = pod(json!({"spec": {"containers": [], "nodeName": node, "resourceClaims": entries}}));
        let todo = for_pod(&pod, &[claim("c", json!({"status": status.clone()}))], &[]);
        assert_eq!(words(&todo), expected, "{node} {status}");
    };
    let holder = |name: &str| json!({"resource": "pods", "name": name, "uid": format!("uid-{name}")});
    let held = |holders: Vec<Value>| json!({"allocation": {}, "reservedFor": holders});
    check("", held(vec![]), "");
    check("n", json!({}), "");
    check("n", held(vec![]), "reserve c by p");
    check("n", held(vec![holder("q")]), "reserve c by q+p");
    check("n", held(vec![holder("p")]), "");
    check("n", held((0..MAX_HOLDERS).map(|number| holder(&number.to_string())).collect()), "");
}

#[test]
fn a_holder_is_a_pod_that_may_run() {
    let holder = |value: Value| serde_json::from_value::<ResourceClaimConsumerReference>(value).unwrap();
    let check = |known: Option<Value>, uid: &str, expected: Hold| {
        let known = known.map(pod);
        let found = hold(&holder(json!({"resource": "pods", "name": "p", "uid": uid})), known.as_ref());
        assert_eq!(found, expected, "{known:?} {uid}");
    };
    let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    check(None, "uid-p", Hold::Doubtful);
    check(Some(json!({})), "uid-p", Hold::Keeps);
    check(Some(json!({})), "uid-old", Hold::Ends);
    check(Some(json!({"status": {"phase": "Failed"}})), "uid-p", Hold::Ends);
    check(Some(json!({"metadata": deleted})), "uid-p", Hold::Ends);
    // Its containers may run still.
    check(Some(json!({"metadata": deleted, "spec": {"containers": [], "nodeName": "n"}})), "uid-p", Hold::Keeps);
    let group = holder(json!({"apiGroup": "scheduling.k8s.io", "resource": "podgroups", "name": "g", "uid": "u"}));
    assert_eq!(hold(&group, None), Hold::Keeps);
}

#[test]
fn a_claim_that_nobody_holds_is_free() {
    let holder = |name: &str| json!({"resource": "pods", "name": name, "uid": format!("uid-{name}")});
    let protected = json!({"metadata": {"finalizers": [PROTECTION]}});
    let deleting = json!({"metadata": {"finalizers": [PROTECTION], "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let held =
        |by: &[&str]| json!({"allocation": {}, "reservedFor": by.iter().map(|name| holder(name)).collect::<Vec<_>>()});
    let check = |metadata: &Value, status: Value, remaining: &[&str], expected: &str| {
        let mut whole = metadata.clone();
        merge(&mut whole, json!({"status": status.clone()}));
        let remaining = remaining.iter().map(|name| serde_json::from_value(holder(name)).unwrap()).collect();
        let todo = for_claim(&claim("c", whole), remaining, None);
        let written = todo.status.map(|claim| {
            let status = claim.status.unwrap();
            let holders = status.reserved_for.map_or(0, |holders| holders.len());
            format!("{} holders, {}", holders, if status.allocation.is_some() { "allocated" } else { "free" })
        });
        let unprotect = todo.unprotect.then(|| "unprotect".to_owned());
        let found: Vec<_> = written.into_iter().chain(unprotect).collect();
        assert_eq!(found.join(", "), expected, "{metadata} {status}");
        assert!(!todo.delete, "nobody has made it for a pod");
    };
    let bare = json!({});
    check(&protected, held(&["p", "q"]), &["p", "q"], "");
    check(&protected, held(&["p", "q"]), &["q"], "1 holders, allocated");
    check(&protected, held(&["p"]), &[], "0 holders, free, unprotect");
    // Without the finalizer it was allocated by somebody else, who frees it.
    check(&bare, held(&["p"]), &[], "0 holders, allocated");
    // Allocated and not yet held, or about to be allocated.
    check(&protected, held(&[]), &[], "");
    check(&protected, json!({}), &[], "");
    // Who deletes it wants it to go.
    check(&deleting, held(&["p"]), &["p"], "");
    check(&deleting, held(&["p"]), &[], "0 holders, free, unprotect");
    check(&deleting, held(&[]), &[], "0 holders, free, unprotect");
    check(&deleting, json!({}), &[], "unprotect");
}

#[test]
fn a_claim_goes_with_the_use_of_its_pod() {
    let check = |owned_by: Value, known: Option<Value>, left: usize, expected: bool| {
        let holder = serde_json::from_value(json!({"resource": "pods", "name": "p", "uid": "uid-p"})).unwrap();
        let known = known.map(pod);
        let todo = for_claim(&claim("c", owned_by.clone()), vec![holder; left], known.as_ref());
        assert_eq!(todo.delete, expected, "{owned_by} {known:?} {left}");
    };
    let (runs, done) = (json!({"status": {"phase": "Running"}}), json!({"status": {"phase": "Succeeded"}}));
    let own = made_for("uid-p", "gpu");
    check(own.clone(), Some(runs.clone()), 0, false);
    check(own.clone(), Some(done.clone()), 0, true);
    check(own.clone(), Some(done.clone()), 1, false);
    // Another pod has its name by now.
    check(made_for("uid-old", "gpu"), Some(runs), 0, true);
    // It may not be known yet; if it is gone, its claims go as all that it owns.
    check(own.clone(), None, 0, false);
    check(json!({}), Some(done.clone()), 0, false);
    let mut deleting = own;
    merge(&mut deleting, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    check(deleting, Some(done), 0, false);
}

#[test]
fn a_pod_knows_its_claims_and_templates() {
    let pod = pod(json!({
        "spec": {"containers": [], "resourceClaims": [{"name": "a", "resourceClaimName": "given"},
            {"name": "b", "resourceClaimTemplateName": "t"}, {"name": "c", "resourceClaimTemplateName": "t2"}]},
        "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "made"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "extended", "requestMappings": []}},
    }));
    assert_eq!(claims_of(&pod), ["given", "made", "extended"]);
    assert_eq!(templates_of(&pod), ["t", "t2"]);
}
