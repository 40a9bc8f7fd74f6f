//! Numbers that may be percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a percentage of a small number is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// The value that `amount` means of `total`. A text that is no percentage counts as zero: validation refuses it.
pub fn scaled(amount: &IntOrString, total: i32, round: Round) -> i32 {
    match amount {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(total);
            let rounded = match round {
                Round::Up => (product + 99).div_euclid(100),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        let check = |text: &str, total, round, expected| {
            assert_eq!(scaled(&IntOrString::String(text.into()), total, round), expected, "{text} of {total}");
        };
        check("25%", 3, Round::Up, 1);
        check("25%", 3, Round::Down, 0);
        check("25%", 4, Round::Down, 1);
        check("100%", 7, Round::Up, 7);
        check("0%", 7, Round::Up, 0);
        check("soon", 7, Round::Up, 0);
        assert_eq!(scaled(&IntOrString::Int(5), 1, Round::Up), 5);
    }
}
