//! LimitRanger: what the limit ranges of a namespace give to pods that do not say what they need, and which pods and claims
//! they refuse.
//!
//! ```text
//!   a new pod ─▶ complete ─▶ … ─▶ refusal ─▶ stored
//!                a new or changed claim ─┘
//! ```

use std::sync::Arc;

use kube_schema::quantity::{self, MAX_MILLI_VALUE, Quantity};
use serde_json::Value;

use crate::{
    kinds::pod_totals::{Amounts, amounts, of_containers},
    value::{entries, items, items_mut, object_mut, set, text},
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The lists of containers in the order in which they are looked at, and what one of each is called.
const CONTAINERS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];
/// What a pod may say of itself as a whole, instead of its containers.
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];
/// No more reasons are told for one refusal; the first ones say enough.
const MAX_REASONS: usize = 200;

/// Gives a pod's containers the requests and limits that they do not have, and notes in the pod which these are. The pod has
/// its own defaults already: where it has a limit and no request, the limit is the request.
pub(super) fn complete(pod: &mut Value, ranges: &[Arc<Value>]) {
    for range in ranges {
        let mut notes = Vec::new();
        for (list, title) in CONTAINERS {
            for container in items_mut(object_mut(pod, "spec"), list) {
                complete_container(container, title, range, &mut notes);
            }
        }
        if !notes.is_empty() {
            // Of several limit ranges the last one that gave something is told, as in Kubernetes.
            let text = format!("LimitRanger plugin set: {}", notes.join("; "));
            set(object_mut(object_mut(pod, "metadata"), "annotations"), ANNOTATION, text);
        }
    }
}

fn complete_container(container: &mut Value, title: &str, range: &Value, notes: &mut Vec<String>) {
    let name = text(container, "name").to_owned();
    for (from, to, word) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
        let mut given = Vec::new();
        for item in of_type(range, "Container") {
            for (resource, amount) in entries(&item[from]) {
                if container["resources"][to][resource].is_null() {
                    set(object_mut(object_mut(container, "resources"), to), resource, amount.clone());
                    given.push(resource);
                }
            }
        }
        if !given.is_empty() {
            given.sort_unstable();
            notes.push(format!("{} {word} for {title} {name}", given.join(", ")));
        }
    }
}

fn of_type<'r>(range: &'r Value, kind: &str) -> impl Iterator<Item = &'r Value> {
    items(&range["spec"]["limits"]).iter().filter(move |item| text(item, "type") == kind)
}

/// Why the limit ranges do not allow a pod; none if they do. The first one that does not is asked for all its reasons.
pub(super) fn pod_refusal(pod: &Value, ranges: &[Arc<Value>]) -> Option<String> {
    ranges.iter().find_map(|range| {
        let mut reasons = Reasons::default();
        for item in items(&range["spec"]["limits"]) {
            match text(item, "type") {
                "Container" => {
                    for container in CONTAINERS.iter().flat_map(|(list, _)| items(&pod["spec"][*list])) {
                        Asked::by_container(container).hold_against(item, &mut reasons);
                    }
                }
                "Pod" => Asked::by_pod(&pod["spec"]).hold_against(item, &mut reasons),
                _ => {}
            }
        }
        reasons.joined()
    })
}

/// The same for a claim, which has no limits: what it asks for is held against both bounds.
pub(super) fn claim_refusal(claim: &Value, ranges: &[Arc<Value>]) -> Option<String> {
    let asked = Asked { requests: amounts(&claim["spec"]["resources"]["requests"]), limits: Amounts::new() };
    ranges.iter().find_map(|range| {
        let mut reasons = Reasons::default();
        for item in of_type(range, "PersistentVolumeClaim") {
            for bound in Bound::all(item, "min") {
                reasons.add(asked.below(&bound));
            }
            for bound in Bound::all(item, "max") {
                reasons.add(asked.request_above(&bound));
            }
        }
        reasons.joined()
    })
}

/// Reasons for a refusal, each told once.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Reasons {
    fn add(&mut self, reason: Option<String>) {
        if let Some(reason) = reason
            && self.0.len() < MAX_REASONS
            && !self.0.contains(&reason)
        {
            self.0.push(reason);
        }
    }

    fn joined(self) -> Option<String> {
        match self.0.as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            several => Some(format!("[{}]", several.join(", "))),
        }
    }
}

/// What an item sets for one resource, of containers, pods or claims.
struct Bound<'r> {
    kind: &'r str,
    resource: &'r str,
    amount: Quantity,
}

impl<'r> Bound<'r> {
    fn all(item: &'r Value, field: &str) -> impl Iterator<Item = Bound<'r>> {
        let read = |(resource, amount): (&'r str, &Value)| {
            let amount = quantity::parse(amount.as_str()?).ok()?;
            Some(Bound { kind: text(item, "type"), resource, amount })
        };
        entries(&item[field]).filter_map(read)
    }

    /// How a reason begins.
    fn usage(&self, word: &str) -> String {
        format!("{word} {} usage per {} is {}", self.resource, self.kind, self.amount)
    }
}

/// What a container, a pod or a claim asks for.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

impl Asked {
    fn by_container(container: &Value) -> Self {
        let of = |list: &str| amounts(&container["resources"][list]);
        Asked { requests: of("requests"), limits: of("limits") }
    }

    /// What a pod says of itself as a whole takes the place of what its containers say.
    fn by_pod(spec: &Value) -> Self {
        let of = |list: &str| {
            let mut total = of_containers(spec, list);
            let of_pod = amounts(&spec["resources"][list]).into_iter();
            total.extend(of_pod.filter(|(name, _)| POD_LEVEL.contains(&name.as_str())));
            total
        };
        Asked { requests: of("requests"), limits: of("limits") }
    }

    fn hold_against(&self, item: &Value, reasons: &mut Reasons) {
        for bound in Bound::all(item, "min") {
            reasons.add(self.below(&bound));
        }
        for bound in Bound::all(item, "max") {
            reasons.add(self.above(&bound));
        }
        for bound in Bound::all(item, "maxLimitRequestRatio") {
            reasons.add(self.ratio_above(&bound));
        }
    }

    fn below(&self, bound: &Bound<'_>) -> Option<String> {
        let usage = bound.usage("minimum");
        let (request, limit) = (self.requests.get(bound.resource), self.limits.get(bound.resource));
        let Some(told) = request else { return Some(format!("{usage}.  No request is specified")) };
        let [least, asked, allowed] = comparable([Some(&bound.amount), request, limit]);
        match limit {
            _ if asked < least => Some(format!("{usage}, but request is {told}")),
            Some(told) if allowed < least => Some(format!("{usage}, but limit is {told}")),
            _ => None,
        }
    }

    fn above(&self, bound: &Bound<'_>) -> Option<String> {
        let usage = bound.usage("maximum");
        let (request, limit) = (self.requests.get(bound.resource), self.limits.get(bound.resource));
        let Some(told) = limit else { return Some(format!("{usage}.  No limit is specified")) };
        let [most, asked, allowed] = comparable([Some(&bound.amount), request, limit]);
        match request {
            _ if allowed > most => Some(format!("{usage}, but limit is {told}")),
            Some(told) if asked > most => Some(format!("{usage}, but request is {told}")),
            _ => None,
        }
    }

    fn request_above(&self, bound: &Bound<'_>) -> Option<String> {
        let usage = bound.usage("maximum");
        let request = self.requests.get(bound.resource);
        let Some(told) = request else { return Some(format!("{usage}.  No request is specified")) };
        let [most, asked] = comparable([Some(&bound.amount), request]);
        (asked > most).then(|| format!("{usage}, but request is {told}"))
    }

    fn ratio_above(&self, bound: &Bound<'_>) -> Option<String> {
        let Bound { kind, resource, amount: most } = bound;
        let ratio = format!("{resource} max limit to request ratio per {kind} is {most}");
        let (request, limit) = (self.requests.get(*resource), self.limits.get(*resource));
        let [_, asked, allowed] = comparable([Some(most), request, limit]);
        if asked == 0 {
            return Some(format!("{ratio}, but no request is specified or request is 0"));
        }
        if allowed == 0 {
            return Some(format!("{ratio}, but no limit is specified or limit is 0"));
        }
        let found = allowed as f64 / asked as f64;
        let fine = most.value() <= MAX_MILLI_VALUE;
        let (held, against) =
            if fine { (found * 1000.0, most.milli_value() as f64) } else { (found, most.value() as f64) };
        (held > against).then(|| format!("{ratio}, but provided ratio is {found:.6}"))
    }
}

/// Amounts as numbers that can be compared: thousandths where all of them fit, else units. An absent one is 0.
fn comparable<const N: usize>(amounts: [Option<&Quantity>; N]) -> [i64; N] {
    let units = amounts.map(|amount| amount.map_or(0, Quantity::value));
    if units.iter().any(|units| *units > MAX_MILLI_VALUE) {
        return units;
    }
    amounts.map(|amount| amount.map_or(0, Quantity::milli_value))
}
