//! `$(NAME)` in commands, arguments and environment values: Kubernetes' expansion. `$$` is a dollar sign, an unknown
//! name stays as it is written.

use std::collections::HashMap;

/// Replaces the references to names in `known`.
pub fn expand(text: &str, known: &HashMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some(inner) = rest.strip_prefix('(') else {
            out.push('$');
            continue;
        };
        let Some(end) = inner.find(')') else {
            out.push_str("$(");
            rest = inner;
            continue;
        };
        match known.get(&inner[..end]) {
            Some(value) => out.push_str(value),
            None => {
                out.push_str("$(");
                out.push_str(&inner[..=end]);
            }
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references() {
        let known = HashMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &known), expected, "{text}");
        check("x-$(A)-y", "x-1-y");
        check("$(A)$(A)", "11");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$1");
        check("$(C)", "$(C)");
        check("$A", "$A");
        check("$(A", "$(A");
        check("$", "$");
        check("$(B)", "$(A)");
    }

    proptest! {
        #[test]
        fn text_without_dollars_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, &HashMap::new()), text);
        }

        #[test]
        fn any_text_is_survived(text: String) {
            expand(&text, &HashMap::from([(String::new(), "x".to_owned())]));
        }
    }
}
