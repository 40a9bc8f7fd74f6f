//! What a container may not do, and what it may not use up.

use std::{fs, path::Path, time::Duration};

use containers::{ContainerConfig, Event, Mount, QosClass, Resources, RunAs, Seccomp};

use crate::world::{PATIENCE, with_world};

#[test]
fn users_groups_and_environment() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let mut config =
            world.shell("id -u; id -G; echo $HOME $FROM_IMAGE $X; echo $PWD; touch /denied || echo denied");
        config.run_as = RunAs { user: Some(33), group: None, supplemental_groups: vec![7] };
        config.env = vec![("X".into(), "1".into())];
        config.working_dir = "/made/for/it".into();
        let (status, said) = world.run("user", config).await;
        assert_eq!(status.exit_code, 0, "{said}");
        let lines: Vec<_> = said.lines().filter(|l| !l.contains("touch:")).collect();
        assert_eq!(lines, ["33", "34 7 50", "/srv yes 1", "/made/for/it", "denied"]);
        world
    });
}

#[test]
fn a_read_only_root_keeps_its_mounts_writable() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let volume = world.dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(world.dir.path().join("file"), "content\n").unwrap();
        let mut config =
            world.shell("touch /x || echo ro; touch /v/y && cat /etc/app/file; touch /etc/app/file || echo fixed");
        config.read_only_rootfs = true;
        config.mounts = vec![
            Mount { host_path: volume.clone(), container_path: "/v".into(), ..Mount::default() },
            Mount {
                host_path: world.dir.path().join("file"),
                container_path: "/etc/app/file".into(),
                read_only: true,
                ..Mount::default()
            },
        ];
        let (status, said) = world.run("ro", config).await;
        assert_eq!(status.exit_code, 0, "{said}");
        let lines: Vec<_> = said.lines().filter(|l| !l.contains("touch:")).collect();
        assert_eq!(lines, ["ro", "content", "fixed"]);
        assert!(volume.join("y").exists());
        world
    });
}

#[test]
fn seccomp_capabilities_and_privileges() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let look = "grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd):' /proc/self/status";
        for no_new_privileges in [false, true] {
            let mut config = world.shell(&format!("{look}; busybox unshare -m true || echo refused"));
            config.seccomp = Seccomp::RuntimeDefault;
            config.no_new_privileges = no_new_privileges;
            config.drop_capabilities = vec!["ALL".into()];
            config.add_capabilities = vec!["NET_BIND_SERVICE".into()];
            let name = format!("seccomp-{no_new_privileges}");
            let (_, said) = world.run(&name, config).await;
            assert!(said.contains("Seccomp:\t2") && said.contains("refused"), "{said}");
            assert!(said.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privileges))), "{said}");
            assert!(said.contains("CapEff:\t0000000000000400") && said.contains("CapBnd:\t0000000000000400"), "{said}");
        }
        let (_, said) = world.run("plain", world.shell(&format!("{look}; cat /proc/kcore | head -c 1 || :"))).await;
        assert!(said.contains("Seccomp:\t0"), "{said}");
        let privileged = ContainerConfig {
            privileged: true,
            ..world.shell("busybox mount -t tmpfs x /tmp && echo mounted; ls /dev/vda /dev/loop0 2>/dev/null; :")
        };
        let (status, said) = world.run("privileged", privileged).await;
        assert!(status.exit_code == 0 && said.contains("mounted"), "{said}");
        world
    });
}

#[test]
fn a_command_is_restricted_like_its_container() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("exec")).await.unwrap();
        for (n, no_new_privileges) in [false, true].into_iter().enumerate() {
            let mut config = world.shell("while :; do sleep 0.05; done");
            config.seccomp = Seccomp::RuntimeDefault;
            config.run_as.user = Some(33);
            config.no_new_privileges = no_new_privileges;
            config.log_path = format!("{n}.log").into();
            let id = world.start(&sandbox, config).await;
            let script =
                "id -u; id -G; grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status; cat /proc/self/cgroup";
            let argv = ["sh".to_owned(), "-c".to_owned(), script.to_owned()];
            let out = world.runtime.exec_sync(&id, &argv, PATIENCE).await.unwrap();
            let said = String::from_utf8(out.output).unwrap();
            assert!(said.starts_with("33\n34 50\n"), "{said}");
            assert!(said.contains("Seccomp:\t2") && said.contains("CapEff:\t0000000000000000"), "{said}");
            assert!(said.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privileges))), "{said}");
            // Its own cgroup namespace shows the container's cgroup as the root.
            assert!(!said.contains(".."), "{said}");
            let pid = world.runtime.container_status(&id).unwrap().pid.unwrap();
            let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            assert!(own.lines().all(|l| l.ends_with(&format!("poduid-exec/{id}")) || l.contains("hugetlb")), "{own}");
        }
        world
    });
}

#[test]
fn limits_are_in_the_cgroup_files() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let mut sandbox = world.sandbox("limits");
        sandbox.qos = QosClass::Burstable;
        sandbox.resources = Resources { memory_limit_bytes: Some(128 << 20), ..Resources::default() };
        let sandbox = world.runtime.run_sandbox(sandbox).await.unwrap();
        let mut config = world.shell("while :; do sleep 0.05; done");
        config.resources = Resources {
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            memory_limit_bytes: Some(64 << 20),
            pids_limit: Some(50),
        };
        config.oom_score_adj = Some(900);
        let id = world.start(&sandbox, config).await;
        let pod = format!("{}/burstable/poduid-limits", world.cgroup_root.trim_start_matches('/'));
        let read = |controller: &str, path: &str| {
            let hybrid = Path::new("/sys/fs/cgroup").join(controller).join(path);
            let file = if hybrid.exists() { hybrid } else { Path::new("/sys/fs/cgroup").join(path) };
            fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file:?}: {e}")).trim().to_owned()
        };
        if Path::new("/sys/fs/cgroup/memory").exists() {
            assert_eq!(read("memory", &format!("{pod}/memory.limit_in_bytes")), (128 << 20).to_string());
            assert_eq!(read("memory", &format!("{pod}/{id}/memory.limit_in_bytes")), (64 << 20).to_string());
            assert_eq!(read("cpu", &format!("{pod}/{id}/cpu.shares")), "512");
            assert_eq!(read("cpu", &format!("{pod}/{id}/cpu.cfs_quota_us")), "50000");
        } else {
            assert_eq!(read("memory", &format!("{pod}/{id}/memory.max")), (64 << 20).to_string());
            assert_eq!(read("cpu", &format!("{pod}/{id}/cpu.max")), "50000 100000");
        }
        assert_eq!(read("pids", &format!("{pod}/{id}/pids.max")), "50");
        let pid = world.runtime.container_status(&id).unwrap().pid.unwrap();
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "900");
        if let Some(dir) = world.runtime.sandbox_cgroup2(&sandbox) {
            let procs = fs::read_to_string(dir.join(id.as_str()).join("cgroup.procs")).unwrap();
            assert!(procs.lines().any(|l| l == pid.to_string()), "{procs}");
        }
        let stats = world.runtime.sandbox_stats(&sandbox).await.unwrap();
        assert!(stats.containers[0].1.memory_bytes > 0 && stats.pod.cpu_ns > 0, "{stats:?}");
        world
    });
}

#[test]
fn running_out_of_memory_is_told() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("oom")).await.unwrap();
        let mut config = world.shell("echo up; exec tail -c 200000000 /dev/zero");
        config.resources.memory_limit_bytes = Some(16 << 20);
        let mut events = world.runtime.events();
        let id = world.start(&sandbox, config).await;
        let (sandbox, container) = (sandbox.clone(), id.clone());
        world.event(&mut events, &Event::ContainerOom { sandbox, container }).await;
        let status = world.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
        world
    });
}

#[test]
fn containers_of_a_pod_share_what_they_should() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let mut sandbox = world.sandbox("shared");
        sandbox.share_process_namespace = true;
        let sandbox = world.runtime.run_sandbox(sandbox).await.unwrap();
        let first = world.start(&sandbox, world.shell("echo x > /dev/shm/said; while :; do sleep 0.05; done")).await;
        let mut config =
            world.shell("while ! cat /dev/shm/said; do sleep 0.02; done; busybox ps; while :; do sleep 0.05; done");
        config.log_path = "second.log".into();
        let second = world.start(&sandbox, config).await;
        world.says(&second, "/dev/shm/said").await;
        let links = |id| {
            let pid = world.runtime.container_status(id).unwrap().pid.unwrap();
            ["ipc", "pid", "mnt"].map(|ns| fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap())
        };
        let (a, b) = (links(&first), links(&second));
        assert_eq!((&a[0], &a[1]), (&b[0], &b[1]));
        assert_ne!(a[2], b[2]);
        // Its PID namespace is not its own, so what it started has to be ended by cgroup.
        world.runtime.stop_container(&first, Duration::ZERO).await.unwrap();
        world.runtime.stop_sandbox(&sandbox).await.unwrap();
        world
    });
}
