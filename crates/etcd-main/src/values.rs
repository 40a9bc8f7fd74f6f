//! The values that somebody set for flags, checked when they are set, and read with the flags' defaults behind them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    flags::{self, Flag, Kind},
    go::{self, ValueError},
    url::Url,
};

/// Values by flag, as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Takes a value, or says in etcd's words why not.
    pub fn set(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        check(flag.kind, text)?;
        self.0.insert(flag.name, text.to_owned());
        Ok(())
    }

    /// Takes a text that `validate` will look at.
    pub fn set_unchecked(&mut self, flag: &'static Flag, text: &str) {
        self.0.insert(flag.name, text.to_owned());
    }

    /// Whether somebody set it, to whatever value.
    pub fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The flags that somebody set, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    pub fn text(&self, name: &str) -> &str {
        let set = self.0.get(name).map(String::as_str);
        set.unwrap_or_else(|| flags::find(name).expect("callers name flags of the table").default)
    }

    pub fn bool(&self, name: &str) -> bool {
        go::parse_bool(self.text(name)).expect(CHECKED)
    }

    pub fn uint(&self, name: &str) -> u64 {
        go::parse_uint(self.text(name)).expect(CHECKED)
    }

    pub fn int(&self, name: &str) -> i64 {
        go::parse_int(self.text(name)).expect(CHECKED)
    }

    /// In nanoseconds, because it may be negative.
    pub fn nanoseconds(&self, name: &str) -> i64 {
        go::parse_duration(self.text(name)).expect(CHECKED)
    }

    /// Negative durations are none.
    pub fn duration(&self, name: &str) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanoseconds(name)).unwrap_or(0))
    }

    pub fn urls(&self, name: &str) -> Vec<Url> {
        let text = match self.text(name) {
            "" => flags::find(name).map_or("", |flag| flag.default),
            text => text,
        };
        if text.is_empty() { Vec::new() } else { Url::parse_list(text).expect(CHECKED) }
    }

    /// A set of words, in order.
    pub fn words(&self, name: &str) -> Vec<String> {
        let words: BTreeSet<&str> = self.text(name).split(',').collect();
        words.into_iter().map(str::to_owned).collect()
    }

    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
    }
}

const CHECKED: &str = "a value was checked when it was set, and defaults are values";

/// Whether a text is a value of this kind.
pub fn check(kind: Kind, text: &str) -> Result<(), String> {
    let words = |error: ValueError| error.to_string();
    match kind {
        Kind::Text | Kind::Words | Kind::List | Kind::Ignored => Ok(()),
        Kind::Bool => go::parse_bool(text).map(drop).map_err(words),
        Kind::Uint => go::parse_uint(text).map(drop).map_err(words),
        Kind::Int => go::parse_int(text).map(drop).map_err(words),
        Kind::Duration => go::parse_duration(text).map(drop).map_err(words),
        // This kind is etcd's own, and its error comes as Go's number parser words it.
        Kind::Uint32 => match go::parse_uint(text).and_then(|n| u32::try_from(n).map_err(|_| ValueError::Range)) {
            Ok(_) => Ok(()),
            Err(ValueError::Syntax) => Err(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")),
            Err(ValueError::Range) => Err(format!("strconv.ParseUint: parsing {text:?}: value out of range")),
        },
        Kind::Urls if text.is_empty() => Ok(()),
        Kind::Origins if text == "*" => Ok(()),
        Kind::Urls | Kind::Origins => Url::parse_list(text).map(drop).map_err(|error| error.to_string()),
        Kind::Choice(choices) if choices.contains(&text) => Ok(()),
        Kind::Choice(_) => Err("invalid value".to_owned()),
        Kind::Choices(choices) => match text.split(',').find(|word| !choices.contains(word)) {
            None => Ok(()),
            Some(word) => Err(format!("invalid value {word:?}")),
        },
    }
}
