//! Every flag of etcd 3.5.30 and the few of ours: its name, kind, default, and what it does here. Data only; the values
//! that somebody set are in `values`.

mod clustering;
mod experimental;
mod member;
mod security;

/// How a flag's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    Uint,
    Uint32,
    Int,
    Duration,
    /// URLs, each once; empty keeps the default.
    Urls,
    /// URLs or `*`.
    Origins,
    /// A set of words.
    Words,
    /// A list in the order given.
    List,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Some of these.
    Choices(&'static [&'static str]),
    /// Known to older etcds; takes any value and does nothing.
    Ignored,
}

/// What a flag does in this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it does in etcd.
    Applied,
    /// Nothing; the text says why that is no loss.
    Nothing(&'static str),
    /// A value other than the default is refused, because nothing here would keep its promise.
    Refused(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub help: &'static str,
    pub effect: Effect,
}

pub struct Group {
    pub title: &'static str,
    pub flags: &'static [Flag],
}

/// All flags, in the groups of the help text.
pub const GROUPS: [Group; 10] = [
    Group { title: "Member", flags: member::MEMBER },
    Group { title: "Clustering", flags: clustering::CLUSTERING },
    Group { title: "Security", flags: security::SECURITY },
    Group { title: "Auth", flags: security::AUTH },
    Group { title: "Profiling and Monitoring", flags: member::MONITORING },
    Group { title: "Logging", flags: member::LOGGING },
    Group { title: "Experimental distributed tracing", flags: experimental::TRACING },
    Group { title: "v2 Proxy", flags: clustering::PROXY },
    Group { title: "Experimental feature", flags: experimental::FEATURES },
    Group { title: "Unsafe feature", flags: experimental::UNSAFE },
];

/// Flags without a line in the help text.
const OTHERS: &[Flag] = &[
    applied("config-file", Kind::Text, "", "Path to the server configuration file."),
    applied("version", Kind::Bool, "false", "Print the version and exit."),
    ignored("cluster-active-size"),
    ignored("cluster-remove-delay"),
    ignored("cluster-sync-interval"),
    ignored("config"),
    ignored("force"),
    ignored("max-result-buffer"),
    ignored("max-retry-attempts"),
    ignored("peer-heartbeat-interval"),
    ignored("peer-election-timeout"),
    ignored("retry-interval"),
    ignored("snapshot"),
    ignored("v"),
    ignored("vv"),
    ignored("test.coverprofile"),
    ignored("test.outputdir"),
];

pub fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags).chain(OTHERS)
}

pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

impl Flag {
    /// Whether it may stand without a value.
    pub fn is_bool(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Ignored)
    }

    /// The variable that sets it.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

const fn applied(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, help, effect: Effect::Applied }
}

const fn nothing(name: &'static str, kind: Kind, default: &'static str, help: &'static str, why: &'static str) -> Flag {
    Flag { name, kind, default, help, effect: Effect::Nothing(why) }
}

const fn refused(name: &'static str, kind: Kind, default: &'static str, help: &'static str, why: &'static str) -> Flag {
    Flag { name, kind, default, help, effect: Effect::Refused(why) }
}

const fn ignored(name: &'static str) -> Flag {
    nothing(name, Kind::Ignored, "", "", "no etcd of today knows it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_values() {
        let mut names: Vec<&str> = all().map(|flag| flag.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for flag in all().filter(|flag| !flag.default.is_empty()) {
            assert_eq!(crate::values::check(flag.kind, flag.default), Ok(()), "{}", flag.name);
        }
    }
}
