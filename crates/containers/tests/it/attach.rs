//! Commands, terminals and joined streams.

use std::time::Duration;

use containers::{Error, ExecRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{PATIENCE, with_world};

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn commands_have_streams_and_ends() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("exec")).await.unwrap();
        let id = world.start(&sandbox, world.shell("while :; do sleep 0.05; done")).await;
        let request =
            ExecRequest { argv: words("cat"), stdin: true, stdout: true, stderr: true, ..ExecRequest::default() };
        let mut session = world.runtime.exec(&id, request).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        let payload = vec![b'x'; 1 << 20];
        let write = async {
            stdin.write_all(&payload).await.unwrap();
            drop(stdin);
        };
        let mut back = Vec::new();
        let mut stdout = session.stdout.take().unwrap();
        tokio::join!(write, async { stdout.read_to_end(&mut back).await.unwrap() });
        assert_eq!(back.len(), payload.len());
        assert_eq!(session.control().wait().await.unwrap(), 0);

        let out = world.runtime.exec_sync(&id, &words("sh -c exit"), PATIENCE).await.unwrap();
        assert_eq!(out.exit_code, 0);
        let script = ["sh".to_owned(), "-c".to_owned(), "echo a; echo b >&2; exit 4".to_owned()];
        let out = world.runtime.exec_sync(&id, &script, PATIENCE).await.unwrap();
        assert_eq!((out.exit_code, out.output.as_slice()), (4, b"a\nb\n".as_slice()));
        let slow = world.runtime.exec_sync(&id, &words("sleep 100"), Duration::from_millis(50)).await;
        assert!(matches!(slow, Err(Error::ExecTimeout { .. })), "{slow:?}");
        let absent = world.runtime.exec_sync(&id, &words("nope"), PATIENCE).await;
        assert!(
            matches!(&absent, Err(Error::Exec(r)) if r.contains("executable file not found in $PATH")),
            "{absent:?}"
        );
        let absent = world.runtime.exec_sync(&id, &words("/nope"), PATIENCE).await;
        assert!(matches!(&absent, Err(Error::Exec(r)) if r.contains("no such file or directory")), "{absent:?}");
        // Many at once, each with its own end.
        let many = (0..20).map(|n| {
            let argv = ["sh".to_owned(), "-c".to_owned(), format!("exit {n}")];
            let runtime = world.runtime.clone();
            let id = id.clone();
            async move { runtime.exec_sync(&id, &argv, PATIENCE).await.unwrap().exit_code }
        });
        assert_eq!(futures::future::join_all(many).await, (0..20).collect::<Vec<_>>());
        world
    });
}

#[test]
fn a_terminal_has_a_size_and_an_end() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("tty")).await.unwrap();
        let id = world.start(&sandbox, world.shell("while :; do sleep 0.05; done")).await;
        let request = ExecRequest { argv: words("sh"), tty: true, stdin: true, stdout: true, stderr: false };
        let mut session = world.runtime.exec(&id, request).await.unwrap();
        let control = session.control();
        control.resize(123, 45).unwrap();
        let (mut stdin, mut stdout) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
        stdin.write_all(b"stty size; exit 9\n").await.unwrap();
        let mut said = String::new();
        tokio::time::timeout(PATIENCE, stdout.read_to_string(&mut said)).await.unwrap().unwrap();
        assert!(said.contains("45 123"), "{said}");
        assert_eq!(control.wait().await.unwrap(), 9);
        let request = ExecRequest { argv: words("nope"), tty: true, ..ExecRequest::default() };
        assert!(matches!(world.runtime.exec(&id, request).await, Err(Error::Exec(_))));
        world
    });
}

#[test]
fn the_main_process_can_be_joined() {
    with_world(async |mut world| {
        world = world.with_busybox().await;
        let sandbox = world.runtime.run_sandbox(world.sandbox("attach")).await.unwrap();
        let mut config =
            world.shell("while read line; do echo got $line; echo err >&2; [ $line = end ] && exit 2; done");
        config.stdin = true;
        config.stdin_once = true;
        let id = world.start(&sandbox, config).await;
        let mut session = world.runtime.attach(&id).await.unwrap();
        session.stdin.as_mut().unwrap().write_all(b"one\nend\n").await.unwrap();
        let mut said = String::new();
        tokio::time::timeout(PATIENCE, session.stdout.read_to_string(&mut said)).await.unwrap().unwrap();
        assert_eq!(said, "got one\ngot end\n");
        let mut errors = String::new();
        session.stderr.as_mut().unwrap().read_to_string(&mut errors).await.unwrap();
        assert_eq!(errors, "err\nerr\n");
        assert_eq!(world.ended(&id).await.exit_code, 2);

        let mut config = world.shell("stty size; read line; stty size; echo $line");
        config.tty = true;
        config.stdin = true;
        config.log_path = "tty.log".into();
        let id = world.start(&sandbox, config).await;
        world.runtime.resize(&id, 80, 24).await.unwrap();
        let mut session = world.runtime.attach(&id).await.unwrap();
        session.stdin.as_mut().unwrap().write_all(b"hi\n").await.unwrap();
        let mut said = String::new();
        tokio::time::timeout(PATIENCE, session.stdout.read_to_string(&mut said)).await.unwrap().unwrap();
        assert!(said.contains("24 80\r\nhi\r\n"), "{said:?}");
        assert_eq!(world.ended(&id).await.exit_code, 0);
        world
    });
}
