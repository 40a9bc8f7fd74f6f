//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`) as whole numbers, rounded up as Kubernetes does.

/// The value in thousandths. `None` when the text is no quantity or does not fit.
pub fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 24 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (numerator, denominator) = scale(suffix)?;
    let denominator = denominator.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let value = digits.checked_mul(numerator)?.checked_mul(1000)?;
    Some(sign * ((value + denominator - 1) / denominator))
}

/// The value in whole units (bytes, cores, pieces).
pub fn value(text: &str) -> Option<i64> {
    let milli = milli(text)?;
    i64::try_from(if milli >= 0 { (milli + 999) / 1000 } else { milli / 1000 }).ok()
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs().min(30))?;
            if exponent >= 0 { (power, 1) } else { (1, power) }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities() {
        let check = |text: &str, expected: Option<i128>| assert_eq!(milli(text), expected, "{text}");
        check("1", Some(1000));
        check("100m", Some(100));
        check("0.5", Some(500));
        check("1.5Gi", Some(1000 * 3 * (1 << 29)));
        check("2e3", Some(2_000_000));
        check("1E", Some(1_000_000_000_000_000_000_000));
        check("1n", Some(1));
        check("-1", Some(-1000));
        check("", None);
        check("x", None);
        check("1.2.3", None);
        check("1Zi", None);
        assert_eq!(value("1500m"), Some(2));
        assert_eq!(value("64Mi"), Some(64 << 20));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text: String) {
            let _ = value(&text);
        }
    }
}
