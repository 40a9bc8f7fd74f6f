//! Which part of the keys is kept by which Raft group.

use std::str::FromStr;

use bytes::Bytes;

/// Keys that begin alike, and who keeps them. A longer prefix counts before a shorter one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// Empty: all keys that no other shard has.
    pub prefix: Bytes,
    pub group: u32,
    /// The group that the keys are on their way to.
    pub moving_to: Option<u32>,
}

/// Text that is no shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a prefix and a group such as /registry/pods/=1")]
pub struct NoShard;

impl FromStr for Shard {
    type Err = NoShard;

    /// Reads `prefix=group`. A prefix may have a "=" in it.
    fn from_str(text: &str) -> Result<Self, NoShard> {
        let (prefix, group) = text.rsplit_once('=').filter(|(prefix, _)| !prefix.is_empty()).ok_or(NoShard)?;
        let group = group.parse().map_err(|_| NoShard)?;
        Ok(Shard { prefix: Bytes::copy_from_slice(prefix.as_bytes()), group, moving_to: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_read() {
        let check = |text: &str, expected: Option<(&'static str, u32)>| {
            let expected = expected.map(|(prefix, group)| Shard { prefix: prefix.into(), group, moving_to: None });
            assert_eq!(text.parse().ok(), expected, "{text}");
        };
        check("/registry/pods/=1", Some(("/registry/pods/", 1)));
        check("a=b=12", Some(("a=b", 12)));
        for text in ["", "=1", "/a/", "/a/=", "/a/=b", "/a/=-1", "/a/=1 "] {
            check(text, None);
        }
    }
}
