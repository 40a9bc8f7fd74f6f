//! Small worlds at random: an allocation is valid by a checker that knows nothing of the search, and there is one
//! just when trying everything finds one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a pool's counter has.
const COUNTER: i64 = 3;

#[derive(Clone, Debug)]
struct Dev {
    pool: usize,
    x: i64,
    y: Option<i64>,
    /// What it takes of its pool's counter.
    parts: i64,
    memory: i64,
    shared: bool,
    tainted: bool,
    /// Memory that is taken of it, if it is taken at all; all of it where it is not shared.
    used: Option<i64>,
}

#[derive(Clone, Debug)]
struct Choice {
    /// None means all.
    count: Option<usize>,
    /// The least `x`.
    least: i64,
    memory: Option<i64>,
    tolerant: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    distinct: bool,
    on_x: bool,
    /// The numbers of the requests; none means all.
    requests: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Model {
    devices: Vec<Dev>,
    /// Claims, their requests, their alternatives.
    claims: Vec<Vec<Vec<Choice>>>,
    /// Of the first claim.
    rules: Vec<Rule>,
}

/// The alternative and the devices of each request of each claim.
type Answer = Vec<Vec<(usize, Vec<usize>)>>;

fn dev() -> impl Strategy<Value = Dev> {
    let used = prop_oneof![3 => Just(None), 1 => (1i64..3).prop_map(Some)];
    (0usize..2, 0i64..3, prop::option::of(0i64..2), 0i64..3, 1i64..5, any::<bool>(), prop::bool::weighted(0.2), used)
        .prop_map(|(pool, x, y, parts, memory, shared, tainted, used)| Dev {
            pool,
            x,
            y,
            parts,
            memory,
            shared,
            tainted,
            used,
        })
}

fn choice() -> impl Strategy<Value = Choice> {
    let count = prop_oneof![4 => (1usize..3).prop_map(Some), 1 => Just(None)];
    (count, 0i64..3, prop::option::of(1i64..4), any::<bool>()).prop_map(|(count, least, memory, tolerant)| Choice {
        count,
        least,
        memory,
        tolerant,
    })
}

fn model() -> impl Strategy<Value = Model> {
    let claim = || prop::collection::vec(prop::collection::vec(choice(), 1..3), 1..3);
    let rule = (any::<bool>(), any::<bool>(), prop::collection::vec(0usize..2, 0..2))
        .prop_map(|(distinct, on_x, requests)| Rule { distinct, on_x, requests });
    // Some devices come twice.
    let devices = prop::collection::vec((dev(), prop::bool::weighted(0.4)), 1..4).prop_map(|devices| {
        devices.into_iter().flat_map(|(device, twice)| vec![device; 1 + usize::from(twice)]).collect()
    });
    (devices, prop::collection::vec(claim(), 1..3), prop::collection::vec(rule, 0..3))
        .prop_map(|(devices, claims, rules)| Model { devices, claims, rules })
}

impl Model {
    fn world(&self) -> World {
        let mut slices = Vec::new();
        for pool in 0..2 {
            let name = json!({"pool": {"name": format!("pool-{pool}")}});
            let mine = self.devices.iter().enumerate().filter(|(_, device)| device.pool == pool);
            let devices = mine.map(|(at, device)| published(at, device)).collect();
            let sets = json!([{"name": "set", "counters": {"parts": {"value": COUNTER.to_string()}}}]);
            slices.push(with(one_of(2, slice(devices)), name.clone()));
            slices.push(with(with(one_of(2, slice(vec![])), name), json!({"sharedCounters": sets})));
        }
        let claims = self.claims.iter().enumerate().map(|(at, requests)| {
            let requests = requests.iter().enumerate().map(|(at, choices)| asked(at, choices)).collect();
            let rules: Vec<Value> = self.rules.iter().filter(|_| at == 0).map(Rule::written).collect();
            with(claim(requests), json!({"constraints": rules}))
        });
        world(slices, claims.collect())
    }

    fn used(&self) -> Used {
        let lines: Vec<String> = self
            .devices
            .iter()
            .enumerate()
            .filter_map(|(at, device)| {
                let memory = device.used?;
                let memory = if device.shared { format!(" memory={memory}") } else { String::new() };
                Some(format!("driver-a/pool-{}/device-{at}{memory}", device.pool))
            })
            .collect();
        used(&lines.iter().map(|line| &**line).collect::<Vec<_>>())
    }

    fn selected(&self, choice: &Choice, at: usize) -> bool {
        self.devices[at].x >= choice.least
    }

    fn has_room(&self, choice: &Choice, at: usize) -> bool {
        let device = &self.devices[at];
        let before = if device.shared { device.used.unwrap_or(0) } else { 0 };
        before + choice.memory.unwrap_or(device.memory) <= device.memory
    }

    /// The devices that "all" means.
    fn all(&self, choice: &Choice) -> Vec<usize> {
        (0..self.devices.len()).filter(|at| self.selected(choice, *at) && self.has_room(choice, *at)).collect()
    }

    fn is_valid(&self, answer: &Answer) -> bool {
        let mut wholly = BTreeMap::<usize, usize>::new();
        let mut memory = BTreeMap::<usize, i64>::new();
        for (claim, requests) in answer.iter().enumerate() {
            for (request, (alternative, devices)) in requests.iter().enumerate() {
                let choice = &self.claims[claim][request][*alternative];
                if !self.fits_alone(choice, devices) {
                    return false;
                }
                for at in devices {
                    let device = &self.devices[*at];
                    if device.shared {
                        *memory.entry(*at).or_insert(device.used.unwrap_or(0)) +=
                            choice.memory.unwrap_or(device.memory);
                    } else {
                        *wholly.entry(*at).or_default() += 1;
                    }
                }
            }
        }
        let taken: Vec<usize> = wholly.keys().chain(memory.keys()).copied().collect();
        wholly.iter().all(|(at, times)| *times == 1 && self.devices[*at].used.is_none())
            && memory.iter().all(|(at, memory)| *memory <= self.devices[*at].memory)
            && self.counters_hold(&taken)
            && self.rules.iter().all(|rule| self.holds(rule, &answer[0]))
    }

    fn fits_alone(&self, choice: &Choice, devices: &[usize]) -> bool {
        let rising = devices.windows(2).all(|pair| pair[0] < pair[1]);
        let complete = match choice.count {
            Some(count) => devices.len() == count,
            None => !devices.is_empty() && devices == self.all(choice),
        };
        let usable = |at: &usize| {
            let tolerated = choice.tolerant || !self.devices[*at].tainted;
            self.selected(choice, *at) && self.has_room(choice, *at) && tolerated
        };
        rising && complete && devices.iter().all(usable)
    }

    /// No pool gives more parts than it has, unless nothing that takes parts was added to those that are taken.
    fn counters_hold(&self, taken: &[usize]) -> bool {
        (0..2).all(|pool| {
            let device = |at: &usize| Some(&self.devices[*at]).filter(|device| device.pool == pool);
            let before: i64 = self
                .devices
                .iter()
                .filter(|device| device.pool == pool && device.used.is_some())
                .map(|device| device.parts)
                .sum();
            let added: Vec<i64> = taken
                .iter()
                .filter_map(device)
                .filter(|device| device.used.is_none())
                .map(|device| device.parts)
                .collect();
            added.iter().all(|parts| *parts == 0) || before + added.iter().sum::<i64>() <= COUNTER
        })
    }

    fn holds(&self, rule: &Rule, claim: &[(usize, Vec<usize>)]) -> bool {
        let meant = |request: &usize| rule.requests.is_empty() || rule.requests.contains(request);
        let devices =
            claim.iter().enumerate().filter(|(request, _)| meant(request)).flat_map(|(_, (_, devices))| devices);
        let values: Vec<Option<i64>> =
            devices.map(|at| if rule.on_x { Some(self.devices[*at].x) } else { self.devices[*at].y }).collect();
        let pairs = (0..values.len()).flat_map(|one| (0..one).map(move |two| (one, two)));
        let mut pairs = pairs.map(|(one, two)| values[one] == values[two]);
        values.iter().all(Option::is_some) && pairs.all(|same| same != rule.distinct)
    }

    /// Tries everything.
    fn has_solution(&self) -> bool {
        let places: Vec<(usize, usize)> = self
            .claims
            .iter()
            .enumerate()
            .flat_map(|(claim, requests)| (0..requests.len()).map(move |request| (claim, request)))
            .collect();
        let mut answer: Answer = self.claims.iter().map(|_| Vec::new()).collect();
        self.try_from(&places, &mut answer)
    }

    fn try_from(&self, places: &[(usize, usize)], answer: &mut Answer) -> bool {
        let Some(((claim, request), rest)) = places.split_first() else { return self.is_valid(answer) };
        for (alternative, choice) in self.claims[*claim][*request].iter().enumerate() {
            for set in 0u32..1 << self.devices.len() {
                let devices: Vec<usize> = (0..self.devices.len()).filter(|at| set >> at & 1 == 1).collect();
                if !self.fits_alone(choice, &devices) {
                    continue;
                }
                answer[*claim].push((alternative, devices));
                let found = self.try_from(rest, answer);
                answer[*claim].pop();
                if found {
                    return true;
                }
            }
        }
        false
    }

    /// What an allocation says, in the model's numbers.
    fn read(&self, allocations: &[AllocationResult]) -> Answer {
        let mut answer: Answer = self.claims.iter().map(|requests| vec![(0, Vec::new()); requests.len()]).collect();
        for (claim, allocation) in allocations.iter().enumerate() {
            for result in allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten()) {
                let number =
                    |text: &str| text.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap();
                let (request, alternative) = result.request.split_once('/').unwrap_or((&result.request, "0"));
                let entry = &mut answer[claim][number(request)];
                entry.0 = number(alternative);
                entry.1.push(number(&result.device));
                let pool = self.devices[number(&result.device)].pool;
                assert_eq!(result.pool, format!("pool-{pool}"), "a device is of its pool");
            }
        }
        for (_, devices) in answer.iter_mut().flatten() {
            // Pools come one after the other, the model's devices as they come.
            devices.sort_unstable();
        }
        answer
    }
}

impl Rule {
    fn written(&self) -> Value {
        let attribute = if self.on_x { "driver-a/x" } else { "driver-a/y" };
        let requests: Vec<String> = self.requests.iter().map(|request| format!("r{request}")).collect();
        let field = if self.distinct { "distinctAttribute" } else { "matchAttribute" };
        json!({field: attribute, "requests": requests})
    }
}

fn published(at: usize, device: &Dev) -> Value {
    let mut attributes = json!({"x": {"int": device.x}});
    if let Some(y) = device.y {
        attributes["y"] = json!({"int": y});
    }
    let mut found = json!({
        "name": format!("device-{at}"),
        "attributes": attributes,
        "capacity": {"memory": {"value": device.memory.to_string()}},
        "allowMultipleAllocations": device.shared,
    });
    if device.parts > 0 {
        let counters = json!({"parts": {"value": device.parts.to_string()}});
        found["consumesCounters"] = json!([{"counterSet": "set", "counters": counters}]);
    }
    if device.tainted {
        found["taints"] = json!([{"key": "broken", "effect": "NoSchedule"}]);
    }
    found
}

fn asked(at: usize, choices: &[Choice]) -> Value {
    let one = |choice: &Choice| {
        let mut changes = json!({"selectors": having(&format!("x >= {}", choice.least))});
        match choice.count {
            Some(count) => changes["count"] = count.into(),
            None => changes["allocationMode"] = "All".into(),
        }
        if let Some(memory) = choice.memory {
            changes["capacity"] = json!({"requests": {"memory": memory.to_string()}});
        }
        if choice.tolerant {
            changes["tolerations"] = json!([{"operator": "Exists"}]);
        }
        changes
    };
    let name = format!("r{at}");
    match choices {
        [choice] => request(&name, one(choice)),
        _ => {
            let names: Vec<String> = (0..choices.len()).map(|at| format!("c{at}")).collect();
            let choices: Vec<(&str, Value)> =
                names.iter().zip(choices).map(|(name, choice)| (&**name, one(choice))).collect();
            first_of(&name, &choices)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn allocations_are_valid_and_found_if_there_are_any(model in model()) {
        let world = model.world();
        let inventory = world.inventory();
        let found = match world.allocate_beside(&inventory, &model.used()) {
            Ok(found) => found,
            // A constraint is against one of "all" devices: nothing was found, and why is said.
            Err(Error::Claim { here: true, .. }) => None,
            Err(error) => panic!("{error}"),
        };
        match found {
            Some(found) => prop_assert!(model.is_valid(&model.read(&found)), "{:?}", found.iter().map(written).collect::<Vec<_>>()),
            None => prop_assert!(!model.has_solution()),
        }
    }
}
