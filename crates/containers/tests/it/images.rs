//! Images from files and from a registry that nobody here wrote.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use containers::{
    ContainerConfig,
    images::{ImageError, PullPolicy, RegistryAuths},
};
use test_support::image::{add, busybox_archive, busybox_layer, save_archive};

use crate::world::{BUSYBOX, PATIENCE, World, has, until, with_world};

#[test]
fn layers_stack_and_whiteouts_hide() {
    with_world(async |world| {
        let mut second = tar::Builder::new(Vec::new());
        add(&mut second, "data/.wh.gone", 0o644, b"");
        add(&mut second, "data/new", 0o644, b"new\n");
        add(&mut second, "opaque/.wh..wh..opq", 0o644, b"");
        add(&mut second, "opaque/only", 0o644, b"");
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Link);
        link.set_size(0);
        second.append_link(&mut link, "data/same", "data/new").unwrap();
        let mut first = tar::Builder::new(Vec::new());
        for path in ["data/gone", "data/kept", "opaque/below"] {
            add(&mut first, path, 0o640, b"old\n");
        }
        let layers = [busybox_layer(), first.into_inner().unwrap(), second.into_inner().unwrap()];
        let path = world.dir.path().join("layers.tar.gz");
        let mut gzip = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
        gzip.write_all(&save_archive("layered:1", &layers)).unwrap();
        gzip.finish().unwrap();
        let images = world.runtime.images().import(&path).await.unwrap();
        assert_eq!(images[0].tags, ["docker.io/library/layered:1"]);
        assert_eq!(images[0].config.labels["a"], "b");
        let mut config = world.shell("ls /data /opaque; cat /data/same");
        config.image = "layered:1".into();
        let (_, said) = world.run("layers", config).await;
        assert_eq!(said, "/data:\nkept\nnew\nsame\n\n/opaque:\nonly\nnew\n");
        let layers = || fs::read_dir(world.dir.path().join("data/layers")).unwrap().count();
        let before = layers();
        world.runtime.images().remove("layered:1").await.unwrap();
        // Three layers, each a folder and a note of its size.
        assert_eq!(layers(), before - 6);
        assert!(world.runtime.images().get("layered:1").is_none());
        world
    });
}

#[test]
fn hostile_archives_are_refused() {
    with_world(async |world| {
        let mut bad: Vec<(&str, Vec<u8>)> = Vec::new();
        let mut climbing = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_gnu_mut().unwrap().name[..12].copy_from_slice(b"../../../pwn");
        header.set_cksum();
        climbing.append(&header, b"x".as_slice()).unwrap();
        bad.push(("climbing", save_archive("bad:1", &[climbing.into_inner().unwrap()])));
        bad.push(("garbage", b"not an archive at all, but long enough to look like one".repeat(40)));
        let mut lying = busybox_archive("bad:2");
        // One byte of the layer is flipped.
        lying[3000] ^= 1;
        bad.push(("flipped", lying));
        let short = busybox_archive("bad:3");
        bad.push(("short", short[..short.len() / 2].to_vec()));
        for (name, bytes) in bad {
            let path = world.dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let result = world.runtime.images().import(&path).await;
            assert!(matches!(result, Err(ImageError::Invalid(_))), "{name}: {result:?}");
        }
        // A link out of the layer is followed inside the layer only.
        let mut linked = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        let outside = world.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        linked.append_link(&mut header, "out", &outside).unwrap();
        add(&mut linked, "out/file", 0o644, b"x");
        let path = world.dir.path().join("linked.tar");
        fs::write(&path, save_archive("bad:4", &[linked.into_inner().unwrap()])).unwrap();
        let _ = world.runtime.images().import(&path).await;
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!Path::new("/pwn").exists());
        let drafts = fs::read_dir(world.dir.path().join("data/images")).unwrap().flatten();
        assert!(drafts.into_iter().all(|e| !e.file_name().to_string_lossy().starts_with("tmp-")));
        world
    });
}

#[test]
fn the_store_survives_and_shares() {
    with_world(async |world| {
        let world = world.with_busybox().await;
        let again = world.dir.path().join("again.tar");
        fs::write(&again, busybox_archive("other/name:2")).unwrap();
        let images = world.runtime.images().import(&again).await.unwrap();
        let id = images[0].id.clone();
        assert_eq!(images[0].tags.len(), 2);
        let world = world.reopen().await;
        let images = world.runtime.images();
        assert_eq!(images.get(BUSYBOX).unwrap().id, id);
        assert_eq!(images.get(&id[7..20]).unwrap().id, id);
        let tags: Vec<_> = images.list().iter().flat_map(|i| i.tags.clone()).collect();
        assert!(tags.contains(&containers::DEMO_V2.to_owned()), "{tags:?}");
        images.remove("other/name:2").await.unwrap();
        assert_eq!(images.get(BUSYBOX).unwrap().tags, [BUSYBOX]);
        images.remove(&id).await.unwrap();
        assert!(matches!(images.remove(&id).await, Err(ImageError::NotFound(_))));
        world
    });
}

#[test]
fn oci_layouts_are_read() {
    if !has("skopeo") {
        eprintln!("SKIPPED: no skopeo on this machine");
        return;
    }
    with_world(async |world| {
        let saved = world.dir.path().join("saved.tar");
        fs::write(&saved, busybox_archive(BUSYBOX)).unwrap();
        let from = format!("docker-archive:{}", saved.display());
        for (kind, name) in [("oci", "layout"), ("oci-archive", "layout.tar")] {
            let path = world.dir.path().join(name);
            skopeo(&world, &["copy", &from, &format!("{kind}:{}:example.com/{name}:1", path.display())]);
            let images = world.runtime.images().import(&path).await.unwrap();
            assert_eq!(images[0].tags.iter().filter(|t| **t == format!("example.com/{name}:1")).count(), 1);
        }
        let config = ContainerConfig { image: "example.com/layout:1".into(), ..world.shell("echo from a layout") };
        assert_eq!(world.run("oci", config).await.1, "from a layout\n");
        world
    });
}

fn skopeo(world: &World, arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "--tmpdir"])
        .arg(world.dir.path())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn images_are_pulled_from_a_registry() {
    if !has("docker-registry") || !has("skopeo") {
        eprintln!("SKIPPED: no docker-registry and skopeo on this machine");
        return;
    }
    with_world(async |world| {
        let port = test_support::ports::free_port();
        let config = world.dir.path().join("registry.yml");
        let storage = world.dir.path().join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _registry = Registry(command.spawn().unwrap());
        until("the registry listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        let saved = world.dir.path().join("saved.tar");
        fs::write(&saved, busybox_archive(BUSYBOX)).unwrap();
        let name = format!("localhost:{port}/team/busybox:1");
        let from = format!("docker-archive:{}", saved.display());
        skopeo(&world, &["copy", "--dest-tls-verify=false", &from, &format!("docker://{name}")]);

        let images = world.runtime.images();
        let anonymous = RegistryAuths::anonymous();
        let pull = |name: String, policy| {
            let (images, auths) = (images.clone(), anonymous.clone());
            async move { images.pull(&name, &auths, policy, PATIENCE, |_| {}).await }
        };
        assert!(matches!(pull(name.clone(), PullPolicy::Never).await, Err(ImageError::NotFound(_))));
        // Several at once share one fetch.
        let pulls = (0..4).map(|_| pull(name.clone(), PullPolicy::Always));
        let pulled: Vec<_> = futures::future::join_all(pulls).await.into_iter().map(Result::unwrap).collect();
        assert!(pulled.iter().all(|image| image.id == pulled[0].id));
        assert_eq!(pulled[0].tags, std::slice::from_ref(&name));
        let by_digest = pulled[0].digests[0].clone();
        assert!(by_digest.starts_with(&format!("localhost:{port}/team/busybox@sha256:")));
        assert_eq!(pull(by_digest, PullPolicy::Always).await.unwrap().id, pulled[0].id);
        let config = ContainerConfig { image: name.clone(), ..world.shell("echo pulled") };
        let (status, said) = world.run("pulled", config).await;
        assert_eq!(said, "pulled\n");
        assert!(status.image_ref.contains("@sha256:"), "{}", status.image_ref);
        let absent = pull(format!("localhost:{port}/team/absent:1"), PullPolicy::Always).await;
        assert!(matches!(&absent, Err(ImageError::Pull { reason, .. }) if reason.contains("not found")), "{absent:?}");
        let nobody =
            images.pull("127.0.0.1:1/x:1", &anonymous, PullPolicy::Always, Duration::from_secs(10), |_| {}).await;
        assert!(matches!(&nobody, Err(ImageError::Pull { retryable: true, .. })), "{nobody:?}");
        drop(storage);
        world
    });
}
