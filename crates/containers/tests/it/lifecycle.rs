//! From sandbox to removal: running, logging, stopping, adopting.

use std::{fs, time::Duration};

use containers::{ContainerConfig, ContainerState, DEMO_V1, Error, Event, SandboxState};

use crate::world::{PATIENCE, World, text, until, with_world};

#[test]
fn a_container_runs_logs_and_ends() {
    with_world(async |world| {
        let world = world.with_busybox().await;
        let script = "echo out; echo err >&2; printf open; exit 3";
        let (status, _) = world.run("ends", world.shell(script)).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
        assert!(status.started_at.unwrap() <= status.finished_at.unwrap());
        let log = fs::read_to_string(&status.log_path).unwrap();
        let mut lines: Vec<Vec<&str>> = log.lines().map(|l| l.splitn(4, ' ').collect()).collect();
        lines.sort_by_key(|l| l[3]);
        let tail: Vec<_> = lines.iter().map(|l| l[1..].join(" ")).collect();
        assert_eq!(tail, ["stderr F err", "stdout F open", "stdout F out"]);
        assert!(lines[0][0].len() == "2026-01-01T00:00:00.000000000Z".len(), "{log}");
        world
    });
}

#[test]
fn the_demo_image_needs_nothing_else() {
    with_world(async |world| {
        let sandbox = world.runtime.run_sandbox(world.sandbox("demo")).await.unwrap();
        // The pod is on the host's network here, so any free port of this machine will do.
        let port = test_support::ports::free_port();
        let config = ContainerConfig {
            image: DEMO_V1.into(),
            env: vec![("PORT".into(), port.to_string())],
            log_path: "0.log".into(),
            ..ContainerConfig::default()
        };
        let id = world.start(&sandbox, config).await;
        world.says(&id, "listening as").await;
        let answer = get(port, "/").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("(v1)\n"), "{answer}");
        world.runtime.stop_container(&id, PATIENCE).await.unwrap();
        let status = world.runtime.container_status(&id).unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
        world
    });
}

async fn get(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn stopping_asks_first_and_kills_then() {
    with_world(async |world| {
        let world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("stop")).await.unwrap();
        let polite = world
            .start(&sandbox, world.shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"))
            .await;
        world.says(&polite, "up").await;
        world.runtime.stop_container(&polite, PATIENCE).await.unwrap();
        let status = world.runtime.container_status(&polite).unwrap();
        assert_eq!(status.exit_code, 7);
        assert!(text(&status.log_path).contains("bye"));
        let mut config = world.shell("trap '' TERM; echo up; while :; do sleep 0.05; done");
        config.log_path = "deaf.log".into();
        let deaf = world.start(&sandbox, config).await;
        world.says(&deaf, "up").await;
        world.runtime.stop_container(&deaf, Duration::from_millis(100)).await.unwrap();
        assert_eq!(world.runtime.container_status(&deaf).unwrap().exit_code, 137);
        world
    });
}

#[test]
fn containers_outlive_the_runtime_and_are_adopted() {
    with_world(async |world| {
        let world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("adopt")).await.unwrap();
        let stays = world.start(&sandbox, world.shell("echo up; while :; do sleep 0.05; done")).await;
        let mut ends = world.shell("while ! [ -e /tmp/end ]; do sleep 0.02; done; echo over; exit 5");
        ends.name = "ends".into();
        ends.log_path = "ends.log".into();
        let ends = world.start(&sandbox, ends).await;
        let before = world.runtime.container_status(&stays).unwrap();
        let touch = ["touch".to_owned(), "/tmp/end".to_owned()];
        // It ends while nobody looks: the answer to the exec may come after, so the runtime is dropped right then.
        world.runtime.exec_sync(&ends, &touch, PATIENCE).await.unwrap();
        let world = world.reopen().await;
        let status = world.ended(&ends).await;
        assert_eq!(status.exit_code, 5);
        assert_eq!(text(&status.log_path), "over\n");
        let after = world.runtime.container_status(&stays).unwrap();
        assert_eq!((after.pid, after.started_at), (before.pid, before.started_at));
        assert_eq!(world.runtime.list()[0].state, SandboxState::Ready);
        assert_eq!(world.runtime.list()[0].config.name, "adopt");
        let out = world.runtime.exec_sync(&stays, &["hostname".to_owned()], PATIENCE).await.unwrap();
        assert_eq!(out.exit_code, 0);
        // What is in use cannot go, also after adoption.
        let refused = world.runtime.images().remove(crate::world::BUSYBOX).await.unwrap_err().to_string();
        assert!(refused.contains("in use by 2"), "{refused}");
        world.runtime.remove_sandbox(&sandbox).await.unwrap();
        world.runtime.images().remove(crate::world::BUSYBOX).await.unwrap();
        world
    });
}

#[test]
fn a_killed_shim_is_noticed() {
    with_world(async |world| {
        let world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("lost")).await.unwrap();
        let id = world.start(&sandbox, world.shell("while :; do sleep 0.05; done")).await;
        let pid = world.runtime.container_status(&id).unwrap().pid.unwrap();
        let mut events = world.runtime.events();
        let shim = world.runtime.list()[0].shim_pid.unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
        world.event(&mut events, &Event::SandboxLost { sandbox: sandbox.clone() }).await;
        let status = world.runtime.container_status(&id).unwrap();
        assert_eq!((status.state, status.reason.as_str()), (ContainerState::Exited, "ContainerStatusUnknown"));
        until("the container is gone", || !fs::exists(format!("/proc/{pid}/root")).unwrap_or(false)).await;
        assert!(matches!(world.runtime.start_container(&id).await, Err(Error::SandboxNotReady(_))));
        world.runtime.remove_container(&id).await.unwrap();
        world.runtime.remove_sandbox(&sandbox).await.unwrap();
        world
    });
}

#[test]
fn what_cannot_start_says_why() {
    with_world(async |world| {
        let world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("bad")).await.unwrap();
        let absent = ContainerConfig { command: vec!["nope".into()], ..world.shell("") };
        let id = world.runtime.create_container(&sandbox, absent).await.unwrap();
        let error = world.runtime.start_container(&id).await.unwrap_err();
        assert!(matches!(&error, Error::Start(reason) if reason.contains("nope")), "{error}");
        let status = world.runtime.container_status(&id).unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        let unknown = ContainerConfig { image: "absent:1".into(), ..world.shell("") };
        assert!(matches!(world.runtime.create_container(&sandbox, unknown).await, Err(Error::Image(_))));
        let outside = ContainerConfig { log_path: "../x".into(), ..world.shell("") };
        assert!(matches!(world.runtime.create_container(&sandbox, outside).await, Err(Error::Invalid(_))));
        let mut nameless = world.sandbox("x");
        nameless.uid = "../../x".into();
        assert!(matches!(world.runtime.run_sandbox(nameless).await, Err(Error::Invalid(_))));
        world
    });
}

#[test]
fn a_pod_joins_the_network_it_is_given() {
    with_world(async |world| {
        let world = world.with_busybox().await;
        let path = world.dir.path().join("netns");
        fs::write(&path, "").unwrap();
        let target = path.clone();
        // A namespace belongs to a thread until something holds it, so a thread of its own makes and binds it.
        let make = move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let flags = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, flags, None::<&str>).unwrap();
        };
        std::thread::scope(|scope| scope.spawn(make).join().unwrap());
        let mut sandbox = world.sandbox("web-0");
        sandbox.network_namespace = Some(path.clone());
        sandbox.sysctls = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())].into();
        let sandbox = world.runtime.run_sandbox(sandbox).await.unwrap();
        let script = "hostname; echo $HOSTNAME; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
            ls /sys/fs/cgroup | grep -c .; touch /sys/x 2>/dev/null || echo ro";
        let id = world.start(&sandbox, world.shell(script)).await;
        let status = world.ended(&id).await;
        let said = text(&status.log_path);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!((&lines[..4], lines[5]), (["web-0", "web-0", "lo", "0"].as_slice(), "ro"), "{said}");
        assert_ne!(lines[4], "0", "{said}");
        world.runtime.remove_sandbox(&sandbox).await.unwrap();
        nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).unwrap();
        world
    });
}

#[test]
fn starting_is_quick_and_the_shim_is_small() {
    with_world(async |world| {
        let world: World = world.with_busybox().await;
        let mut times = Vec::new();
        for n in 0..10 {
            let clock = runtime::Clock::system();
            let begin = clock.monotonic();
            let sandbox = world.runtime.run_sandbox(world.sandbox(&format!("quick{n}"))).await.unwrap();
            let mut config = world.shell("while :; do sleep 1; done");
            config.log_path = format!("quick{n}.log").into();
            world.start(&sandbox, config).await;
            times.push(clock.monotonic() - begin);
        }
        times.sort();
        let shims: Vec<_> = world.runtime.list().iter().map(|s| s.shim_pid.unwrap()).collect();
        until("idle shims are small", || shims.iter().all(|pid| resident_kib(*pid) < 6 * 1024)).await;
        println!("start p50 {:?} max {:?}; shim {} KiB", times[5], times[9], resident_kib(shims[0]));
        // Generous: the figure is for an idle machine, and this one may be compiling.
        assert!(times[5] < Duration::from_millis(500), "{times:?}");
        world
    });
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
