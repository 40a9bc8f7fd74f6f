//! Limit ranges: what they may say, what pods get of them, and which pods and claims they refuse.

use std::sync::Arc;

use registry::{
    Target,
    admission::{self, Neighbours, admit_create, validates_change},
};
use serde_json::{Value, json};

use crate::{
    kinds::{check_creates, check_updates},
    support::{context, create, resource},
};

/// A limit range of these items.
fn range(items: Value) -> Value {
    json!({"metadata": {"name": "r"}, "spec": {"limits": items}})
}

/// The same as it is stored.
fn stored(items: Value) -> Arc<Value> {
    Arc::new(create("limitranges", range(items)).unwrap())
}

#[test]
fn containers_get_more_defaults_than_are_said() {
    let check = |item: Value, default: Value, request: Value| {
        let created = create("limitranges", range(json!([item]))).unwrap();
        let item = &created["spec"]["limits"][0];
        assert_eq!((&item["default"], &item["defaultRequest"]), (&default, &request), "{item}");
    };
    let (none, cpu) = (Value::Null, |amount: &str| json!({"cpu": amount}));
    check(json!({"type": "Container", "max": cpu("2000m")}), cpu("2"), cpu("2"));
    check(json!({"type": "Container", "min": cpu("1")}), none.clone(), cpu("1"));
    check(json!({"type": "Container", "min": cpu("1"), "max": cpu("3")}), cpu("3"), cpu("3"));
    check(
        json!({"type": "Container", "default": cpu("2"), "min": {"memory": "1Gi"}}),
        cpu("2"),
        json!({"cpu": "2", "memory": "1Gi"}),
    );
    check(
        json!({"type": "Container", "max": cpu("4"), "default": cpu("3"), "defaultRequest": cpu("2")}),
        cpu("3"),
        cpu("2"),
    );
    check(json!({"type": "Pod", "max": cpu("2")}), none.clone(), none);
}

#[test]
fn a_limit_range_without_a_name_gets_one() {
    let created = create("limitranges", json!({"spec": {"limits": []}})).unwrap();
    assert_eq!(created["metadata"]["name"], created["metadata"]["uid"]);
    let generated = create("limitranges", json!({"metadata": {"generateName": "r-"}})).unwrap();
    assert_eq!(generated["metadata"]["name"], "r-x7k2p");
}

#[test]
fn what_a_limit_range_may_say() {
    let say = |items: Value| json!({"spec": {"limits": items}});
    let container = |mut item: Value| {
        item["type"] = "Container".into();
        json!({"spec": {"limits": [item]}})
    };
    let cases = [
        (
            say(json!([{"type": "Pod"}, {"type": "Container"}, {"type": "example.com/Disk", "max": {"storage": "1"}}])),
            "",
        ),
        (container(json!({"max": {"cpu": "2", "hugepages-2Mi": "4Mi", "example.com/gpu": "1"}})), ""),
        (container(json!({"min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "2"}})), ""),
        (say(json!([{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}])), ""),
        (
            say(json!([{"type": "Disk"}])),
            "spec.limits[0].type: Invalid value: \"Disk\": must be a standard limit type or fully qualified",
        ),
        (say(json!([{"type": "Pod"}, {"type": "Pod"}])), "spec.limits[1].type: Duplicate value: \"Pod\""),
        (
            say(json!([{"type": "PersistentVolumeClaim", "min": {"requests.storage": "1"}}])),
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
        ),
        (
            say(json!([{"type": "Pod", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}}])),
            "[spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod', spec.limits[0].defaultRequest: Forbidden: may not be specified when `type` is 'Pod']",
        ),
        (
            say(json!([{"type": "Pod", "max": {"storage": "1"}}])),
            "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
        ),
        (
            say(json!([{"type": "Pod", "min": {"beard": "1"}}])),
            "[spec.limits[0].min[beard]: Invalid value: \"beard\": must be a standard resource type or fully qualified, spec.limits[0].min[beard]: Invalid value: \"beard\": must be a standard resource for containers]",
        ),
        (
            say(json!([{"type": "Pod", "min": {"requests.example.com/gpu": "1"}}])),
            "spec.limits[0].min[requests.example.com/gpu]: Invalid value: \"requests.example.com/gpu\": doesn't follow extended resource name standard",
        ),
        (
            say(json!([{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}])),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        (
            container(json!({"min": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}})),
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1",
        ),
        (
            container(json!({"max": {"cpu": "2"}, "defaultRequest": {"cpu": "3"}})),
            "[spec.limits[0].defaultRequest[cpu]: Invalid value: \"3\": default request value 3 is greater than max value 2, spec.limits[0].defaultRequest[cpu]: Invalid value: \"3\": default request value 3 is greater than default limit value 2]",
        ),
        (
            container(json!({"min": {"cpu": "2"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}})),
            "[spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1, spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1]",
        ),
        (
            container(json!({"max": {"cpu": "2"}, "default": {"cpu": "3"}, "defaultRequest": {"cpu": "1"}})),
            "spec.limits[0].default[cpu]: Invalid value: \"2\": default value 3 is greater than max value 2",
        ),
        (
            container(json!({"maxLimitRequestRatio": {"cpu": "800m"}})),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"800m\": ratio 800m is less than 1",
        ),
        (
            container(json!({"min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "10"}})),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"10\": ratio 10 is greater than max/min = 2.000000",
        ),
        (
            container(json!({"default": {"example.com/gpu": "2"}, "defaultRequest": {"example.com/gpu": "1"}})),
            "spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in example.com/gpu",
        ),
    ];
    let base = range(json!([]));
    check_creates("limitranges", &base, &cases);
    let refused = (say(json!([{"type": "Disk"}])), cases[4].1);
    check_updates("limitranges", Target::Object, &base, &[(say(json!([{"type": "Pod"}])), ""), refused]);
}

/// The pod `p` whose containers `c0` … and init containers `i0` … have these resources, as it is created beside limit ranges
/// of these items each; or what it is refused with.
fn admit(spec: Value, ranges: &[Value]) -> Result<Value, String> {
    let ranges: Vec<Arc<Value>> = ranges.iter().map(|items| stored(items.clone())).collect();
    let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
    for (list, name) in [("containers", "c"), ("initContainers", "i")] {
        for (at, container) in pod["spec"][list].as_array_mut().into_iter().flatten().enumerate() {
            container["name"] = format!("{name}{at}").into();
            container["image"] = "x".into();
        }
    }
    let (home, account) = (json!({}), json!({}));
    let neighbours = Neighbours {
        namespace: Some(&home),
        service_account: Some(&account),
        limit_ranges: &ranges,
        ..Neighbours::default()
    };
    let pods = resource("pods");
    let told = |status: registry::Status| {
        assert_eq!((status.code, status.reason), (403, "Forbidden"), "{status}");
        let why = status.message.strip_prefix("pods \"p\" is forbidden: ").unwrap_or_else(|| panic!("{status}"));
        why.to_owned()
    };
    admit_create(pods, &context(), "default", &mut pod, neighbours).map_err(told)?;
    let created = create("pods", pod).unwrap();
    admission::validate(pods, &created, &ranges).map_err(told)?;
    Ok(created)
}

/// A container with requests and limits.
fn container(requests: Value, limits: Value) -> Value {
    json!({"resources": {"requests": requests, "limits": limits}})
}

#[test]
fn containers_get_what_they_do_not_say() {
    let item = json!({
        "type": "Container", "default": {"cpu": "500m", "memory": "500Mi"}, "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
    });
    let check = |spec: Value, ranges: &[Value], expected: Value, note: Option<&str>| {
        let pod = admit(spec, ranges).unwrap();
        let all = ["containers", "initContainers"].into_iter().flat_map(|list| pod["spec"][list].as_array());
        let found: Value = all.flatten().map(|container| container["resources"].clone()).collect();
        assert_eq!(found, expected);
        let annotation = &pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
        assert_eq!(annotation.as_str(), note);
    };
    let usual = json!({"requests": {"cpu": "100m", "memory": "200Mi"}, "limits": {"cpu": "500m", "memory": "500Mi"}});
    check(
        json!({"containers": [{}]}),
        &[json!([item])],
        json!([usual]),
        Some("LimitRanger plugin set: cpu, memory request for container c0; cpu, memory limit for container c0"),
    );
    // A limit is a request, too, before anything is given.
    check(
        json!({"containers": [container(json!({"memory": "150Mi"}), json!({"cpu": "300m"}))]}),
        &[json!([item])],
        json!([{"requests": {"cpu": "300m", "memory": "150Mi"}, "limits": {"cpu": "300m", "memory": "500Mi"}}]),
        Some("LimitRanger plugin set: memory limit for container c0"),
    );
    check(
        json!({"containers": [{"resources": usual}, {}], "initContainers": [{}]}),
        &[json!([item])],
        json!([usual, usual, usual]),
        Some(
            "LimitRanger plugin set: cpu, memory request for container c1; cpu, memory limit for container c1; cpu, memory request for init container i0; cpu, memory limit for init container i0",
        ),
    );
    check(json!({"containers": [{"resources": usual}]}), &[json!([item])], json!([usual]), None);
    check(json!({"containers": [{}]}), &[json!([{"type": "Pod"}])], json!([{}]), None);
    // The first that says something counts; the last that gave something is told.
    let (first, second) = (json!([{"type": "Container", "default": {"cpu": "1"}}]), json!([item]));
    check(
        json!({"containers": [{}]}),
        &[first, second],
        json!([{"requests": {"cpu": "1", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "500Mi"}}]),
        Some("LimitRanger plugin set: memory request for container c0; memory limit for container c0"),
    );
    let guaranteed =
        admit(json!({"containers": [{}]}), &[json!([{"type": "Container", "max": {"cpu": "1", "memory": "1Gi"}}])]);
    assert_eq!(guaranteed.unwrap()["status"]["qosClass"], "Guaranteed");
}

/// What a pod is refused with; nothing if it is not.
fn check(spec: Value, item: Value, expected: &str) {
    let refusal = admit(spec.clone(), &[json!([item])]).err().unwrap_or_default();
    assert_eq!(refusal, expected, "{spec}");
}

#[test]
fn bounds_of_containers() {
    let cpu = |amount: &str| json!({"cpu": amount});
    let one = |requests: Value, limits: Value| json!({"containers": [container(requests, limits)]});
    let bound = |field: &str, amount: &str| json!({"type": "Container", field: cpu(amount)});
    let min = || bound("min", "50m");
    check(one(cpu("100m"), cpu("200m")), min(), "");
    check(one(cpu("50m"), json!({})), min(), "");
    check(one(json!({}), json!({})), min(), "");
    check(one(cpu("40m"), json!({})), min(), "minimum cpu usage per Container is 50m, but request is 40m");
    check(one(cpu("0"), cpu("40m")), min(), "minimum cpu usage per Container is 50m, but request is 0");
    let max = || bound("max", "2");
    check(one(cpu("500m"), cpu("1")), max(), "");
    check(one(json!({}), json!({})), max(), "");
    check(one(cpu("1"), cpu("2500m")), max(), "maximum cpu usage per Container is 2, but limit is 2500m");
    let ratio = || bound("maxLimitRequestRatio", "1500m");
    check(one(cpu("500m"), cpu("750m")), ratio(), "");
    let why = "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000";
    check(one(cpu("1250m"), cpu("2500m")), ratio(), why);
    let why = "cpu max limit to request ratio per Container is 1500m, but no request is specified or request is 0";
    check(one(json!({}), json!({})), ratio(), why);
    let why = "cpu max limit to request ratio per Container is 1500m, but no limit is specified or limit is 0";
    check(one(cpu("1"), json!({})), ratio(), why);
    // Larger numbers are compared as whole units: both of these are over the thousandths.
    let huge = json!({"type": "Container", "min": {"memory": "8Pi"}, "defaultRequest": {"memory": "8Pi"}});
    check(json!({"containers": [container(json!({"memory": "9Pi"}), json!({}))]}), huge.clone(), "");
    let why = "minimum memory usage per Container is 8Pi, but request is 7Pi";
    check(json!({"containers": [container(json!({"memory": "7Pi"}), json!({}))]}), huge, why);
}

#[test]
fn all_containers_are_asked_and_all_reasons_told_once() {
    let small = || container(json!({"cpu": "10m", "memory": "1Mi"}), json!({}));
    let item = json!({"type": "Container", "min": {"cpu": "50m", "memory": "2Mi"}, "max": {"cpu": "1"}});
    check(
        json!({"containers": [small(), small()], "initContainers": [container(json!({"cpu": "2"}), json!({"cpu": "2"}))]}),
        item,
        "[minimum cpu usage per Container is 50m, but request is 10m, minimum memory usage per Container is 2Mi, but request is 1Mi, maximum cpu usage per Container is 1, but limit is 2]",
    );
    // Only the first limit range that refuses is heard.
    let ranges = [json!([{"type": "Pod", "min": {"cpu": "1"}}]), json!([{"type": "Pod", "min": {"cpu": "2"}}])];
    let refusal = admit(json!({"containers": [small()]}), &ranges).unwrap_err();
    assert_eq!(refusal, "minimum cpu usage per Pod is 1, but request is 10m");
}

#[test]
fn bounds_of_pods() {
    let cpu = |request: &str, limit: &str| container(json!({"cpu": request}), json!({"cpu": limit}));
    let pod = |field: &str, amount: &str| json!({"type": "Pod", field: {"cpu": amount}});
    let two = || json!({"containers": [cpu("75m", "100m"), cpu("75m", "100m")]});
    check(two(), pod("min", "150m"), "");
    check(two(), pod("min", "200m"), "minimum cpu usage per Pod is 200m, but request is 150m");
    check(two(), pod("max", "200m"), "");
    check(two(), pod("max", "150m"), "maximum cpu usage per Pod is 150m, but limit is 200m");
    check(
        two(),
        pod("maxLimitRequestRatio", "1200m"),
        "cpu max limit to request ratio per Pod is 1200m, but provided ratio is 1.333333",
    );
    check(json!({"containers": [{}]}), pod("min", "1"), "minimum cpu usage per Pod is 1.  No request is specified");
    check(json!({"containers": [{}]}), pod("max", "1"), "maximum cpu usage per Pod is 1.  No limit is specified");
    // Init containers count where they need more than all that follow; sidecars count beside these.
    let with_init = |mut init: Value, restarts: bool| {
        if restarts {
            init["restartPolicy"] = "Always".into();
        }
        json!({"containers": [cpu("1", "1")], "initContainers": [init]})
    };
    check(with_init(cpu("2", "2"), false), pod("max", "2"), "");
    check(with_init(cpu("3", "3"), false), pod("max", "2"), "maximum cpu usage per Pod is 2, but limit is 3");
    check(
        with_init(cpu("1500m", "1500m"), true),
        pod("max", "2"),
        "maximum cpu usage per Pod is 2, but limit is 2500m",
    );
    // What is said of the pod as a whole counts instead.
    let whole =
        |resources: Value| json!({"containers": [cpu("100m", "200m"), cpu("100m", "200m")], "resources": resources});
    check(
        whole(json!({"limits": {"cpu": "500m"}})),
        pod("max", "400m"),
        "maximum cpu usage per Pod is 400m, but limit is 500m",
    );
    check(
        whole(json!({"limits": {"cpu": "500m"}})),
        pod("min", "201m"),
        "minimum cpu usage per Pod is 201m, but request is 200m",
    );
    check(whole(json!({"requests": {"cpu": "300m"}, "limits": {"cpu": "500m"}})), pod("min", "300m"), "");
}

#[test]
fn bounds_of_claims() {
    let item = json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]);
    let (claims, ranges) = (resource("persistentvolumeclaims"), [stored(item)]);
    let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": size}}}});
    for (size, expected) in [
        ("1Gi", ""),
        ("2Gi", ""),
        ("500Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
        ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
    ] {
        let refusal = admission::validate(claims, &claim(size), &ranges).err();
        let message = refusal.map(|status| status.message).unwrap_or_default();
        let head = "persistentvolumeclaims \"c\" is forbidden: ";
        assert_eq!(message.strip_prefix(head).unwrap_or(&message), expected, "{size}");
    }
    let going = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
    for (plural, target, old, expected) in [
        ("persistentvolumeclaims", Target::Object, &json!({}), true),
        ("persistentvolumeclaims", Target::Object, &going, false),
        ("persistentvolumeclaims", Target::Status, &json!({}), false),
        ("pods", Target::Object, &json!({}), false),
        ("configmaps", Target::Object, &json!({}), false),
    ] {
        assert_eq!(validates_change(resource(plural), target, old), expected, "{plural} {target:?} {old}");
    }
}

#[test]
fn a_pods_own_resources_are_completed_by_its_containers() {
    let check = |containers: Value, resources: Value, expected: Value| {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x", "resources": containers}], "resources": resources}});
        assert_eq!(create("pods", pod).unwrap()["spec"]["resources"], expected);
    };
    let limits = json!({"limits": {"cpu": "2", "memory": "1Gi"}});
    check(json!({}), limits.clone(), json!({"limits": limits["limits"], "requests": limits["limits"]}));
    check(
        json!({"requests": {"cpu": "500m"}}),
        limits.clone(),
        json!({"limits": limits["limits"], "requests": {"cpu": "500m", "memory": "1Gi"}}),
    );
    check(
        json!({"requests": {"cpu": "500m"}}),
        json!({"requests": {"memory": "1Gi"}}),
        json!({"requests": {"memory": "1Gi"}}),
    );
    check(
        json!({"limits": {"cpu": "1", "hugepages-2Mi": "4Mi"}}),
        json!({"requests": {"cpu": "1"}}),
        json!({"requests": {"cpu": "1", "hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "4Mi"}}),
    );
}
