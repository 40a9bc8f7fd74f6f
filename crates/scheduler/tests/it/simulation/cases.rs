//! What the simulation has found once, each as small as it can be.

use std::time::Duration;

use super::{
    Simulation, Verdict, claims, devices,
    faults::{Class, Fate, Faults, LATEST, Lost},
    model::{Demand, Machine},
    random::Random,
    run,
    store::{self, node_of},
};

/// Long enough for what is written, and for what is tried again.
const A_WHILE: Duration = Duration::from_secs(8);

fn machine(milli_cpu: u64) -> Machine {
    let (name, zone) = ("n".to_owned(), "east");
    Machine { name, milli_cpu, mebibytes: 4000, pods: 10, zone, tainted: false, cordoned: false }
}

fn pod(name: &str, milli_cpu: u64) -> Demand {
    Demand { name: name.into(), uid: format!("uid-{name}"), milli_cpu, mebibytes: 10, ..Default::default() }
}

fn put_node(simulation: &Simulation, machine: &Machine) {
    simulation.api.change(|state, _| {
        state.judge.node_is(machine, state.store.version() + 1);
        state.store.put("nodes", machine.object());
    });
}

fn put_pod(simulation: &Simulation, demand: Demand) {
    simulation.api.change(|state, _| {
        state.store.put("pods", demand.object());
        state.judge.demands.insert(demand.uid.clone(), demand);
    });
}

/// The next request of this class meets this fate.
fn next(simulation: &Simulation, class: Class, before: Duration, refused: Option<u16>, lost: Lost) {
    simulation.api.lock().faults.scripted.push_back((class, Fate { before, refused, lost }));
}

fn bound(simulation: &Simulation) -> Vec<String> {
    let state = simulation.api.lock();
    let there = state.store.all("pods").filter(|pod| node_of(pod).is_some());
    there.map(|pod| store::name(pod).to_owned()).collect()
}

async fn end(mut simulation: Simulation) {
    simulation.calm_down().await;
    simulation.judge_the_quiet();
    let Verdict { violations, story, .. } = simulation.end();
    assert!(violations.is_empty(), "{story}{violations:#?}");
}

/// A node with room for one of two pods, and what goes wrong with the first binding.
async fn two_pods_for_one_place(faults: &[(Option<u16>, Lost)]) {
    let mut simulation = Simulation::new(1, Faults::none(), true);
    put_node(&simulation, &machine(1000));
    put_pod(&simulation, pod("a", 1000));
    put_pod(&simulation, pod("b", 1000));
    for (refused, lost) in faults {
        next(&simulation, Class::Binding, Duration::from_millis(500), *refused, *lost);
    }
    simulation.start();
    tokio::time::sleep(A_WHILE * 5).await;
    assert_eq!(bound(&simulation).len(), 1, "{faults:?}");
    end(simulation).await;
}

#[test]
fn a_binding_whose_answer_is_lost_keeps_its_room() {
    for lost in [Lost::Early, Lost::Reset, Lost::Internal, Lost::Silence] {
        run(two_pods_for_one_place(&[(None, lost)]));
        run(two_pods_for_one_place(&[(Some(503), lost), (None, lost)]));
    }
    run(two_pods_for_one_place(&[(Some(503), Lost::No), (Some(429), Lost::No), (Some(409), Lost::No)]));
}

#[test]
fn a_late_word_of_a_pod_that_waits_does_not_come_after_its_binding() {
    run(async {
        let mut simulation = Simulation::new(1, Faults::none(), true);
        put_pod(&simulation, pod("a", 1000));
        next(&simulation, Class::Status, Duration::from_secs(2), None, Lost::No);
        simulation.start();
        // It is told that there is no node, and then there is one.
        tokio::time::sleep(Duration::from_secs(1)).await;
        put_node(&simulation, &machine(1000));
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(bound(&simulation), ["a"]);
        end(simulation).await;
    });
}

#[test]
fn a_pod_that_leaves_while_it_is_bound_is_not_tried_again() {
    run(async {
        let mut simulation = Simulation::new(1, Faults::none(), true);
        put_node(&simulation, &machine(1000));
        put_pod(&simulation, Demand { finalizer: true, ..pod("a", 1000) });
        next(&simulation, Class::Binding, Duration::from_secs(2), None, Lost::No);
        simulation.start();
        tokio::time::sleep(Duration::from_secs(1)).await;
        simulation.api.delete_pod("a", Duration::from_secs(60));
        tokio::time::sleep(A_WHILE * 2).await;
        put_pod(&simulation, pod("b", 1000));
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(bound(&simulation), ["b"], "the room is free again");
        assert_eq!(simulation.api.lock().bindings, 2, "one for each");
        end(simulation).await;
    });
}

/// A node with one device for one of two pods, and what goes wrong with the first writes to a claim.
async fn two_pods_for_one_device(faults: &[(Option<u16>, Lost)]) {
    let mut simulation = Simulation::new(1, Faults::none(), true);
    put_node(&simulation, &machine(1000));
    simulation.api.change(|state, _| {
        let device = ["gpu-0".to_owned()];
        state.judge.devices_are("n", &device, state.store.version() + 1);
        state.store.put("resourceslices", devices::slice("n", 0, 1, 1, &device));
        state.store.put("deviceclasses", devices::class());
        for claim in ["s0", "s1"] {
            state.store.put("resourceclaims", devices::claim(claim, claim, 1));
        }
    });
    claims::control(simulation.api.clone(), &simulation.root, Random::new(1));
    // The first write protects the claim, the second allocates.
    next(&simulation, Class::Claim, Duration::ZERO, None, Lost::No);
    for (refused, lost) in faults {
        next(&simulation, Class::Claim, LATEST, *refused, *lost);
    }
    simulation.start();
    put_pod(&simulation, Demand { shared_claim: Some("s0"), ..pod("a", 100) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    put_pod(&simulation, Demand { shared_claim: Some("s1"), ..pod("b", 100) });
    tokio::time::sleep(A_WHILE * 5).await;
    assert_eq!(bound(&simulation), ["a"], "{faults:?}");
    end(simulation).await;
}

#[test]
fn an_allocation_whose_answer_is_lost_keeps_its_device() {
    for lost in [Lost::Early, Lost::Reset, Lost::Internal, Lost::Silence] {
        run(two_pods_for_one_device(&[(None, lost)]));
        run(two_pods_for_one_device(&[(Some(503), lost), (None, lost)]));
    }
    run(two_pods_for_one_device(&[(Some(503), Lost::No), (Some(429), Lost::No), (Some(409), Lost::No)]));
}

#[test]
fn a_pod_that_somebody_else_has_bound_keeps_the_claims_that_were_reserved_for_it() {
    run(async {
        let mut simulation = Simulation::new(1, Faults::none(), true);
        put_node(&simulation, &machine(1000));
        simulation.api.change(|state, _| {
            let device = ["gpu-0".to_owned()];
            state.judge.devices_are("n", &device, state.store.version() + 1);
            state.store.put("resourceslices", devices::slice("n", 0, 1, 1, &device));
            state.store.put("deviceclasses", devices::class());
            state.store.put("resourceclaims", devices::claim("s0", "s0", 1));
        });
        next(&simulation, Class::Binding, Duration::from_secs(1), None, Lost::No);
        simulation.start();
        put_pod(&simulation, Demand { shared_claim: Some("s0"), ..pod("a", 100) });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let holders = || -> Vec<String> {
            let state = simulation.api.lock();
            let claim = state.store.get("resourceclaims", "s0").unwrap();
            devices::holders(claim).into_iter().map(str::to_owned).collect()
        };
        assert_eq!(holders(), ["uid-a"], "its claim is written, and its binding is under way");
        simulation.api.change(|state, now| {
            // The conflict is heard of before a watch tells why.
            state.faults.stalled = Some(("pods", now + A_WHILE / 2));
            let mut pod = state.store.get("pods", "a").unwrap().clone();
            pod["spec"]["nodeName"] = "elsewhere".into();
            state.store.put("pods", pod);
        });
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(holders(), ["uid-a"]);
        let Verdict { mut violations, story, .. } = simulation.end();
        // Until its watch goes on, the scheduler tries again to bind it, which the API refuses.
        violations.retain(|violation| !violation.starts_with("no double binding"));
        assert!(violations.is_empty(), "{story}{violations:#?}");
    });
}

#[test]
fn a_pod_takes_its_room_once_though_two_schedulers_bind_it() {
    run(async {
        let mut simulation = Simulation::new(1, Faults::none(), true);
        put_node(&simulation, &machine(2000));
        simulation.start();
        simulation.start();
        next(&simulation, Class::Binding, Duration::from_millis(500), None, Lost::No);
        put_pod(&simulation, pod("a", 1000));
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(simulation.api.lock().bindings, 2, "one by each");
        simulation.stop();
        put_pod(&simulation, pod("b", 1000));
        put_pod(&simulation, pod("c", 1000));
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(bound(&simulation).len(), 2, "there is room for one more");
        end(simulation).await;
    });
}

#[test]
fn a_list_that_is_never_answered_is_asked_for_again() {
    run(async {
        let mut simulation = Simulation::new(1, Faults::none(), true);
        put_node(&simulation, &machine(1000));
        put_pod(&simulation, pod("a", 1000));
        next(&simulation, Class::Read, Duration::ZERO, None, Lost::Silence);
        simulation.start();
        tokio::time::sleep(Duration::from_secs(70)).await;
        assert_eq!(bound(&simulation), ["a"]);
        end(simulation).await;
    });
}

#[test]
fn pods_are_placed_though_pod_groups_may_not_be_read() {
    run(async {
        let mut simulation = Simulation::new(1, Faults::none(), true);
        simulation.api.lock().faults.forbidden = Some("podgroups");
        put_node(&simulation, &machine(1000));
        put_pod(&simulation, pod("a", 1000));
        simulation.start();
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(bound(&simulation), ["a"]);
        end(simulation).await;
    });
}
