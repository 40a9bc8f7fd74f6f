//! The command line in the syntax of Go's flag package: `-name value`, `--name=value`, `-flag`, and the first argument
//! that is no flag ends it.

use crate::{flags, values::Values};

/// What a command line holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub values: Values,
    /// From the first argument on that is no flag.
    pub rest: Vec<String>,
}

/// Why a command line is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentsError {
    #[error("flag: help requested")]
    Help,
    /// To be told above the usage text.
    #[error("{0}")]
    Bad(String),
}

pub fn parse(arguments: &[String]) -> Result<Arguments, ArgumentsError> {
    let mut values = Values::default();
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let Some(name) = name(argument) else { break };
        at += 1;
        if name.is_empty() {
            break;
        }
        if name.starts_with(['-', '=']) {
            return Err(ArgumentsError::Bad(format!("bad flag syntax: {argument}")));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(flag) = flags::find(name) else {
            if matches!(name, "help" | "h") {
                return Err(ArgumentsError::Help);
            }
            return Err(ArgumentsError::Bad(format!("flag provided but not defined: -{name}")));
        };
        let value = match value {
            Some(value) => value,
            None if flag.is_bool() => "true",
            None => {
                let next =
                    arguments.get(at).ok_or_else(|| ArgumentsError::Bad(format!("flag needs an argument: -{name}")))?;
                at += 1;
                next
            }
        };
        values.set(flag, value).map_err(|why| {
            ArgumentsError::Bad(match flag.is_bool() {
                true => format!("invalid boolean value {value:?} for -{name}: {why}"),
                false => format!("invalid value {value:?} for flag -{name}: {why}"),
            })
        })?;
    }
    Ok(Arguments { values, rest: arguments[at..].to_vec() })
}

/// A flag without its dashes; `--` alone is an empty one, and `None` is no flag.
fn name(argument: &str) -> Option<&str> {
    let rest = argument.strip_prefix('-').filter(|rest| !rest.is_empty())?;
    Some(rest.strip_prefix('-').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flags with their values, and the rest.
    type Expected<'a> = (&'a [(&'a str, &'a str)], &'a str);

    fn check(line: &str, expected: Result<Expected<'_>, &str>) {
        let arguments: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        match (parse(&arguments), expected) {
            (Ok(parsed), Ok((values, rest))) => {
                assert_eq!(parsed.rest.join(" "), rest, "{line}");
                assert_eq!(parsed.values.names().count(), values.len(), "{line}");
                for (name, value) in values {
                    assert_eq!(parsed.values.text(name), *value, "{line}");
                }
            }
            (Err(error), Err(words)) => assert_eq!(error.to_string(), words, "{line}"),
            (parsed, expected) => panic!("{line}: {parsed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn gos_syntax() {
        check("", Ok((&[], "")));
        check("-name a --data-dir=b", Ok((&[("name", "a"), ("data-dir", "b")], "")));
        check("--name --data-dir", Ok((&[("name", "--data-dir")], "")));
        check(
            "--pre-vote=false --auto-tls x --name y",
            Ok((&[("pre-vote", "false"), ("auto-tls", "true")], "x --name y")),
        );
        check("--name a --name b", Ok((&[("name", "b")], "")));
        check("--name= -- --name c", Ok((&[("name", "")], "--name c")));
        check("--v --snapshot=3", Ok((&[("v", "true"), ("snapshot", "3")], "")));
        check("-", Ok((&[], "-")));
        check("-h", Err("flag: help requested"));
        check("--name", Err("flag needs an argument: -name"));
        check("--nam", Err("flag provided but not defined: -nam"));
        check("---name", Err("bad flag syntax: ---name"));
        check("--=a", Err("bad flag syntax: --=a"));
        check("--pre-vote=maybe", Err("invalid boolean value \"maybe\" for -pre-vote: parse error"));
        check("--max-txn-ops -1", Err("invalid value \"-1\" for flag -max-txn-ops: parse error"));
    }
}
