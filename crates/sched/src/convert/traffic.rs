//! Whom a pod talks to, and how much, as it declares it: the annotation [`TALKS_TO`].
//!
//! ```text
//!   talks    = talk *( ";" talk )
//!   talk     = [ namespace "/" ] label *( "," label ) [ ":" rate ]
//!   label    = key "=" value
//! ```
//!
//! A rate is any unit, as long as a pod has the same for all (requests or bytes in a second); without one it is 1. A key may have
//! a slash itself: a namespace is told by its slash coming before the first "=" and the part before it having no dot.

use std::sync::Arc;

use crate::{
    labels::{Labels, Selector},
    pod::{Peers, Talk, Traffic},
};

/// The annotation of a pod.
pub const TALKS_TO: &str = "scheduler.plinth.io/talks-to";
/// Further ones would cost each decision.
const MAX_TALKS: usize = 16;
const MAX_BYTES: usize = 4096;
const MAX_LABELS: usize = 8;

/// Reads the annotation. What cannot be read is an error that the plugin tells, where it is asked.
pub fn traffic(annotation: Option<&str>, namespace: &Arc<str>) -> Traffic {
    match annotation.map(|text| talks(text, namespace)) {
        None => Traffic::default(),
        Some(Ok(talks)) => Traffic { talks, error: None },
        Some(Err(error)) => Traffic { talks: Vec::new(), error: Some(format!("{TALKS_TO}: {error}").into()) },
    }
}

fn talks(text: &str, namespace: &Arc<str>) -> Result<Vec<Talk>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes"));
    }
    let parts: Vec<&str> = text.split(';').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.len() > MAX_TALKS {
        return Err(format!("more than {MAX_TALKS} peers"));
    }
    parts.into_iter().map(|part| talk(part, namespace)).collect()
}

fn talk(text: &str, own: &Arc<str>) -> Result<Talk, String> {
    let (whom, rate) = match text.rsplit_once(':') {
        None => (text, 1),
        Some((whom, rate)) => {
            let rate = rate.trim();
            let number: u32 = rate.parse().map_err(|_| format!("{rate:?} in {text:?} is not a rate"))?;
            (whom.trim(), number)
        }
    };
    let key = whom.split('=').next().unwrap_or_default();
    let (namespace, labels) = match key.split_once('/') {
        Some((namespace, _)) if !namespace.contains('.') => (Arc::from(namespace), &whom[namespace.len() + 1..]),
        _ => (own.clone(), whom),
    };
    let mut wanted: Labels = Vec::new();
    for label in labels.split(',') {
        match label.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() && !value.contains('=') => {
                wanted.push((key.trim().into(), value.trim().into()));
            }
            _ => return Err(format!("{:?} in {text:?} is not key=value", label.trim())),
        }
    }
    if wanted.len() > MAX_LABELS {
        return Err(format!("more than {MAX_LABELS} labels in {text:?}"));
    }
    wanted.sort_unstable();
    let selector = Some(Selector::of(wanted));
    Ok(Talk { peers: Peers { namespaces: vec![namespace], namespace_selector: None, selector }, rate })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Result<Vec<String>, String> {
        let word = |talk: &Talk| {
            let labels: Vec<String> =
                talk.peers.selector.iter().flat_map(|s| &s.requirements).map(|r| format!("{r:?}")).collect();
            let mut keys: Vec<String> = labels.iter().filter_map(|r| r.split('"').nth(1).map(str::to_owned)).collect();
            keys.sort();
            format!("{}/{} {}", talk.peers.namespaces[0], keys.join("+"), talk.rate)
        };
        talks(text, &"own".into()).map(|talks| talks.iter().map(word).collect())
    }

    #[test]
    fn whom_a_pod_talks_to_is_read() {
        let check = |text: &str, expected: Result<&[&str], &str>| {
            let expected = expected.map(|all| all.iter().map(|one| (*one).to_owned()).collect()).map_err(str::to_owned);
            assert_eq!(words(text), expected, "{text}");
        };
        check("app=cache:100; db/app=sql,tier=one : 20;", Ok(&["own/app 100", "db/app+tier 20"]));
        check("app.kubernetes.io/name=web", Ok(&["own/app.kubernetes.io/name 1"]));
        check("db/app.kubernetes.io/name=web", Ok(&["db/app.kubernetes.io/name 1"]));
        check("", Ok(&[]));
        check("app", Err("\"app\" in \"app\" is not key=value"));
        check("app=a:many", Err("\"many\" in \"app=a:many\" is not a rate"));
        check("app=a:-1", Err("\"-1\" in \"app=a:-1\" is not a rate"));
        check(&"a=b;".repeat(17), Err("more than 16 peers"));
        check(&"a=b,".repeat(2000), Err("longer than 4096 bytes"));
    }

    proptest! {
        #[test]
        fn no_annotation_is_too_strange(text in ".{0,200}") {
            let found = traffic(Some(&text), &"own".into());
            prop_assert!(found.error.is_none() || found.talks.is_empty());
        }
    }
}
