//! The scores of all nodes that fit, as a guest gets them to normalize and gives them back: JSON objects by the nodes' names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Nodes by name, each with its score.
pub(crate) type Scores = Arc<[(Arc<str>, i64)]>;

pub(crate) fn encode(scores: &Scores) -> Vec<u8> {
    let by_node: BTreeMap<&str, i64> = scores.iter().map(|(node, score)| (&**node, *score)).collect();
    serde_json::to_vec(&by_node).expect("texts and numbers are JSON, and a vector takes all that is written")
}

/// Scores in the order of those that were given. An object without any leaves them as they are: that is how a guest says that it
/// normalizes nothing. Otherwise each node has to have one, and no other may.
pub(crate) fn decode(bytes: &[u8], given: &Scores) -> Option<Vec<i64>> {
    let by_node: Option<HashMap<String, i64>> = serde_json::from_slice(bytes).ok()?;
    let by_node = by_node.unwrap_or_default();
    if by_node.is_empty() {
        return Some(given.iter().map(|(_, score)| *score).collect());
    }
    if by_node.len() != given.len() {
        return None;
    }
    given.iter().map(|(node, _)| by_node.get(&**node).copied()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores(scores: &[(&str, i64)]) -> Scores {
        scores.iter().map(|(node, score)| ((*node).into(), *score)).collect()
    }

    #[test]
    fn each_node_gets_its_own_score_back() {
        let given = scores(&[("b", 7), ("a", -3)]);
        assert_eq!(encode(&given), br#"{"a":-3,"b":7}"#);
        let check = |text: &str, expected: Option<&[i64]>| {
            assert_eq!(decode(text.as_bytes(), &given).as_deref(), expected, "{text}");
        };
        check(r#"{"a":100,"b":0}"#, Some(&[0, 100]));
        check("{}", Some(&[7, -3]));
        check("null", Some(&[7, -3]));
        check(r#"{"a":100}"#, None);
        check(r#"{"a":100,"b":0,"c":1}"#, None);
        check(r#"{"a":100,"c":0}"#, None);
        check(r#"{"a":100,"b":0.5}"#, None);
        check(r#"{"a":100,"b":0"#, None);
        check("", None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_what_is_decoded(nodes in prop::collection::btree_map(".{1,12}", any::<i64>(), 0..20)) {
            let given: Scores = nodes.iter().map(|(node, score)| (node.as_str().into(), *score)).collect();
            let expected: Vec<i64> = nodes.values().copied().collect();
            prop_assert_eq!(decode(&encode(&given), &given), Some(expected));
        }

        #[test]
        fn arbitrary_bytes_give_all_scores_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let given = scores(&[("a", 1), ("b", 2)]);
            prop_assert!(decode(&bytes, &given).is_none_or(|decoded| decoded.len() == given.len()));
        }
    }
}
