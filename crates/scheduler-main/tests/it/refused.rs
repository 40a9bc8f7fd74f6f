//! Command lines that are none.

use crate::scheduler::{last_words, ours, run};

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                          contexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\n\
                          users: [{name: a, user: {}}]\n";

/// Command lines of which every one is refused. `KUBECONFIG` and `DIR` stand for a file and a folder that are there.
pub const REFUSED: [&str; 37] = [
    "--foo",
    "--config",
    "extra",
    "-x",
    "--secure-port x",
    "--leader-elect=maybe",
    "--leader-elect-lease-duration=5",
    "--feature-gates=GangScheduling=true --kubeconfig KUBECONFIG",
    "--feature-gates=GangScheduling --kubeconfig KUBECONFIG",
    "--feature-gates=GangScheduling=x --kubeconfig KUBECONFIG",
    "--feature-gates=x:A=true --kubeconfig KUBECONFIG",
    "--feature-gates=DynamicResourceAllocation=false --kubeconfig KUBECONFIG",
    "--secure-port=70000 --kubeconfig KUBECONFIG",
    "--secure-port=-1 --kubeconfig KUBECONFIG",
    "--logging-format=xml",
    "--log-json-split-stream --kubeconfig KUBECONFIG",
    "--config /nonexistent",
    "--kubeconfig /nonexistent",
    "--secure-port=0",
    "--tls-min-version=foo --kubeconfig KUBECONFIG",
    "--tls-cipher-suites=foo --kubeconfig KUBECONFIG",
    "--show-hidden-metrics-for-version=1.0 --kubeconfig KUBECONFIG",
    "--requestheader-username-headers= --requestheader-allowed-names=a,,b --kubeconfig KUBECONFIG",
    "--authentication-kubeconfig=/nonexistent --kubeconfig KUBECONFIG",
    "--authorization-kubeconfig=/nonexistent --kubeconfig KUBECONFIG",
    "--client-ca-file=/nonexistent --kubeconfig KUBECONFIG",
    "--requestheader-client-ca-file=/nonexistent --kubeconfig KUBECONFIG",
    "--tls-cert-file=/nonexistent --tls-private-key-file=/x --kubeconfig KUBECONFIG",
    "--tls-sni-cert-key=/nonexistent,/x --kubeconfig KUBECONFIG",
    "--authorization-always-allow-paths=/a*b --kubeconfig KUBECONFIG",
    "--cert-dir=/proc/x --kubeconfig KUBECONFIG",
    "--write-config-to=/nonexistent/x --kubeconfig KUBECONFIG --secure-port=0",
    "--version=v9.9",
    "--v=x",
    "--=x",
    "--kube-api-qps=a",
    "--disabled-metrics=\"a",
];

/// The words of a command line of [`REFUSED`].
pub fn words(line: &str, dir: &std::path::Path) -> Vec<String> {
    let kubeconfig = dir.join("kubeconfig");
    std::fs::write(&kubeconfig, KUBECONFIG).unwrap();
    line.split(' ').map(|word| word.replace("KUBECONFIG", kubeconfig.to_str().unwrap())).collect()
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    for line in REFUSED {
        let words = words(line, dir.path());
        let output = run(&ours(), &words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(!last_words(&output).is_empty(), "{line}");
    }
}

#[test]
fn help_and_version_are_shown() {
    let check = |argument: &str, expected: &str| {
        let output = run(&ours(), &[argument]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(expected), "{argument}: {text}");
    };
    check("--help", "Leader election flags:\n\n      --leader-elect ");
    check("-h", "      --secure-port int ");
    check("--version", "Kubernetes v1.36.");
    check("--version=raw", "version.Info{Major:\"1\", Minor:\"36\"");
}
