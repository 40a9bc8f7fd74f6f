//! What holds for any bytes and any configuration.

use proptest::{collection::vec, option, prelude::*};

use super::HEAD;
use crate::{
    Catalogue, Configuration, Gates, GoDuration, KubeSchedulerConfiguration, read,
    v1::{Args, Extender, KubeSchedulerProfile, Plugin, PluginConfig, PluginSet, Plugins},
    validate, write,
};

fn plugin_set() -> impl Strategy<Value = PluginSet> {
    let name = prop_oneof!["[A-Z][a-z]{1,5}", Just("ImageLocality".to_owned()), Just("NodeAffinity".to_owned())];
    let disabled = prop_oneof![Just("*".to_owned()), name.clone()];
    let plugin = |name| Plugin { name, weight: 0 };
    (vec((name, any::<i32>()), 0..4), vec(disabled, 0..2)).prop_map(move |(enabled, disabled)| {
        let mut enabled: Vec<Plugin> = enabled.into_iter().map(|(name, weight)| Plugin { name, weight }).collect();
        // One that is enabled twice is refused later.
        enabled.sort_by(|a, b| a.name.cmp(&b.name));
        enabled.dedup_by(|a, b| a.name == b.name);
        PluginSet { enabled, disabled: disabled.into_iter().map(plugin).collect() }
    })
}

fn profile() -> impl Strategy<Value = KubeSchedulerProfile> {
    let plugins = (plugin_set(), plugin_set()).prop_map(|(multi_point, score)| Plugins {
        multi_point,
        score,
        ..Plugins::default()
    });
    (".{0,12}", option::of(any::<i32>()), plugins, "[A-Za-z]{1,8}", ".{0,8}").prop_map(
        |(name, percentage, plugins, plugin, text)| {
            let args = Args::Other(crate::Value::Object(vec![("text".to_owned(), crate::Value::Text(text))]));
            KubeSchedulerProfile {
                scheduler_name: Some(name),
                percentage_of_nodes_to_score: percentage,
                plugins,
                plugin_config: if Args::of(&plugin).is_some() {
                    Vec::new()
                } else {
                    vec![PluginConfig { name: plugin, args }]
                },
            }
        },
    )
}

fn configuration() -> impl Strategy<Value = KubeSchedulerConfiguration> {
    let extender =
        (".{0,12}", any::<i64>(), any::<bool>(), 0..i64::MAX).prop_map(|(url_prefix, weight, ignorable, timeout)| {
            Extender { url_prefix, weight, ignorable, http_timeout: GoDuration(timeout), ..Extender::default() }
        });
    (any::<i32>(), any::<i64>(), 1.0_f32..1e6, vec(profile(), 1..3), vec(extender, 0..2)).prop_map(
        |(parallelism, backoff, qps, profiles, extenders)| {
            let mut configuration = KubeSchedulerConfiguration {
                parallelism,
                pod_max_backoff_seconds: backoff,
                profiles,
                extenders,
                ..KubeSchedulerConfiguration::default()
            };
            configuration.client_connection.qps = qps;
            configuration
        },
    )
}

/// Reads, validates and resolves; any outcome will do.
fn try_all(bytes: &[u8]) {
    let gates = Gates::default();
    if let Ok(configuration) = read(bytes, &gates)
        && validate(&configuration, &gates).is_ok()
    {
        let _ = Configuration::new(&configuration, GoDuration::seconds(300), &gates, &Catalogue::in_tree());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_are_too_odd(bytes in vec(any::<u8>(), 0..300)) {
        try_all(&bytes);
    }

    #[test]
    fn no_line_is_too_odd(lines in vec("[a-zA-Z]{0,12}: ?[-\\[\\]{}&*!|>'\"%@`a-z0-9.:# ]{0,20}", 0..8)) {
        try_all(format!("{HEAD}{}", lines.join("\n")).as_bytes());
    }

    #[test]
    fn a_file_that_was_damaged_is_read_or_refused(
        configuration in configuration(),
        places in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = write(&configuration).into_bytes();
        for (place, byte) in places {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        try_all(&bytes);
    }

    #[test]
    fn what_is_written_is_read_again(configuration in configuration()) {
        let gates = Gates::default();
        let completed = read(write(&configuration).as_bytes(), &gates).unwrap();
        let written = write(&completed);
        let again = read(written.as_bytes(), &gates).unwrap();
        prop_assert_eq!(&again, &completed);
        let json = serde_json::to_vec(&crate::json(&completed)).unwrap();
        prop_assert_eq!(&read(&json, &gates).unwrap(), &completed);
    }
}
