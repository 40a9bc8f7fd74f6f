//! How much of each resource the containers of a pod need together.

use std::collections::BTreeMap;

use kube_schema::quantity::{self, Quantity};
use serde_json::Value;

use crate::value::{entries, items, text};

/// Amounts by the names of their resources.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// The amounts of a map of quantities. It was checked when it was decoded, so that nothing is left out.
pub(crate) fn amounts(map: &Value) -> Amounts {
    let read = |(name, text): (&str, &Value)| Some((name.to_owned(), quantity::parse(text.as_str()?).ok()?));
    entries(map).filter_map(read).collect()
}

/// The most that the containers of a pod need at once, by their `requests` or their `limits`. Init containers run one after
/// the other, each beside those before it that go on running; the others run together with all that go on.
pub(crate) fn of_containers(spec: &Value, list: &str) -> Amounts {
    let of = |container: &Value| amounts(&container["resources"][list]);
    let mut together = Amounts::new();
    for container in items(&spec["containers"]) {
        add(&mut together, of(container));
    }
    let (mut going_on, mut before) = (Amounts::new(), Amounts::new());
    for container in items(&spec["initContainers"]) {
        if text(container, "restartPolicy") == "Always" {
            add(&mut together, of(container));
            add(&mut going_on, of(container));
            raise(&mut before, going_on.clone());
        } else {
            let mut at_once = of(container);
            add(&mut at_once, going_on.clone());
            raise(&mut before, at_once);
        }
    }
    raise(&mut together, before);
    together
}

fn add(sum: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        let total = sum.get(&name).map_or(amount, |sum| sum.plus(&amount));
        sum.insert(name, total);
    }
}

fn raise(most: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        if most.get(&name).is_none_or(|most| amount > *most) {
            most.insert(name, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(init: &[(&str, bool)], containers: &[&str], expected: &str) {
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let init = init.iter().map(|(cpu, sidecar)| {
            let mut container = asks(cpu);
            if *sidecar {
                container["restartPolicy"] = "Always".into();
            }
            container
        });
        let containers = containers.iter().map(|cpu| asks(cpu));
        let spec = json!({
            "initContainers": init.collect::<Vec<_>>(), "containers": containers.collect::<Vec<_>>(),
        });
        assert_eq!(of_containers(&spec, "requests")["cpu"].to_string(), expected, "{spec}");
    }

    #[test]
    fn the_largest_need_counts() {
        check(&[], &["1", "500m"], "1500m");
        check(&[("1", false), ("2", false)], &["1", "500m"], "2");
        check(&[("1", true)], &["1", "500m"], "2500m");
        // The third runs beside the first two.
        check(&[("1", true), ("1", true), ("3", false)], &["1"], "5");
        // One that ends needs nothing of those that start later.
        check(&[("3", false), ("1", true)], &["1"], "3");
    }
}
