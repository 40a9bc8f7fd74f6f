//! What users, machines and controllers do meanwhile, drawn from the seed.

#[path = "world/devices.rs"]
mod devices;
#[path = "world/volumes.rs"]
mod volumes;

use std::{collections::BTreeMap, time::Duration};

use runtime::Tasks;
use serde_json::json;

use super::{
    api::Api,
    model::{Demand, Machine},
    random::Random,
    store,
};

const ZONES: [&str; 2] = ["east", "west"];
const APPS: [&str; 2] = ["web", "store"];
/// Pods of a node that is gone are removed after so long at least.
const GARBAGE_AFTER: Duration = Duration::from_secs(10);

pub struct World {
    api: Api,
    tasks: Tasks,
    random: Random,
    pub has_devices: bool,
    pub has_volumes: bool,
    /// Nodes may come back smaller than they were.
    shrinks: bool,
    pods: u64,
    gangs: u64,
    /// Of slices of devices.
    generations: u64,
    claims: u64,
    volumes: u64,
    /// Nodes that are not there now, as they were.
    away: BTreeMap<String, Machine>,
}

impl World {
    pub fn new(api: Api, tasks: &Tasks, mut random: Random) -> Self {
        let (shrinks, has_devices, has_volumes) = (random.chance(250), random.chance(400), random.chance(400));
        World {
            api,
            tasks: tasks.child("world"),
            random,
            has_devices,
            has_volumes,
            shrinks,
            pods: 0,
            gangs: 0,
            generations: 0,
            claims: 0,
            volumes: 0,
            away: BTreeMap::new(),
        }
    }

    /// What is there when the first scheduler begins.
    pub fn begin(&mut self) {
        self.api.change(|state, _| {
            state.store.put("namespaces", json!({"metadata": {"name": "default", "uid": "uid-default"}}));
        });
        for app in APPS {
            if self.random.chance(300) {
                self.spend_budget(app);
            }
        }
        if self.has_devices {
            self.begin_devices();
        }
        if self.has_volumes {
            self.begin_volumes();
        }
        for _ in 0..self.random.between(1, 4) {
            self.add_node();
        }
        for _ in 0..self.random.between(0, 12) {
            self.add_pod();
        }
    }

    fn spend_budget(&mut self, app: &'static str) {
        let budget = json!({"metadata": {"name": app, "namespace": "default", "uid": app},
            "spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": 0}});
        self.api.change(|state, now| {
            state.story.say(now, format_args!("the budget of {app} is spent"));
            state.judge.spent.insert(app);
            state.store.put("poddisruptionbudgets", budget);
        });
    }

    /// A pod comes that is more important than all others.
    pub fn add_important_pod(&mut self) -> Demand {
        let (size, name) = (self.random.pick(&[500, 1000, 2000]).unwrap(), "important".to_owned());
        let priority = 1000;
        let demand = Demand {
            uid: name.clone(),
            name,
            milli_cpu: size,
            mebibytes: size,
            priority,
            tolerates: true,
            ..Default::default()
        };
        self.put_pod(demand.clone());
        demand
    }

    /// One thing happens.
    pub fn act(&mut self) {
        if self.has_devices && self.random.chance(120) {
            return self.act_on_devices();
        }
        if self.has_volumes && self.random.chance(120) {
            return self.act_on_volumes();
        }
        match self.random.between(0, 99) {
            0..=39 => self.add_pod(),
            40..=52 => self.delete_pod(),
            53..=58 => self.add_gang(),
            59..=69 => self.add_node(),
            70..=76 => self.remove_node(),
            77..=88 => self.change_node(),
            89..=92 => self.replace_pod(),
            93..=96 => self.end_pod(),
            _ => self.compact(),
        }
    }

    fn add_node(&mut self) {
        if self.api.lock().judge.machines().count() >= 6 {
            return;
        }
        let size = [1000, 2000, 3000, 4000, 8000];
        let name = format!("n{}", self.random.between(0, 7));
        if self.api.lock().store.get("nodes", &name).is_some() {
            return;
        }
        let mut machine = Machine {
            name: name.clone(),
            milli_cpu: self.random.pick(&size).unwrap(),
            mebibytes: self.random.pick(&size).unwrap(),
            pods: usize::try_from(self.random.between(3, 10)).unwrap(),
            zone: self.random.pick(&ZONES).unwrap(),
            tainted: self.random.chance(200),
            cordoned: false,
        };
        if let Some(before) = self.away.remove(&name).filter(|_| !self.shrinks) {
            machine.milli_cpu = machine.milli_cpu.max(before.milli_cpu);
            machine.mebibytes = machine.mebibytes.max(before.mebibytes);
            machine.pods = machine.pods.max(before.pods);
        }
        self.put_node(&machine);
        self.node_has_come(&machine);
    }

    fn put_node(&self, machine: &Machine) {
        self.api.change(|state, now| {
            state.story.say(now, format_args!("{machine:?}"));
            state.judge.node_is(machine, state.store.version() + 1);
            state.store.put("nodes", machine.object());
        });
    }

    fn any_node(&mut self) -> Option<Machine> {
        let machines: Vec<Machine> = self.api.lock().judge.machines().cloned().collect();
        self.random.pick(&machines)
    }

    fn remove_node(&mut self) {
        let Some(machine) = self.any_node() else { return };
        self.api.change(|state, now| {
            state.story.say(now, format_args!("node {} is gone", machine.name));
            state.judge.node_is_gone(&machine.name, state.store.version() + 1);
            state.store.remove("nodes", &machine.name);
        });
        self.node_has_gone(&machine);
        self.away.insert(machine.name.clone(), machine);
    }

    fn change_node(&mut self) {
        let Some(mut machine) = self.any_node() else { return };
        match self.random.between(0, 3) {
            0 => machine.zone = self.random.pick(&ZONES).unwrap(),
            1 => machine.tainted = !machine.tainted,
            2 => machine.cordoned = !machine.cordoned,
            _ => machine.milli_cpu += 1000,
        }
        self.put_node(&machine);
    }

    fn demand(&mut self) -> Demand {
        self.pods += 1;
        let (name, random) = (format!("p{}", self.pods), &mut self.random);
        let app = random.pick(&APPS).filter(|_| random.chance(300));
        let priority = random.pick(&[0, 0, 0, 10, 100]).unwrap();
        Demand {
            uid: format!("uid-{name}"),
            name,
            milli_cpu: random.pick(&[100, 250, 500, 1000, 1500, 2000]).unwrap(),
            mebibytes: random.pick(&[100, 250, 500, 1000]).unwrap(),
            priority,
            never_preempts: random.chance(100),
            zone: random.pick(&ZONES).filter(|_| random.chance(200)),
            tolerates: random.chance(200),
            app,
            apart: app.is_some() && random.chance(500),
            finalizer: random.chance(50),
            ..Demand::default()
        }
    }

    /// A pod of its own, which may want more than room.
    fn lone_demand(&mut self) -> Demand {
        let mut demand = self.demand();
        if self.has_devices {
            self.ask_for_devices(&mut demand);
        }
        if self.has_volumes {
            self.ask_for_volumes(&mut demand);
        }
        demand
    }

    fn put_pod(&self, demand: Demand) {
        self.api.change(|state, now| {
            state.story.say(now, format_args!("{demand:?}"));
            state.store.put("pods", demand.object());
            state.judge.demands.insert(demand.uid.clone(), demand);
        });
    }

    fn add_pod(&mut self) {
        let demand = self.lone_demand();
        self.put_pod(demand);
    }

    /// Pods that are alike, and the group that they belong to; it may come after them.
    fn add_gang(&mut self) {
        self.gangs += 1;
        let gang = format!("g{}", self.gangs);
        let size = self.random.between(2, 5);
        let needed = usize::try_from(self.random.between(2, size)).unwrap();
        let like = Demand { app: None, apart: false, gang: Some(gang.clone()), ..self.demand() };
        self.api.change(|state, now| {
            state.story.say(now, format_args!("gang {gang} needs {needed} of {size}"));
            state.judge.gangs.insert(gang.clone(), needed);
        });
        let group_after = self.random.between(0, size);
        for n in 0..=size {
            if n == group_after {
                let policy = json!({"gang": {"minCount": needed}});
                let metadata = json!({"name": gang, "namespace": "default", "uid": format!("uid-{gang}")});
                let group = json!({"metadata": metadata, "spec": {"schedulingPolicy": policy}});
                self.api.change(|state, _| state.store.put("podgroups", group));
            }
            if n < size {
                let name = format!("{gang}-{n}");
                self.put_pod(Demand { uid: format!("uid-{name}"), name, ..like.clone() });
            }
        }
    }

    /// A pod's name and UID: of those that wait, or of all.
    fn any_pod(&mut self) -> Option<(String, String)> {
        let waiting = self.random.chance(500);
        let all: Vec<_> = {
            let state = self.api.lock();
            let pods = state.store.all("pods").filter(|pod| !waiting || store::node_of(pod).is_none());
            pods.map(|pod| (store::name(pod).to_owned(), store::uid(pod).to_owned())).collect()
        };
        self.random.pick(&all)
    }

    fn delete_pod(&mut self) {
        let Some((name, uid)) = self.any_pod() else { return };
        let grace = self.random.between(0, 8);
        self.api.change(|state, now| state.story.say(now, format_args!("{uid} is deleted, grace {grace} s")));
        self.api.delete_pod(&name, Duration::from_secs(grace));
    }

    /// A pod is gone, and another of its name is there.
    fn replace_pod(&mut self) {
        let Some((name, uid)) = self.any_pod() else { return };
        let like = self.lone_demand();
        self.api.remove_pod(&name, &uid);
        self.put_pod(Demand { name, ..like });
    }

    /// A pod on a node has done its work.
    fn end_pod(&mut self) {
        let Some((name, uid)) = self.any_pod() else { return };
        if self.api.lock().store.get("pods", &name).and_then(store::node_of).is_some() {
            self.api.remove_pod(&name, &uid);
        }
    }

    /// Watches from before now are too old.
    fn compact(&mut self) {
        self.api.change(|state, now| {
            state.store.oldest = state.store.version();
            state.story.say(now, format_args!("the log is cut at {}", state.store.oldest));
        });
    }
}

/// Removes the pods of nodes that are gone, as the controller does.
pub fn collect_garbage(api: Api, tasks: &Tasks) {
    tasks.spawn("garbage", async move {
        loop {
            let orphans = orphans(&api);
            tokio::time::sleep(GARBAGE_AFTER).await;
            let still = self::orphans(&api);
            for (name, uid) in orphans.into_iter().filter(|pod| still.contains(pod)) {
                api.remove_pod(&name, &uid);
            }
        }
    });
}

fn orphans(api: &Api) -> Vec<(String, String)> {
    let state = api.lock();
    let lost =
        |pod: &&serde_json::Value| store::node_of(pod).is_some_and(|node| state.store.get("nodes", node).is_none());
    let lost = state.store.all("pods").filter(lost);
    lost.map(|pod| (store::name(pod).to_owned(), store::uid(pod).to_owned())).collect()
}
