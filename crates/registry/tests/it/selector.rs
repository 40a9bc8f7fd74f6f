//! Label and field selectors.

use proptest::prelude::*;
use registry::{FieldSelector, LabelSelector};
use serde_json::json;

use crate::support::{create, resource};

#[test]
fn labels_are_matched() {
    let labels = json!({"app": "web", "tier": "front", "weight": "5"});
    for (selector, expected) in [
        ("", true),
        ("app=web", true),
        ("app==web,tier!=back", true),
        ("app in (web, db)", true),
        ("app notin (web)", false),
        ("missing notin (a)", true),
        ("missing!=a", true),
        ("!missing", true),
        ("app", true),
        ("!app", false),
        ("weight>4", true),
        ("weight<5", false),
        ("weight gt 4", true),
        ("app=", false),
        (" app = web , tier ", true),
        ("app in (web,)", true),
    ] {
        let parsed = LabelSelector::parse(selector).unwrap_or_else(|why| panic!("{selector}: {why}"));
        assert_eq!(parsed.matches_map(&labels), expected, "{selector}");
    }
}

#[test]
fn malformed_label_selectors_are_explained() {
    for (selector, expected) in [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,", "found '', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ] {
        assert_eq!(LabelSelector::parse(selector).unwrap_err(), expected, "{selector}");
    }
}

#[test]
fn fields_are_matched_and_unknown_ones_refused() {
    let pod = create("pods", json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}));
    let attributes = resource("pods").attributes(&pod.unwrap());
    for (fields, expected) in [
        ("", true),
        ("metadata.name=p,metadata.namespace=default", true),
        ("status.phase!=Running", true),
        ("status.phase==Pending", true),
        ("spec.nodeName=", true),
        ("spec.nodeName=n", false),
        ("spec.hostNetwork=false", true),
    ] {
        let selection = resource("pods").selection("", fields).unwrap();
        assert_eq!(selection.matches(&attributes), expected, "{fields}");
    }
    assert_eq!(
        resource("pods").selection("", "spec.foo=1").unwrap_err().message,
        "field label not supported: spec.foo"
    );
    assert_eq!(
        resource("leases").selection("", "spec.foo=1").unwrap_err().message,
        "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    assert_eq!(
        resource("pods").selection("", "what").unwrap_err().message,
        "invalid selector: 'what'; can't understand 'what'"
    );
}

proptest! {
    #[test]
    fn parsers_never_panic(text in "\\PC{0,40}", odd in "[a-z=!,()<> \\\\./]{0,40}") {
        for text in [text, odd] {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }
    }
}
